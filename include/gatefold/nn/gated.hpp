#pragma once
#include "gatefold/module/decode.hpp"
#include "gatefold/nn/linear.hpp"
#include "gatefold/simd/map.hpp"
#include "gatefold/simd/math.hpp"

namespace gatefold {

/// y = σ(x · g) inner(x): a layer whose output each row turns up or down, by one row g of weights; the shared expert of
/// Qwen's mixtures. Keeps the gate and inner(x), 1 + D numbers a row; where the inner layer cannot be trained, nothing.
template <class L>
struct Gated {
  static_assert(ForwardLayer<L>, "Gated is around a layer");
  using Scalar = typename L::Scalar;
  struct Options {
    Index width;  // D, of x
  };
  struct Kept {
    typename Linear<Scalar>::Saved gate;
    typename L::Saved inner;
    View<const Scalar, 1> open;  // [R] σ(x · g)
    Rows<const Scalar> out;      // [R, D] inner(x)
  };
  static constexpr bool kTrainable = Layer<L>, kMixesRows = MixesRows<L>;
  using Saved = std::conditional_t<kTrainable, Kept, Nothing>;

  Linear<Scalar> gate;  // [1, D] without bias; it stays dense where inner is packed
  L inner;

  /// Throws OptionError for a width below 1.
  Gated(Options o, L layer) : gate({.in = o.width, .out = 1, .bias = Bias::none}), inner(std::move(layer)) {}
  static void visit(auto& v, auto&... self) {
    v("gate", self.gate...);
    v("inner", self.inner...);
  }
  static void visit_layers(auto& v, auto& self, auto&... saved) { v("inner", self.inner, saved.inner...); }

  Index out() const requires SaysWidth<L> { return inner.out(); }

  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    return keep<Saved>(ctx, [&] {
      const Index rows = y.extent(0), width = y.extent(1);
      auto open = ctx.workspace.template take<Scalar>(x.extent(0));
      auto out = ctx.workspace.template take<Scalar>(rows, width);
      Kept kept{.gate = gate.forward(x, {open.data(), {x.extent(0), 1}}, ctx),
                .inner = inner.forward(x, out, ctx),
                .open = open,
                .out = out};
      open_rows(open, out, y, ctx);
      return kept;
    });
  }

  void backward(const Saved& saved, Rows<const Scalar> dy, Rows<Scalar> dx, Gated& grad,
                Context& ctx) const requires kTrainable {
    const auto scope = ctx.workspace.scope();
    const Index rows = saved.out.extent(0), width = saved.out.extent(1);
    expect_shape(dy, saved.out.shape(), "Gated::backward: dy");
    auto dgate = ctx.workspace.template take<Scalar>(rows, 1);
    auto dout = ctx.workspace.template take<Scalar>(rows, width);
    auto other = ctx.workspace.template take<Scalar>(dx.extent(0), dx.extent(1));
    kernels::for_each_row(rows, width, ctx, [&](Index i) {
      const Scalar* const d = dy.data() + i * dy.stride(0);
      const Scalar open = saved.open[i], shut = Scalar(1) - open;
      dgate(i, 0) = open * shut *
                    kernels::simd::sum<Scalar>(
                        ctx.isa, width, [](auto a, auto b) { return a * b; }, d, &saved.out(i, 0));
      kernels::simd::transform<Scalar>(
          ctx.isa, width, [=](auto v) { return v * open; }, &dout(i, 0), d);
    });
    inner.backward(saved.inner, dout, dx, grad.inner, ctx);
    gate.backward(saved.gate, dgate, other, grad.gate, ctx);
    kernels::add_rows<Scalar>(other, dx, ctx);
  }

  template <class F>
  auto cache(const CacheOptions& o) const requires Remembers<L> {
    return make_cache<F>(inner, o);
  }
  void decode(Rows<const Scalar> x, Rows<Scalar> y, auto& cache, Context& ctx) const requires Remembers<L> {
    auto open = ctx.workspace.template take<Scalar>(x.extent(0), 1);
    (void)gate.forward(x, open, ctx);
    decode_part(inner, x, y, cache, ctx);
    open_rows({open.data(), {x.extent(0)}}, y, y, ctx);
  }

  template <class To>
  auto over(const To& to) const requires requires(const L& layer) {
    with_weights(layer, to);
  }
  {
    Gated<decltype(with_weights(inner, to))> other({.width = gate.in()}, with_weights(inner, to));
    other.gate = gate;
    return other;
  }

 private:
  /// open = σ(open), y = open x; y may be x.
  static void open_rows(View<Scalar, 1> open, Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) {
    kernels::for_each_row(y.extent(0), y.extent(1), ctx, [&](Index i) {
      open[i] = kernels::logistic(open[i]);
      kernels::simd::transform<Scalar>(
          ctx.isa, y.extent(1), [factor = open[i]](auto v) { return v * factor; }, y.data() + i * y.stride(0),
          x.data() + i * x.stride(0));
    });
  }
};

}  // namespace gatefold
