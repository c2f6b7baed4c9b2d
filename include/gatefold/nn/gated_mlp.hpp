#pragma once
#include "gatefold/kernels/grouped.hpp"
#include "gatefold/kernels/map.hpp"
#include "gatefold/kernels/packed_ffn.hpp"
#include "gatefold/nn/activation.hpp"
#include "gatefold/nn/linear.hpp"

namespace gatefold {

/// y = down(act(gate(x)) ⊙ up(x)): SwiGLU with Silu, GEGLU with Gelu (Shazeer 2020, arXiv 2002.05202); a
/// GroupedExpert. 6 R D H flops forward, twice that backward. Keeps gate(x), up(x) and their product, 3 [R, H]; over
/// packed weights nothing.
template <Real T, Activation Act = Silu, WeightStorage<T> W = Tensor<T, 2>>
struct GatedMlp {
  using Scalar = T;
  struct Options {
    Index width, hidden;  // D, H
  };
  static constexpr bool kTrainable = TrainableStorage<W, T>;
  struct Kept {
    Rows<const T> x;                          // as it came
    SlotRows slots;                           // the rows of it that each net saw
    Rows<const T> gate_pre, up_pre, product;  // [N, H]
  };
  using Saved = std::conditional_t<kTrainable, Kept, Nothing>;
  using GroupedSaved = Saved;

  Linear<T, W> gate, up, down;

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
    expect_shape(x, {x.extent(0), up.in()}, "GatedMlp::forward: x");
    expect_shape(y, {x.extent(0), down.out()}, "GatedMlp::forward: y");
    return keep<Saved>(ctx, [&] {
      return forward_grouped({this, 1}, x, SlotRows::all(x.extent(0), ctx.workspace), y, ctx);
    });
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, GatedMlp& grad,
                Context& ctx) const requires kTrainable {
    expect_shape(dy, {saved.product.extent(0), down.out()}, "GatedMlp::backward: dy");
    expect_shape(dx, {saved.product.extent(0), up.in()}, "GatedMlp::backward: dx");
    backward_grouped({this, 1}, saved, dy, dx, {&grad, 1}, ctx);
  }

  /// experts [E] of equal shapes, x [S, D], ys [N, D]
  static GroupedSaved forward_grouped(std::span<const GatedMlp> experts, Rows<const T> x, SlotRows slots, Rows<T> ys,
                                      Context& ctx) {
    if constexpr (kTrainable) {
      const Index rows = ys.extent(0), hidden = experts[0].up.out();
      auto gate_pre = ctx.workspace.take<T>(rows, hidden), up_pre = ctx.workspace.take<T>(rows, hidden);
      auto product = ctx.workspace.take<T>(rows, hidden);
      const auto scope = ctx.workspace.scope();
      kernels::ProductList<T> ins(2 * slots.num_experts(), ctx.workspace), outs(slots.num_experts(), ctx.workspace);
      for (Index e = 0; e < slots.num_experts(); ++e) {
        const GatedMlp& net = experts[static_cast<std::size_t>(e)];
        const Index begin = slots.offset[e], end = slots.offset[e + 1];
        if (begin == end) continue;
        const auto seen = kernels::expert_rows(x, slots, e);
        ins.add(kernels::product<T>(seen, net.gate.weight, gate_pre.rows(begin, end), net.gate.bias_or_null()));
        ins.add(kernels::product<T>(seen, net.up.weight, up_pre.rows(begin, end), net.up.bias_or_null()));
        outs.add(kernels::product<T>(product.rows(begin, end), net.down.weight, ys.rows(begin, end),
                                     net.down.bias_or_null()));
      }
      ins.run(ctx);
      kernels::map_rows<T>(
          product, ctx, [](auto g, auto u) { return Act::value(g) * u; }, gate_pre, up_pre);
      outs.run(ctx);
      return {x, slots, gate_pre, up_pre, product};
    } else if constexpr (detail::is_packed<W>) {
      const auto scope = ctx.workspace.scope();
      auto nets = ctx.workspace.take<kernels::PackedFfn<typename W::Format>>(slots.num_experts());
      for (Index e = 0; e < slots.num_experts(); ++e) {
        const GatedMlp& net = experts[static_cast<std::size_t>(e)];
        nets[e] = {.gate = &net.gate.weight,
                   .up = &net.up.weight,
                   .down = &net.down.weight,
                   .gate_bias = net.gate.bias_or_null(),
                   .up_bias = net.up.bias_or_null(),
                   .down_bias = net.down.bias_or_null()};
      }
      kernels::packed_ffn<Act, typename W::Format>(nets, x, slots, ys, ctx);
      return {};
    } else {
      detail::for_each_expert<T>(x, slots, ys, ctx, [&](Index e, Rows<const T> seen, Rows<T> y) {
        const GatedMlp& net = experts[static_cast<std::size_t>(e)];
        auto hidden = ctx.workspace.take<T>(seen.extent(0), net.up.out());
        auto gates = ctx.workspace.take<T>(seen.extent(0), net.up.out());
        (void)net.up.forward(seen, hidden, ctx);
        (void)net.gate.forward(seen, gates, ctx);
        kernels::map_rows<T>(
            hidden, ctx, [](auto g, auto u) { return Act::value(g) * u; }, gates, hidden);
        (void)net.down.forward(hidden, y, ctx);
      });
      return {};
    }
  }

