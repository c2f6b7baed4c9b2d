#pragma once
#include "gatefold/nn/padding.hpp"

namespace gatefold {

namespace detail {
inline void check_dropout(std::string_view who, double rate) {
  expect_option(rate >= 0 && rate < 1, who, "rate", rate, "a number in [0, 1)");
}
/// Whether 32 random bits drop what they are drawn for.
inline bool drops(std::uint32_t word, double rate) { return static_cast<double>(word) < rate * 0x1p32; }
}  // namespace detail

/// In training (with ctx.rng) each number is 0 with probability `rate`, else x / (1 - rate); without, y = x (Srivastava
/// et al. 2014). What is dropped depends on the stream, row and column only, so no mask is kept: backward draws it
/// anew.
template <Real T>
struct Dropout {
  using Scalar = T;
  struct Options {
    double rate;
  };
  struct Saved {
    Rng::State stream;
    Shape<2> shape;
    bool drawn = false;
  };

  double rate;

  /// Throws OptionError for a rate outside [0, 1).
  explicit Dropout(Options o) : rate(o.rate) { detail::check_dropout("Dropout", rate); }
  static void visit(auto&, auto&...) {}

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    expect_shape(y, x.shape(), "Dropout::forward: y");
    Saved saved{.stream = {}, .shape = x.shape(), .drawn = ctx.rng && rate > 0};
    if (saved.drawn) saved.stream = ctx.rng->next_stream().state();
    apply(saved, x, y, ctx);
    return saved;
  }
  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, Dropout&, Context& ctx) const {
    expect_shape(dy, saved.shape, "Dropout::backward: dy");
    expect_shape(dx, saved.shape, "Dropout::backward: dx");
    apply(saved, dy, dx, ctx);
  }

 private:
  void apply(const Saved& saved, Rows<const T> x, Rows<T> y, Context& ctx) const {
    if (!saved.drawn) return kernels::copy_rows<T>(x, y, ctx);
    const T kept = T(1 / (1 - rate));
    const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
    const auto high = [](std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); };
    const std::uint64_t seed = saved.stream.seed, stream = saved.stream.stream;
    const std::array<std::uint32_t, 2> key{low(seed), high(seed)}, of_stream{low(stream), high(stream)};
    const Index width = x.extent(1), blocks = (width + 3) / 4;  // of four words, which are drawn at once
    kernels::for_each_row(x.extent(0), width, ctx, [&](Index i) {
      for (Index j = 0; j < width; j += 4) {
        const auto block = static_cast<std::uint64_t>(i * blocks + j / 4);
        const auto words = philox({low(block), high(block), of_stream[0], of_stream[1]}, key);
        for (Index k = j; k < std::min(j + 4, width); ++k)
          y(i, k) = detail::drops(words[static_cast<std::size_t>(k - j)], rate) ? T(0) : x(i, k) * kept;
      }
    });
  }
};

/// Stochastic depth (Huang et al. 2016), for the end of a residual branch: in training (with ctx.rng) all rows of a
/// sequence are 0 with probability `rate`, else x / (1 - rate); without, y = x:
///   Residual({.width = 64}, Sequence(attention, DropPath<float>({.rate = 0.1})))
template <Real T>
struct DropPath {
  using Scalar = T;
  struct Options {
    double rate;
  };
  struct Saved {
    View<const T, 1> factor;  // [R]
    Index width = 0;
  };

  double rate;

  /// Throws OptionError for a rate outside [0, 1).
  explicit DropPath(Options o) : rate(o.rate) { detail::check_dropout("DropPath", rate); }
  static void visit(auto&, auto&...) {}

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    expect_shape(y, x.shape(), "DropPath::forward: y");
    const Index rows = x.extent(0);
    auto factor = ctx.workspace.take<T>(rows);
    std::fill_n(factor.data(), rows, T(1));
    if (ctx.rng && rate > 0) {
      const TokenLayout layout = ctx.layout ? *ctx.layout : one_sequence(rows, ctx.workspace);
      expect_sequences(layout.offset, rows, "DropPath::forward: ctx.layout->offset");
      Rng words = ctx.rng->next_stream();
      for (Index b = 0; b < layout.num_sequences(); ++b) {
        const T kept = detail::drops(words.bits(), rate) ? T(0) : T(1 / (1 - rate));
        std::fill(factor.data() + layout.offset[b], factor.data() + layout.offset[b + 1], kept);
      }
    }
    const Saved saved{factor, x.extent(1)};
    apply(saved, x, y, ctx);
    return saved;
  }
  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, DropPath&, Context& ctx) const {
    expect_shape(dy, {saved.factor.extent(0), saved.width}, "DropPath::backward: dy");
    expect_shape(dx, {saved.factor.extent(0), saved.width}, "DropPath::backward: dx");
    apply(saved, dy, dx, ctx);
  }

 private:
  static void apply(const Saved& saved, Rows<const T> x, Rows<T> y, Context& ctx) {
    kernels::for_each_row(x.extent(0), x.extent(1), ctx, [&](Index i) {
      T* const out = y.data() + i * y.stride(0);
      const T factor = saved.factor[i];
      if (factor == T(0))
        std::fill_n(out, x.extent(1), T(0));  // whatever is dropped, NaN too
      else
        kernels::simd::transform<T>(
            ctx.isa, x.extent(1), [=](auto v) { return v * factor; }, out, x.data() + i * x.stride(0));
    });
  }
};

}  // namespace gatefold
