#pragma once
#include "gatefold/kernels/map.hpp"
#include "gatefold/nn/activation.hpp"
#include "gatefold/nn/linear.hpp"

namespace gatefold {

/// y = down(act(up(x))): the feed-forward net of a transformer block, and the usual expert.
/// 4 R D H flops forward, twice that backward. Keeps up(x) and its activation, 2 [R, H].
template <Real T, Activation Act = Gelu>
struct Mlp {
  using Scalar = T;
  struct Options {
    Index width, hidden;  // D, H
  };
  struct Saved {
    typename Linear<T>::Saved up, down;
    Rows<const T> pre;  // [R, H] before the activation
  };

  Linear<T> up, down;

  explicit Mlp(Options o) : up({.in = o.width, .out = o.hidden}), down({.in = o.hidden, .out = o.width}) {}
  static void visit(auto& v, auto&... self) {
    v("up", self.up...);
    v("down", self.down...);
  }

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    auto pre = ctx.workspace.take<T>(x.extent(0), up.out());
    auto act = ctx.workspace.take<T>(x.extent(0), up.out());
    const auto saved_up = up.forward(x, pre, ctx);
    kernels::activate<Act, T>(pre, act, ctx);
    return {saved_up, down.forward(act, y, ctx), pre};
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, Mlp& grad, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    auto dpre = ctx.workspace.take<T>(saved.pre.extent(0), saved.pre.extent(1));
    down.backward(saved.down, dy, dpre, grad.down, ctx);
    kernels::activate_grad<Act, T>(saved.pre, dpre, dpre, ctx);
    up.backward(saved.up, dpre, dx, grad.up, ctx);
  }
};
static_assert(Layer<Mlp<float>>);

}  // namespace gatefold
