#pragma once
#include "gatefold/module/frozen.hpp"
#include "gatefold/nn/padding.hpp"

namespace gatefold {

/// Adds one learned row for each position of a sequence.
template <Real T>
struct LearnedPosition {
  using Scalar = T;
  struct Options {
    Index length, width;
  };
  struct Saved {
    View<const Index, 1> position;  // [R]
  };

  Tensor<T, 2> table;  // [L, D]

  /// Throws OptionError for a size below 1.
  explicit LearnedPosition(Options o) : table(shape_of(o)) {}
  static void visit(auto& v, auto&... self) { v("table", self.table...); }

  /// x[i] += table[i - start of its sequence]. // x [R, D], offset [B+1]
  Saved forward(View<const Index, 1> offset, Rows<T> x, Context& ctx) const {
    expect_sequences(offset, x.extent(0), "LearnedPosition::forward: offset");
    expect_shape(x, {x.extent(0), table.extent(1)}, "LearnedPosition::forward: x");
    auto position = ctx.workspace.take<Index>(x.extent(0));
    for (Index b = 0; b + 1 < offset.extent(0); ++b) {
      if (offset[b + 1] - offset[b] > table.extent(0))
        throw ShapeError("LearnedPosition::forward: sequence " + std::to_string(b) + " has " +
                         std::to_string(offset[b + 1] - offset[b]) + " tokens, expected at most " +
                         std::to_string(table.extent(0)));
      for (Index i = offset[b]; i < offset[b + 1]; ++i) position[i] = i - offset[b];
    }
    kernels::for_each_row(x.extent(0), x.extent(1), ctx, [&](Index i) {
      T* const row = x.data() + i * x.stride(0);
      kernels::simd::transform<T>(
          ctx.isa, x.extent(1), [](auto a, auto b) { return a + b; }, row, row,
          table.data() + position[i] * table.extent(1));
    });
    return {position};
  }

  void backward(const Saved& saved, Rows<const T> dx, LearnedPosition& grad, Context& ctx) const {
    expect_shape(dx, {saved.position.extent(0), table.extent(1)}, "LearnedPosition::backward: dx");
    expect_shape(grad.table.view(), table.shape(), "LearnedPosition::backward: grad.table");
    if (!wants_gradient(table, ctx)) return;
    for (Index i = 0; i < dx.extent(0); ++i) {
      T* const row = grad.table.data() + saved.position[i] * table.extent(1);
      kernels::simd::transform<T>(
          ctx.isa, table.extent(1), [](auto a, auto b) { return a + b; }, row, row, dx.data() + i * dx.stride(0));
    }
  }

 private:
  static Shape<2> shape_of(const Options& o) {
    expect_size("LearnedPosition", "length", o.length);
    expect_size("LearnedPosition", "width", o.width);
    return {o.length, o.width};
  }
};

struct SinCos2d {
  Index height, width_in_patches;
  Index width;  ///< D, a multiple of 4
  double temperature = 10000;
};

/// Fixed 2-d positions: sin x, cos x, sin y, cos y, each D/4 wide with frequencies temperature^(-i / (D/4 - 1)), as in
/// V-MoE (vmoe/nn/vit_moe.py). Rows in raster order. // [height * width_in_patches, D]
template <Real T>
Tensor<T, 2> sincos2d(const SinCos2d& o) {
  expect_option(o.width % 4 == 0 && o.width >= 8,
                "sincos2d: width is " + std::to_string(o.width) + ", expected a multiple of 4, 8 or more");
  expect_size("sincos2d", "height", o.height);
  expect_size("sincos2d", "width_in_patches", o.width_in_patches);
  expect_option(o.temperature > 0 && std::isfinite(o.temperature), "sincos2d", "temperature", o.temperature,
                "a finite number above 0");
  const Index quarter = o.width / 4;
  Tensor<T, 2> table({o.height * o.width_in_patches, o.width});
  auto view = table.view();
  for (Index y = 0; y < o.height; ++y)
    for (Index x = 0; x < o.width_in_patches; ++x)
      for (Index i = 0; i < quarter; ++i) {
        const double frequency = std::pow(o.temperature, -static_cast<double>(i) / static_cast<double>(quarter - 1));
        const double at_x = static_cast<double>(x) * frequency, at_y = static_cast<double>(y) * frequency;
        const Index row = y * o.width_in_patches + x;
        view(row, i) = T(std::sin(at_x));
        view(row, quarter + i) = T(std::cos(at_x));
        view(row, 2 * quarter + i) = T(std::sin(at_y));
        view(row, 3 * quarter + i) = T(std::cos(at_y));
      }
  return table;
}

}  // namespace gatefold