  /// dys, dxs [N, D]
  static void backward_grouped(std::span<const GatedMlp> experts, const GroupedSaved& saved, Rows<const T> dys,
                               Rows<T> dxs, std::span<GatedMlp> grads, Context& ctx) requires kTrainable {
    const auto scope = ctx.workspace.scope();
    const auto& slots = saved.slots;
    const auto [rows, hidden] = saved.product.shape();
    auto dup = ctx.workspace.take<T>(rows, hidden), dgate = ctx.workspace.take<T>(rows, hidden);
    kernels::ProductList<T> hiddens(slots.num_experts(), ctx.workspace), rest(4 * slots.num_experts(), ctx.workspace);
    kernels::ProductList<T> second(slots.num_experts(), ctx.workspace);
    for (Index e = 0; e < slots.num_experts(); ++e) {
      const GatedMlp& net = experts[static_cast<std::size_t>(e)];
      GatedMlp& grad = grads[static_cast<std::size_t>(e)];
      const Index begin = slots.offset[e], end = slots.offset[e + 1];
      if (begin == end) continue;
      const auto dy = dys.rows(begin, end);
      const auto seen = kernels::expert_rows(saved.x, slots, e);
      hiddens.add(kernels::product_grad_input<T>(dy, net.down.weight, dup.rows(begin, end)));
      rest.add(kernels::product_grad_weight<T>(dy, saved.product.rows(begin, end), grad.down.weight));
      rest.add(kernels::product_grad_weight<T>(dgate.rows(begin, end), seen, grad.gate.weight));
      rest.add(kernels::product_grad_weight<T>(dup.rows(begin, end), seen, grad.up.weight));
      rest.add(kernels::product_grad_input<T>(dgate.rows(begin, end), net.gate.weight, dxs.rows(begin, end)));
      second.add(kernels::product_grad_input<T>(dup.rows(begin, end), net.up.weight, dxs.rows(begin, end),
                                                kernels::Store::add));
    }
    hiddens.run(ctx);
    kernels::map_rows<T>(
        dgate, ctx, [](auto d, auto g, auto u) { return d * u * Act::slope(g); }, dup, saved.gate_pre, saved.up_pre);
    kernels::map_rows<T>(
        dup, ctx, [](auto d, auto g) { return d * Act::value(g); }, dup, saved.gate_pre);
    rest.run(ctx);
    second.run(ctx);
    const auto bias = [&](auto member) {
      return [=](Index e) { return View<T, 1>((grads[static_cast<std::size_t>(e)].*member).bias); };
    };
    kernels::add_expert_column_sums<T>(dys, slots, bias(&GatedMlp::down), ctx);
    kernels::add_expert_column_sums<T>(dgate, slots, bias(&GatedMlp::gate), ctx);
    kernels::add_expert_column_sums<T>(dup, slots, bias(&GatedMlp::up), ctx);
  }

  template <PackedAs<T> F>
  GatedMlp<T, Act, StorageOf<F>> packed() const requires kTrainable {
    GatedMlp<T, Act, StorageOf<F>> other({.width = 0, .hidden = 0});
    other.gate = pack<F>(gate);
    other.up = pack<F>(up);
    other.down = pack<F>(down);
    return other;
  }
};

}  // namespace gatefold
