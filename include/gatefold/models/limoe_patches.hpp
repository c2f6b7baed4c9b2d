#pragma once
#include "gatefold/models/limoe.hpp"
#include "gatefold/models/vision_encoder.hpp"

namespace gatefold {

/// The patches of a LIMoE as a VisionLanguage sees them: rows as the trunk for images leaves them, behind its norm. Its
/// mixtures route as they did, and are penalised (aux_loss) as before; seats for all (set_capacity of the LIMoE) make a
/// picture's rows those of the picture alone.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct LimoePatches {
  using Scalar = T;
  using Trunk = typename Limoe<T, W>::Trunk;
  struct Saved {
    typename PatchEmbed<T, W>::Saved patches;
    typename Trunk::Saved trunk;
  };

  PatchEmbed<T, W> patch_embed;
  Tensor<T, 2> position;  // [T, D], fixed
  Trunk trunk;
  Index image_size;

  explicit LimoePatches(const Limoe<T, W>& limoe)
      : LimoePatches(limoe.patch_embed, limoe.image_position, limoe.trunks.front(), limoe.options.image_size) {}
  LimoePatches(PatchEmbed<T, W> embed, Tensor<T, 2> table, Trunk t, Index size)
      : patch_embed(std::move(embed)), position(std::move(table)), trunk(std::move(t)), image_size(size) {}
  static void visit(auto& v, auto&... self) {
    v("patch_embed", self.patch_embed...);
    v("trunk", self.trunk...);
  }
  static void visit_layers(auto& v, auto& self, auto&... saved) { v("trunk", self.trunk, saved.trunk...); }

  Index tokens_per_image() const { return position.extent(0); }
  Index width() const { return position.extent(1); }

  /// // images [B, image_size, image_size, channels], y [B T, D]
  Saved forward(View<const T, 4> images, Rows<T> y, Context& ctx) const {
    const Index batch = images.extent(0), rows = batch * tokens_per_image();
    expect_shape(images, {batch, image_size, image_size, patch_embed.channels}, "LimoePatches::forward: images");
    expect_shape(y, {rows, width()}, "LimoePatches::forward: y");
    TokenLayout layout = equal_sequences(batch, tokens_per_image(), ctx.workspace);
    layout.num_modalities = 2;  // of which these are kImage, 0
    auto x = ctx.workspace.take<T>(rows, width());
    Saved saved;
    saved.patches = patch_embed.forward(images, x, ctx);
    add_positions<T>(position, x, ctx);
    const LayoutScope scope(ctx, layout);
    saved.trunk = trunk.forward(x, y, ctx);
    return saved;
  }

  /// // dy [B T, D]
  void backward(const Saved& saved, Rows<const T> dy, LimoePatches& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    const auto scope = ctx.workspace.scope();
    auto dx = ctx.workspace.take<T>(dy.extent(0), width());
    trunk.backward(saved.trunk, dy, dx, grad.trunk, ctx);
    patch_embed.backward(saved.patches, dx, grad.patch_embed, ctx);
  }

  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    return LimoePatches<T, WeightBy<To, W>>(patch_embed.over(to), position, trunk.over(to), image_size);
  }
};

static_assert(VisionEncoder<LimoePatches<float>>);

}  // namespace gatefold
