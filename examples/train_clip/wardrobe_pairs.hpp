#pragma once
#include "train_clip/pairs.hpp"
#include "wardrobe/fashion_mnist.hpp"
#include "wardrobe/told.hpp"

namespace train_clip {

/// The wardrobe world, of which any number of pairs can be had: nothing is kept, a picture is drawn when it is asked
/// for (30 us).
class WardrobePairs : public Pairs {
 public:
  struct Options {
    Index count;
    wardrobe::Telling telling;
  };
  WardrobePairs(const Options& o, const wardrobe::Photos& photos) : options_(o), photos_(photos) {}

  Index size() const override { return options_.count; }
  Index num_captions(Index) const override { return options_.telling == wardrobe::Telling::brief ? 4 : 2; }
  std::string caption(Index picture, Index which) const override { return told(picture, which).text; }
  std::uint64_t meaning(Index picture, Index which) const override { return told(picture, which).meaning; }
  /// Never augmented: where things are and how they are turned is what its captions tell.
  void draw(Index picture, gatefold::Rng* augment, gatefold::View<float, 3> out) const override;
  std::string identity() const override;

  wardrobe::Scene scene(Index picture) const;

 private:
  wardrobe::Told told(Index picture, Index which) const;
  /// The corpora do not depend on a run's seed, which decides on weights and order: runs of several seeds compare.
  /// What tunes is not what the base was trained on.
  std::uint64_t seed() const { return options_.telling == wardrobe::Telling::brief ? 11 : 12; }

  Options options_;
  const wardrobe::Photos& photos_;
};

/// A scene as the model takes it, in [-1, 1]. // out [48, 48, 3]
void draw_scene(const wardrobe::Scene& scene, const wardrobe::Photos& photos, gatefold::View<float, 3> out);

}  // namespace train_clip
