#pragma once
#include "gatefold/kernels/map.hpp"
#include "gatefold/nn/layer_norm.hpp"

namespace gatefold {

/// y = x + inner(norm(x)): a pre-norm residual branch around any layer.
template <Layer L>
struct Residual {
  using Scalar = typename L::Scalar;
  struct Saved {
    typename LayerNorm<Scalar>::Saved norm;
    typename L::Saved inner;
  };

  LayerNorm<Scalar> norm;
  L inner;

  Residual(typename LayerNorm<Scalar>::Options o, L layer) : norm(o), inner(std::move(layer)) {}
  static void visit(auto& v, auto&... self) {
    v("norm", self.norm...);
    v("inner", self.inner...);
  }

  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    auto normed = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
    const auto saved_norm = norm.forward(x, normed, ctx);
    const auto saved_inner = inner.forward(normed, y, ctx);
    kernels::add_rows<Scalar>(x, y, ctx);
    return {saved_norm, saved_inner};
  }

  void backward(const Saved& saved, Rows<const Scalar> dy, Rows<Scalar> dx, Residual& grad, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    auto dnormed = ctx.workspace.template take<Scalar>(dy.extent(0), dy.extent(1));
    inner.backward(saved.inner, dy, dnormed, grad.inner, ctx);
    norm.backward(saved.norm, dnormed, dx, grad.norm, ctx);
    kernels::add_rows<Scalar>(dy, dx, ctx);
  }
};

}  // namespace gatefold
