#pragma once
#include "train_clip/model.hpp"
#include "wardrobe/fashion_mnist.hpp"

namespace train_clip {

/// One number of an evaluation, in percent.
struct Score {
  std::string name;
  double percent = 0, chance = 0;
  Index count = 0;
};

/// What a model can in the wardrobe world, on photographs it has not seen:
///   detailed, medium   R@1 among `pairs` of different meanings, the mean of both directions
///   hard               the same within groups of 24 that share class, colour and background, so that only pattern,
///   size,
///                      place and texture tell them apart; pairs / 25 groups
///   class 18           «a photo of a …», zero-shot, of 4 times `pairs` pictures; garments: the ten garments only
///   colour, pattern, … the right one among all values of an attribute, of half as many as `pairs`; binding: which of
///   two
///                      objects has which colour
std::vector<Score> evaluate(const Model& model, const wardrobe::Photos& test, Index pairs, Context& ctx);

std::string markdown_of(const std::vector<Score>& scores);

/// What experts share the tokens of a pass of detailed pairs, by block: Markdown; empty for a dense model.
std::string routing_of(const Model& model, const wardrobe::Photos& test, Context& ctx);

}  // namespace train_clip
