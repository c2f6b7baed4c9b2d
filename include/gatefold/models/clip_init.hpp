#pragma once
#include <numbers>

#include "gatefold/models/clip.hpp"
#include "gatefold/nn/init.hpp"

namespace gatefold {

namespace detail {
template <Real T>
void initialise_clip_tower(ClipTower<T>& tower, Index num_layers, Rng& rng, Context& ctx) {
  const double of_residual = 1 / std::sqrt(2 * static_cast<double>(num_layers));
  init::lecun_normal(tower.encoder, rng, ctx);
  init::scale(tower.encoder, "*.attention.inner.out.weight", of_residual);
  init::scale(tower.encoder, "*.up.weight", std::numbers::sqrt2 / 2);
  init::scale(tower.encoder, "*.down.weight", of_residual);
  init::lecun_normal(tower.projection, rng, ctx);
}
}  // namespace detail

/// First weights of a CLIP that is trained from nothing, both towers as OpenAI's text tower (clip/model.py,
/// initialize_parameters) but with the variance of what ends a block by its own fan-in. Positions of patches begin as
/// sines and cosines, from which a small model learns where things are several times sooner.
template <Real T>
void initialise(Clip<T>& model, Rng& rng, Context& ctx) {
  const auto& o = model.options;
  detail::initialise_clip_tower(model.vision.tower, o.vision.num_layers, rng, ctx);
  detail::initialise_clip_tower(model.text.tower, o.text.num_layers, rng, ctx);
  init::lecun_normal(model.vision.patch_embed, rng, ctx);
  init::truncated_normal(model.text.word_embed, rng, 0.02, ctx);
  init::truncated_normal(model.text.position, rng, 0.01, ctx);
  auto draw = rng.next_stream();
  for (T& x : model.vision.class_token.token.flat()) x = T(0.02 * draw.normal());
  // Waves no shorter than a patch and no longer than the picture; half as large as a wave is, to stay beside the patch.
  const Index grid = o.image_size / o.patch;
  const auto waves =
      sincos2d<T>({.height = grid, .width_in_patches = grid, .width = o.vision.width, .temperature = 100});
  auto positions = model.vision.position.table.flat();
  std::fill_n(positions.begin(), o.vision.width, T(0));
  for (std::size_t i = 0; i < waves.flat().size(); ++i)
    positions[i + static_cast<std::size_t>(o.vision.width)] = T(0.5) * waves.flat()[i];
}

}  // namespace gatefold
