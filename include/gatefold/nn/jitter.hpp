#pragma once
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// In training (with ctx.rng) y = x times U(1 - amount, 1 + amount), drawn for each number; without, y = x. So Mixtral
/// and Phi-3.5 disturb the input of a whole mixture (Fedus et al. 2021, «Switch transformers», only what the router
/// sees: TopKRouterOptions::jitter). A factor depends on the stream, row and column only, so none is kept: backward
/// draws it anew.
template <Real T>
struct Jitter {
  using Scalar = T;
  struct Options {
    double amount;
  };
  struct Saved {
    Rng stream{0};
    double amount = 0;
    Shape<2> shape{};
    bool drawn = false;
  };

  double amount;

  /// Throws OptionError for an amount outside [0, 1).
  explicit Jitter(Options o) : amount(o.amount) {
    expect_option(amount >= 0 && amount < 1, "Jitter", "amount", amount, "a number in [0, 1)");
  }
  static void visit(auto&, auto&...) {}

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    expect_shape(y, x.shape(), "Jitter::forward: y");
    Saved saved{.amount = amount, .shape = x.shape(), .drawn = ctx.rng && amount > 0};
    if (saved.drawn) saved.stream = ctx.rng->next_stream();
    apply(saved, x, y, ctx);
    return saved;
  }
  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, Jitter&, Context& ctx) const {
    expect_shape(dy, saved.shape, "Jitter::backward: dy");
    expect_shape(dx, saved.shape, "Jitter::backward: dx");
    apply(saved, dy, dx, ctx);
  }

  /// The same factors as in the pass that kept `saved`; y may be x.
  static void apply(const Saved& saved, Rows<const T> x, Rows<T> y, Context& ctx) {
    if (!saved.drawn) return kernels::copy_rows<T>(x, y, ctx);
    const Index width = x.extent(1);
    kernels::for_each_row(x.extent(0), width, ctx, [&](Index i) {
      for (Index j = 0; j < width; ++j)
        y(i, j) = x(i, j) * T(saved.stream.uniform_at(i * width + j, 1 - saved.amount, 1 + saved.amount));
    });
  }
};
static_assert(Layer<Jitter<float>>);

}  // namespace gatefold
