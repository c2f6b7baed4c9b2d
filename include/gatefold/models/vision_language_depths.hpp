#pragma once
#include <span>

#include "gatefold/blocks/mixture_of_depths.hpp"
#include "gatefold/models/vision_language.hpp"

namespace gatefold {

/// A VisionLanguage some of whose blocks skip tokens (γ-MoD, arXiv 2410.13859).
template <Real T, WeightStorage<T> W = Tensor<T, 2>, class Vision = PatchEncoder<T, W>,
          class Block = DecoderBlock<T, W>>
using DepthsVisionLanguage = VisionLanguage<T, W, Vision, OneOf<Block, MixtureOfDepths<Block>>>;

/// The same model with the blocks of `layers` each in a MixtureOfDepths: weights stay as they are, and so do the paths
/// of the parameters; routers start normal with 0.02. depths.width is the model's. Throws OptionError for a layer that
/// the model has not.
///   auto sparse = with_depths(dense, layers, {.always = 1u << kQuestion | 1u << kAnswer}, rng, ctx);
template <Real T, WeightStorage<T> W, class Vision, class Block>
DepthsVisionLanguage<T, W, Vision, Block> with_depths(const VisionLanguage<T, W, Vision, Block>& dense,
                                                      std::span<const Index> layers, MixtureOfDepthsOptions depths,
                                                      Rng& rng, Context& ctx) {
  using Layer = OneOf<Block, MixtureOfDepths<Block>>;
  for (const Index layer : layers)
    expect_option(layer >= 0 && layer < dense.options.num_layers, "with_depths", "layer", layer,
                  "one of the decoder's " + std::to_string(dense.options.num_layers));
  depths.width = dense.options.width;
  DepthsVisionLanguage<T, W, Vision, Block> model(dense.options, dense.vision, [&](Index i) {
    const Block& block = dense.decoder.blocks[static_cast<std::size_t>(i)];
    if (std::ranges::find(layers, i) == layers.end()) return Layer(block);
    MixtureOfDepths skipping(depths, block);
    init::truncated_normal(skipping.router, rng, 0.02, ctx);
    return Layer(std::move(skipping));
  });
  model.projector = dense.projector;
  model.words = dense.words;
  model.decoder.norm = dense.decoder.norm;
  model.head = dense.head;
  return model;
}

/// Sets how all blocks that skip choose: by share to train, by threshold to answer as they will word by word.
template <class Model>
void set_choice(Model& model, MixtureOfDepthsOptions::Choice choice) {
  for_each_routed(model, [&](std::string_view, auto& routed) {
    if constexpr (requires { routed.options.choice = choice; }) routed.options.choice = choice;
  });
}

}  // namespace gatefold
