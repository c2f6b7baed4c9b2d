#pragma once
#include <span>

#include "gatefold/blocks/mixture_of_depths.hpp"
#include "gatefold/models/vision_language.hpp"

namespace gatefold {

/// A VisionLanguage some of whose blocks skip tokens (γ-MoD, arXiv 2410.13859).
template <Real T, WeightStorage<T> W = Tensor<T, 2>, class Vision = PatchEncoder<T, W>,
          class Block = DecoderBlock<T, W>>
using DepthsVisionLanguage = VisionLanguage<T, W, Vision, OneOf<Block, MixtureOfDepths<Block>>>;

namespace detail {
/// The block of a layer that may skip, and its router if it does.
template <class Layer>
struct Skipping {
  using Block = Layer;
  static const Block& block(const Layer& layer) { return layer; }
  static const Linear<typename Layer::Scalar>* router(const Layer&) { return nullptr; }
};
template <class B>
struct Skipping<OneOf<B, MixtureOfDepths<B>>> {
  using Block = B;
  using Layer = OneOf<B, MixtureOfDepths<B>>;
  static const Block& block(const Layer& layer) {
    const auto* const skipping = std::get_if<1>(&layer.layer);
    return skipping ? skipping->block : std::get<0>(layer.layer);
  }
  static const Linear<typename B::Scalar>* router(const Layer& layer) {
    const auto* const skipping = std::get_if<1>(&layer.layer);
    return skipping ? &skipping->router : nullptr;
  }
};
}  // namespace detail

/// The same model with the blocks of `layers`, and no others, each in a MixtureOfDepths: weights stay as they are, and
/// so do the paths of the parameters; routers that are there stay, new ones start normal with 0.02. depths.width is the
/// model's. Throws OptionError for a layer that the model has not.
///   auto sparse = with_depths(dense, layers, {.always = 1u << kQuestion | 1u << kAnswer}, rng, ctx);
template <Real T, WeightStorage<T> W, class Vision, class From>
auto with_depths(const VisionLanguage<T, W, Vision, From>& model, std::span<const Index> layers,
                 MixtureOfDepthsOptions depths, Rng& rng, Context& ctx) {
  using Source = detail::Skipping<From>;
  using Block = typename Source::Block;
  using Layer = OneOf<Block, MixtureOfDepths<Block>>;
  for (const Index layer : layers)
    expect_option(layer >= 0 && layer < model.options.num_layers, "with_depths", "layer", layer,
                  "one of the decoder's " + std::to_string(model.options.num_layers));
  depths.width = model.options.width;
  DepthsVisionLanguage<T, W, Vision, Block> other(model.options, model.vision, [&](Index i) {
    const From& from = model.decoder.blocks[static_cast<std::size_t>(i)];
    if (std::ranges::find(layers, i) == layers.end()) return Layer(Source::block(from));
    MixtureOfDepths skipping(depths, Source::block(from));
    if (const auto* const router = Source::router(from))
      skipping.router = *router;
    else
      init::truncated_normal(skipping.router, rng, 0.02, ctx);
    return Layer(std::move(skipping));
  });
  other.projector = model.projector;
  other.words = model.words;
  other.decoder.norm = model.decoder.norm;
  other.head = model.head;
  return other;
}

/// Sets how all blocks that skip choose: by share to train, by threshold to answer as they will word by word.
template <class Model>
void set_choice(Model& model, MixtureOfDepthsOptions::Choice choice) {
  for_each_routed(model, [&](std::string_view, auto& routed) {
    if constexpr (requires { routed.options.choice = choice; }) routed.options.choice = choice;
  });
}

}  // namespace gatefold
