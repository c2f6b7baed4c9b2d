#pragma once
#include "gatefold/models/clip.hpp"
#include "gatefold/models/vision_encoder.hpp"

namespace gatefold {

/// The patches of a CLIP as a VisionLanguage sees them: rows as one of its blocks leaves them, without the class token
/// (LLaVA, arXiv 2304.08485, takes the last block but one). What comes after that block is dropped. Freeze it
/// (module/frozen.hpp) where only a projector is to be trained.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct ClipPatches {
  using Scalar = T;
  using Saved = typename ClipVision<T, W>::Saved;

  ClipOptions options;
  ClipVision<T, W> clip;  ///< Its last norm and its projection are neither used nor parameters.

  /// Throws OptionError for blocks to drop that are not there.
  ClipPatches(const ClipOptions& o, ClipVision<T, W> vision, Index dropped_blocks = 1)
      : options(o), clip(std::move(vision)) {
    auto& blocks = clip.tower.encoder.blocks;
    expect_option(dropped_blocks >= 0 && dropped_blocks <= std::ssize(blocks), "ClipPatches", "dropped_blocks",
                  dropped_blocks, "the number of some of its blocks");
    blocks.erase(blocks.end() - dropped_blocks, blocks.end());
  }
  static void visit(auto& v, auto&... self) {
    v("patch_embed", self.clip.patch_embed...);
    v("class_token", self.clip.class_token...);
    v("position", self.clip.position...);
    if ((self.clip.has_pre_norm && ...)) v("pre_norm", self.clip.pre_norm...);
    v("blocks", self.clip.tower.encoder.blocks...);
  }
  static void visit_layers(auto& v, auto& self, auto&... saved) {
    v("", self.clip.tower.encoder, saved.tower.encoder...);
  }

  Index tokens_per_image() const { return clip.tokens_per_image() - 1; }
  Index width() const { return clip.tower.width(); }

  /// // images [B, image_size, image_size, channels], y [B T, D]
  Saved forward(View<const T, 4> images, Rows<T> y, Context& ctx) const {
    expect_shape(y, {images.extent(0) * tokens_per_image(), width()}, "ClipPatches::forward: y");
    Saved saved;
    if (images.extent(0) == 0) return saved;
    const auto tokens = clip.embed(images, saved, ctx);
    const LayoutScope layout(ctx, *tokens.layout);
    pool_at<T>(clip.tower.encoder.forward_blocks(tokens.x, saved.tower.encoder, ctx), patches(saved.batch, ctx), y,
               ctx);
    return saved;
  }

  /// // dy [B T, D]
  void backward(const Saved& saved, Rows<const T> dy, ClipPatches& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    if (saved.batch == 0) return;
    const auto scope = ctx.workspace.scope();
    auto dx = ctx.workspace.take<T>(saved.batch * clip.tokens_per_image(), width());
    clip.tower.encoder.backward_blocks(
        saved.tower.encoder, [&](Rows<T> d) { pool_at_grad<T>(dy, patches(saved.batch, ctx), d, ctx); }, dx,
        grad.clip.tower.encoder, ctx);
    clip.embed_backward(saved, dx, grad.clip, ctx);
  }

  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    ClipVision<T, WeightBy<To, W>> other(options);
    clip.over_into(to, other);
    return ClipPatches<T, WeightBy<To, W>>(options, std::move(other), 0);
  }

 private:
  /// The rows behind the class tokens. // [B T]
  View<const Index, 1> patches(Index batch, Context& ctx) const {
    auto row = ctx.workspace.take<Index>(batch * tokens_per_image());
    for (Index i = 0; i < row.extent(0); ++i) row[i] = i + i / tokens_per_image() + 1;
    return row;
  }
};

static_assert(VisionEncoder<ClipPatches<float>>);

}  // namespace gatefold
