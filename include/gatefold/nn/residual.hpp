#pragma once
#include "gatefold/module/decode.hpp"
#include "gatefold/module/pack.hpp"
#include "gatefold/nn/layer_norm.hpp"
#include "gatefold/nn/pool.hpp"
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// y = x + inner(norm(x)): a pre-norm residual branch around any layer. Keeps norm(x); where the inner layer cannot be
/// trained, nothing. The norm is any layer that keeps the width of its rows; Identity makes a branch without one.
template <class L, class Norm = LayerNorm<typename L::Scalar>>
struct Residual {
  static_assert(ForwardLayer<L>, "Residual is around a layer");
  static_assert(ForwardLayer<Norm>, "Residual: the norm is a layer");
  using Scalar = typename L::Scalar;
  struct Kept {
    typename Norm::Saved norm;
    typename L::Saved inner;
  };
  static constexpr bool kTrainable = Layer<L>, kMixesRows = MixesRows<L>;
  using Saved = std::conditional_t<kTrainable, Kept, Nothing>;

  Norm norm;
  L inner;

  Residual(typename Norm::Options o, L layer) : norm(o), inner(std::move(layer)) {}
  Residual(Norm n, L layer) : norm(std::move(n)), inner(std::move(layer)) {}
  static void visit(auto& v, auto&... self) {
    v("norm", self.norm...);
    v("inner", self.inner...);
  }
  static void visit_layers(auto& v, auto& self, auto&... saved) { v("inner", self.inner, saved.inner...); }

  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    return keep<Saved>(ctx, [&] { return add(x, y, ctx); });
  }

  /// forward for one row of each sequence that keeps nothing. // x [R, D], row [B], y [B, D]
  void infer_at(Rows<const Scalar> x, View<const Index, 1> row, Rows<Scalar> y, Context& ctx) const requires requires {
    &L::infer_at;
  }
  {
    const auto scope = ctx.workspace.scope();
    auto normed = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
    auto chosen = ctx.workspace.template take<Scalar>(row.extent(0), x.extent(1));
    (void)norm.forward(x, normed, ctx);
    inner.infer_at(normed, row, y, ctx);
    pool_at<Scalar>(x, row, chosen, ctx);
    kernels::add_rows<Scalar>(chosen, y, ctx);
  }

  void backward(const Saved& saved, Rows<const Scalar> dy, Rows<Scalar> dx, Residual& grad,
                Context& ctx) const requires kTrainable {
    const auto scope = ctx.workspace.scope();
    auto dnormed = ctx.workspace.template take<Scalar>(dy.extent(0), dy.extent(1));
    inner.backward(saved.inner, dy, dnormed, grad.inner, ctx);
    norm.backward(saved.norm, dnormed, dx, grad.norm, ctx);
    kernels::add_rows<Scalar>(dy, dx, ctx);
  }

  template <class F>
  auto cache(const CacheOptions& o) const requires Remembers<L> {
    return make_cache<F>(inner, o);
  }
  void decode(Rows<const Scalar> x, Rows<Scalar> y, auto& cache, Context& ctx) const requires Remembers<L> {
    auto normed = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
    (void)norm.forward(x, normed, ctx);
    decode_part(inner, normed, y, cache, ctx);
    kernels::add_rows<Scalar>(x, y, ctx);
  }

  template <class To>
  auto over(const To& to) const requires requires(const L& layer) {
    with_weights(layer, to);
  }
  { return Residual<decltype(with_weights(inner, to)), Norm>(norm, with_weights(inner, to)); }

 private:
  Kept add(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    auto normed = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
    const auto saved_norm = norm.forward(x, normed, ctx);
    const auto saved_inner = inner.forward(normed, y, ctx);
    kernels::add_rows<Scalar>(x, y, ctx);
    return {saved_norm, saved_inner};
  }
};

}  // namespace gatefold
