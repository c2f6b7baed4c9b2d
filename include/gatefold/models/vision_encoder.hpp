#pragma once
#include "gatefold/models/sparse_trunk.hpp"
#include "gatefold/nn/layout_scope.hpp"
#include "gatefold/nn/padding.hpp"
#include "gatefold/nn/patch_embed.hpp"
#include "gatefold/nn/position.hpp"

namespace gatefold {

/// What makes rows of pictures, as many of each: how a VisionLanguage sees.
///   Saved forward(View<const T, 4> images, Rows<T> y, Context&) const;        // y [B tokens_per_image, width]
///   void backward(const Saved&, Rows<const T> dy, V& grad, Context&) const;   // where it can be trained
///   auto over(const To&) const;                                               // where it is to be packed
///   void initialise(Rng&, Context&);                                          // where training begins with it
template <class V>
concept VisionEncoder = Module<V> &&
    requires(const V& vision, View<const typename V::Scalar, 4> images, Rows<typename V::Scalar> y, Context& ctx) {
  { vision.tokens_per_image() } -> std::same_as<Index>;
  { vision.width() } -> std::same_as<Index>;
  { vision.forward(images, y, ctx) } -> std::same_as<typename V::Saved>;
};

struct PatchEncoderOptions {
  Index image_size = 48, patch = 6, channels = 3;
  Index width = 96, hidden = 384, num_layers = 2, num_heads = 4;  // D, H, -, -
};

/// A small vision transformer that is trained along: patches, learned positions, blocks in which all patches of a
/// picture see each other, a norm. 2 D (12 D + 2 T) T flops a block and picture where H = 4 D.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct PatchEncoder {
  using Scalar = T;
  using Trunk = Encoder<EncoderBlock<Mlp<T, Gelu, W>, Attention<T, W>>>;
  struct Saved {
    typename PatchEmbed<T, W>::Saved patches;
    typename LearnedPosition<T>::Saved position;
    typename Trunk::Saved trunk;
  };

  PatchEncoderOptions options;
  PatchEmbed<T, W> patch_embed;
  LearnedPosition<T> position;
  Trunk trunk;

  /// Throws OptionError for options that contradict each other.
  explicit PatchEncoder(const PatchEncoderOptions& o)
      : options(checked(o)),
        patch_embed({.patch = o.patch, .channels = o.channels, .width = o.width}),
        position({.length = tokens_per_image(), .width = o.width}),
        trunk({.width = o.width}, o.num_layers, [&](Index) {
          return typename Trunk::Block({.width = o.width, .num_heads = o.num_heads},
                                       Mlp<T, Gelu, W>({.width = o.width, .hidden = o.hidden}));
        }) {}
  static void visit(auto& v, auto&... self) {
    v("patch_embed", self.patch_embed...);
    v("position", self.position...);
    v("trunk", self.trunk...);
  }

  /// First weights: initialise_matrices, and positions that begin at sincos2d. Throws OptionError unless the width is a
  /// multiple of 4, 8 or more.
  void initialise(Rng& rng, Context& ctx) {
    const Index across = options.image_size / options.patch;
    if (options.num_layers)
      initialise_matrices(*this, options.num_layers, rng, ctx);
    else
      init::xavier_uniform(*this, rng, ctx);
    position.table = sincos2d<T>({.height = across, .width_in_patches = across, .width = options.width});
  }

  Index tokens_per_image() const {
    const Index across = options.image_size / options.patch;
    return across * across;
  }
  Index width() const { return options.width; }

  /// // images [B, image_size, image_size, channels], y [B T, D]
  Saved forward(View<const T, 4> images, Rows<T> y, Context& ctx) const {
    const Index batch = images.extent(0), rows = batch * tokens_per_image();
    expect_shape(images, {batch, options.image_size, options.image_size, options.channels},
                 "PatchEncoder::forward: images");
    expect_shape(y, {rows, options.width}, "PatchEncoder::forward: y");
    const TokenLayout layout = equal_sequences(batch, tokens_per_image(), ctx.workspace);
    auto x = ctx.workspace.take<T>(rows, options.width);
    Saved saved;
    saved.patches = patch_embed.forward(images, x, ctx);
    saved.position = position.forward(layout.offset, x, ctx);
    const LayoutScope scope(ctx, layout);
    saved.trunk = trunk.forward(x, y, ctx);
    return saved;
  }

  /// // dy [B T, D]
  void backward(const Saved& saved, Rows<const T> dy, PatchEncoder& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    const auto scope = ctx.workspace.scope();
    auto dx = ctx.workspace.take<T>(dy.extent(0), options.width);
    trunk.backward(saved.trunk, dy, dx, grad.trunk, ctx);
    position.backward(saved.position, dx, grad.position, ctx);
    patch_embed.backward(saved.patches, dx, grad.patch_embed, ctx);
  }

  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    PatchEncoder<T, WeightBy<To, W>> other(options);
    other.patch_embed = patch_embed.over(to);
    other.position = position;
    other.trunk = trunk.over(to);
    return other;
  }

 private:
  static const PatchEncoderOptions& checked(const PatchEncoderOptions& o) {
    const std::string_view who = "PatchEncoder";
    expect_patch_options(who, o);
    expect_size(who, "width", o.width);
    expect_size(who, "hidden", o.hidden);
    expect_size(who, "num_heads", o.num_heads);
    return o;
  }
};

static_assert(VisionEncoder<PatchEncoder<float>>);

}  // namespace gatefold
