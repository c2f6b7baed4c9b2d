#pragma once
#include "gatefold/module/decode.hpp"
#include "gatefold/module/frozen.hpp"
#include "gatefold/nn/padding.hpp"

namespace gatefold {

/// How many tokens of each sequence a LearnedPosition has seen.
struct PositionCache {
  Index capacity = 0;
  std::vector<Index> length{};  // [B]

  /// See KeyValueCache. // offset [B+1] of the new tokens
  void expect_room(View<const Index, 1> offset) const {
    detail::expect_room("PositionCache", capacity, length, offset);
  }
};

/// Adds one learned row for each position of a sequence: in place, to rows that the caller says the sequences of, or as
/// a layer, which also decodes (module/decode.hpp). The layer's tokens stand where ctx.layout->place says, else they
/// are counted within their sequence, without padding; padding stays what it is.
template <Real T>
struct LearnedPosition {
  using Scalar = T;
  struct Options {
    Index length, width;
  };
  struct Saved {
    View<const Index, 1> position;  // [R], -1 for padding
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
    add_rows(position, x, x, ctx);
    return {position};
  }

  /// x, y [R, D]. Throws ShapeError for a token that stands behind the table.
  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    const auto position = places(x, nullptr, ctx);
    expect_shape(y, x.shape(), "LearnedPosition::forward: y");
    add_rows(position, x, y, ctx);
    return {position};
  }
  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, LearnedPosition& grad, Context& ctx) const {
    expect_shape(dx, dy.shape(), "LearnedPosition::backward: dx");
    backward(saved, dy, grad, ctx);
    kernels::copy_rows<T>(dy, dx, ctx);
  }

  /// A count for each sequence, which are as long as the table at most.
  template <class F>
  PositionCache cache(const CacheOptions& o) const {
    expect_size("PositionCache", "sequences", o.sequences);
    expect_size("PositionCache", "capacity", o.capacity);
    return {std::min(o.capacity, table.extent(0)), std::vector<Index>(static_cast<std::size_t>(o.sequences))};
  }
  /// forward for tokens that come after those counted, which are counted too.
  void decode(Rows<const T> x, Rows<T> y, PositionCache& cache, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    const auto offset = detail::token_offset(x.extent(0), ctx);
    cache.expect_room(offset);
    const auto position = places(x, &cache, ctx);
    expect_shape(y, x.shape(), "LearnedPosition::decode: y");
    add_rows(position, x, y, ctx);
    for (std::size_t b = 0; b < cache.length.size(); ++b)
      cache.length[b] += offset[static_cast<Index>(b) + 1] - offset[static_cast<Index>(b)];
  }

  void backward(const Saved& saved, Rows<const T> dx, LearnedPosition& grad, Context& ctx) const {
    expect_shape(dx, {saved.position.extent(0), table.extent(1)}, "LearnedPosition::backward: dx");
    expect_shape(grad.table.view(), table.shape(), "LearnedPosition::backward: grad.table");
    if (!wants_gradient(table, ctx)) return;
    for (Index i = 0; i < dx.extent(0); ++i) {
      if (saved.position[i] < 0) continue;
      T* const row = grad.table.data() + saved.position[i] * table.extent(1);
      kernels::simd::transform<T>(
          ctx.isa, table.extent(1), [](auto a, auto b) { return a + b; }, row, row, dx.data() + i * dx.stride(0));
    }
  }

 private:
  /// Where each row stands, behind what a cache has counted. // [R]
  View<Index, 1> places(Rows<const T> x, const PositionCache* before, Context& ctx) const {
    const Index rows = x.extent(0);
    expect_shape(x, {rows, table.extent(1)}, "LearnedPosition::forward: x");
    const TokenLayout* const layout = ctx.layout;
    if (layout) {
      expect_sequences(layout->offset, rows, "LearnedPosition::forward: ctx.layout->offset");
      expect_shape(layout->modality, {rows}, "LearnedPosition::forward: ctx.layout->modality");
      if (layout->place.size()) expect_shape(layout->place, {rows}, "LearnedPosition::forward: ctx.layout->place");
    }
    auto position = ctx.workspace.take<Index>(rows);
    for (Index b = 0; b < (layout ? layout->num_sequences() : 1); ++b) {
      Index next = before ? before->length[static_cast<std::size_t>(b)] : 0;
      for (Index i = layout ? layout->offset[b] : 0; i < (layout ? layout->offset[b + 1] : rows); ++i) {
        position[i] = -1;
        if (layout && layout->modality[i] == kPadding) continue;
        position[i] = layout && layout->place.size() ? layout->place[i] : next;
        ++next;
        if (position[i] < 0 || position[i] >= table.extent(0))
          throw ShapeError("LearnedPosition::forward: row " + std::to_string(i) + " stands at " +
                           std::to_string(position[i]) + ", expected 0.." + std::to_string(table.extent(0) - 1));
      }
    }
    return position;
  }
  void add_rows(View<const Index, 1> position, Rows<const T> x, Rows<T> y, Context& ctx) const {
    kernels::for_each_row(x.extent(0), x.extent(1), ctx, [&](Index i) {
      const T* const from = x.data() + i * x.stride(0);
      T* const to = y.data() + i * y.stride(0);
      if (position[i] < 0) return void(to == from ? to : std::copy_n(from, x.extent(1), to));
      kernels::simd::transform<T>(
          ctx.isa, x.extent(1), [](auto a, auto b) { return a + b; }, to, from,
          table.data() + position[i] * table.extent(1));
    });
  }
  static Shape<2> shape_of(const Options& o) {
    expect_size("LearnedPosition", "length", o.length);
    expect_size("LearnedPosition", "width", o.width);
    return {o.length, o.width};
  }
};

static_assert(Layer<LearnedPosition<float>>);

/// x[i] += table[i mod T]: positions that are not learnt, of sequences of T tokens each. // x [B T, D], table [T, D]
template <Real T>
void add_positions(Rows<const T> table, Rows<T> x, Context& ctx) {
  const Index length = table.extent(0), width = table.extent(1);
  expect_shape(x, {x.extent(0), width}, "add_positions: x");
  kernels::for_each_row(x.extent(0), width, ctx, [&](Index i) {
    T* const row = x.data() + i * x.stride(0);
    kernels::simd::transform<T>(
        ctx.isa, width, [](auto a, auto b) { return a + b; }, row, row, table.data() + i % length * table.stride(0));
  });
}

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
