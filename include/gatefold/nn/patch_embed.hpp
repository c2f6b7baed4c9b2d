#pragma once
#include "gatefold/nn/linear.hpp"
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// Cuts images into square patches and projects each one: a convolution whose stride is its size (ViT,
/// arXiv 2010.11929). Patches come row by row; within a patch the order is row, column, channel.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct PatchEmbed {
  using Scalar = T;
  struct Options {
    Index patch, channels = 3, width;
    Bias bias = Bias::zero;
  };
  struct Saved {
    typename Linear<T, W>::Saved projection;
  };

  Linear<T, W> projection;
  Index patch, channels;

  /// Throws OptionError for a size below 1.
  explicit PatchEmbed(Options o)
      : projection({.in = checked(o).patch * o.patch * o.channels, .out = o.width, .bias = o.bias}),
        patch(o.patch),
        channels(o.channels) {}
  static void visit(auto& v, auto&... self) { v("projection", self.projection...); }

  /// Patches of an image of this size. // image [H, W]
  Index num_patches(Shape<2> image) const { return (image[0] / patch) * (image[1] / patch); }

  /// images [B, H, W, channels], y [B * patches, D]
  Saved forward(View<const T, 4> images, Rows<T> y, Context& ctx) const {
    const auto [batch, height, width, depth] = images.shape();
    if (height % patch || width % patch || depth != channels)
      throw ShapeError("PatchEmbed::forward: images has shape " + to_string(images.shape()) + ", expected [B, n * " +
                       std::to_string(patch) + ", m * " + std::to_string(patch) + ", " + std::to_string(channels) +
                       "]");
    const Index across = width / patch, per_image = (height / patch) * across, run = patch * channels;
    auto cut = ctx.workspace.take<T>(batch * per_image, patch * run);
    kernels::for_each_row(batch * per_image, patch * run, ctx, [&](Index row) {
      const Index image = row / per_image, at = row % per_image;
      const Index top = at / across * patch, left = at % across * patch;
      for (Index line = 0; line < patch; ++line) {
        const T* const from = &images(image, top + line, left, 0);
        T* const to = &cut(row, line * run);
        if (images.stride(2) == channels) {
          std::copy_n(from, run, to);
        } else {
          for (Index j = 0; j < patch; ++j) std::copy_n(from + j * images.stride(2), channels, to + j * channels);
        }
      }
    });
    return {projection.forward(cut, y, ctx)};
  }

  /// There is no gradient towards the pixels: this is where a model begins.
  void backward(const Saved& saved, Rows<const T> dy, PatchEmbed& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    projection.backward_params(saved.projection, dy, grad.projection, ctx);
  }

  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    PatchEmbed<T, WeightBy<To, W>> other({.patch = patch, .channels = channels, .width = projection.out()});
    other.projection = projection.over(to);
    return other;
  }

 private:
  static const Options& checked(const Options& o) {
    expect_size("PatchEmbed", "patch", o.patch);
    expect_size("PatchEmbed", "channels", o.channels);
    expect_size("PatchEmbed", "width", o.width);
    return o;
  }
};

}  // namespace gatefold
