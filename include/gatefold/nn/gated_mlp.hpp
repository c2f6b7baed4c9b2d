#pragma once
#include "gatefold/kernels/map.hpp"
#include "gatefold/nn/activation.hpp"
#include "gatefold/nn/linear.hpp"

namespace gatefold {

/// y = down(act(gate(x)) ⊙ up(x)): SwiGLU with Silu, GEGLU with Gelu (Shazeer 2020, arXiv 2002.05202).
/// 6 R D H flops forward, twice that backward. Keeps gate(x), up(x) and their product, 3 [R, H].
template <Real T, Activation Act = Silu>
struct GatedMlp {
  using Scalar = T;
  struct Options {
    Index width, hidden;  // D, H
  };
  struct Saved {
    typename Linear<T>::Saved gate, up, down;
    Rows<const T> gate_pre, up_pre;  // [R, H]
  };

  Linear<T> gate, up, down;

  explicit GatedMlp(Options o)
      : gate({.in = o.width, .out = o.hidden}),
        up({.in = o.width, .out = o.hidden}),
        down({.in = o.hidden, .out = o.width}) {}
  static void visit(auto& v, auto&... self) {
    v("gate", self.gate...);
    v("up", self.up...);
    v("down", self.down...);
  }

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    auto gate_pre = ctx.workspace.take<T>(x.extent(0), gate.out());
    auto up_pre = ctx.workspace.take<T>(x.extent(0), gate.out());
    auto product = ctx.workspace.take<T>(x.extent(0), gate.out());
    const auto saved_gate = gate.forward(x, gate_pre, ctx);
    const auto saved_up = up.forward(x, up_pre, ctx);
    kernels::map_rows<T>(
        product, ctx, [](auto g, auto u) { return Act::value(g) * u; }, gate_pre, up_pre);
    return {saved_gate, saved_up, down.forward(product, y, ctx), gate_pre, up_pre};
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, GatedMlp& grad, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    const auto [rows, hidden] = saved.gate_pre.shape();
    auto dproduct = ctx.workspace.take<T>(rows, hidden);
    auto dgate = ctx.workspace.take<T>(rows, hidden);
    auto dx_up = ctx.workspace.take<T>(rows, dx.extent(1));
    down.backward(saved.down, dy, dproduct, grad.down, ctx);
    kernels::map_rows<T>(
        dgate, ctx, [](auto d, auto g, auto u) { return d * u * Act::slope(g); }, dproduct, saved.gate_pre,
        saved.up_pre);
    kernels::map_rows<T>(
        dproduct, ctx, [](auto d, auto g) { return d * Act::value(g); }, dproduct, saved.gate_pre);
    gate.backward(saved.gate, dgate, dx, grad.gate, ctx);
    up.backward(saved.up, dproduct, dx_up, grad.up, ctx);
    kernels::add_rows<T>(dx_up, dx, ctx);
  }
};
static_assert(Layer<GatedMlp<float>>);

}  // namespace gatefold
