#pragma once
#include "gatefold/nn/activation.hpp"
#include "gatefold/nn/linear.hpp"
#include "gatefold/products/grouped.hpp"
#include "gatefold/products/packed_ffn.hpp"
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// y = down(act(gate(x)) ⊙ up(x)): SwiGLU with Silu, GEGLU with Gelu (Shazeer 2020, arXiv 2002.05202), or what else a
/// GatedActivation makes of gate and up; a GroupedExpert. 6 R D H flops forward, twice that backward. Keeps gate(x),
/// up(x) and what becomes of them, 3 [R, H]; over packed weights nothing.
template <Real T, class Act = Silu, WeightStorage<T> W = Tensor<T, 2>>
struct GatedMlp {
  using Glu = AsGated<Act>;
  static_assert(GatedActivation<Glu>, "GatedMlp: Act is an Activation of the gate, or a GatedActivation of both");
  using Scalar = T;
  struct Options {
    Index width, hidden;  // D, H
    Bias bias = Bias::zero;
  };
  static constexpr bool kTrainable = TrainableStorage<W, T>;
  struct Kept {
    Rows<const T> x;                             // as it came
    SlotRows slots;                              // the rows of it that each net saw
    kernels::HiddenRows hidden;                  // [N, H_e] where the units of each net lie
    View<const T, 1> gate_pre, up_pre, product;  // [N H_e]
  };
  using Saved = std::conditional_t<kTrainable, Kept, Nothing>;
  using GroupedSaved = Saved;

  Linear<T, W> gate, up, down;

  /// Throws OptionError for a size below 1.
  explicit GatedMlp(Options o)
      : gate({.in = checked(o).width, .out = o.hidden, .bias = o.bias}),
        up({.in = o.width, .out = o.hidden, .bias = o.bias}),
        down({.in = o.hidden, .out = o.width, .bias = o.bias}) {}
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
    expect_shape(dy, {saved.slots.num_slots(), down.out()}, "GatedMlp::backward: dy");
    expect_shape(dx, {saved.slots.num_slots(), up.in()}, "GatedMlp::backward: dx");
    backward_grouped({this, 1}, saved, dy, dx, {&grad, 1}, ctx);
  }

  /// Throws ShapeError «GatedMlp: experts[1].up.weight has shape [64, 24], expected [64, 32]» unless all nets take and
  /// give rows of one width. Their hidden widths may differ.
  static void expect_fit(std::span<const GatedMlp> experts) {
    if (!experts.empty()) expect_fit(experts, {experts[0].up.in(), experts[0].down.out()});
  }

  /// experts [E], of any hidden width each, x [S, D], ys [N, D]
  static GroupedSaved forward_grouped(std::span<const GatedMlp> experts, Rows<const T> x, SlotRows slots, Rows<T> ys,
                                      Context& ctx) {
    expect_fit(experts, {x.extent(1), ys.extent(1)});
    if constexpr (kTrainable) {
      const kernels::HiddenRows hidden(
          slots, [&](Index e) { return experts[static_cast<std::size_t>(e)].up.out(); }, ctx.workspace);
      const Index units = hidden.num_units();
      auto gate_pre = ctx.workspace.take<T>(units), up_pre = ctx.workspace.take<T>(units);
      auto product = ctx.workspace.take<T>(units);
      const auto scope = ctx.workspace.scope();
      kernels::ProductList<T> ins(2 * slots.num_experts(), ctx.workspace), outs(slots.num_experts(), ctx.workspace);
      for (Index e = 0; e < slots.num_experts(); ++e) {
        const GatedMlp& net = experts[static_cast<std::size_t>(e)];
        const Index begin = slots.offset[e], end = slots.offset[e + 1];
        if (begin == end) continue;
        const auto seen = kernels::expert_rows(x, slots, e);
        if (ctx.calibration) {
          ctx.calibration->see<T>(&net.gate.weight, seen, ctx);
          ctx.calibration->see<T>(&net.up.weight, seen, ctx);
        }
        ins.add(kernels::product<T>(seen, detail::dense_weight<T>(net.gate.weight, ctx), hidden.of(gate_pre, e),
                                    net.gate.bias_or_null()));
        ins.add(kernels::product<T>(seen, detail::dense_weight<T>(net.up.weight, ctx), hidden.of(up_pre, e),
                                    net.up.bias_or_null()));
        outs.add(kernels::product<T>(hidden.of(product, e), detail::dense_weight<T>(net.down.weight, ctx),
                                     ys.rows(begin, end), net.down.bias_or_null()));
      }
      ins.run(ctx);
      hidden.map(
          product, ctx, [](auto g, auto u) { return Glu::value(g, u); }, gate_pre, up_pre);
      for (Index e = 0; ctx.calibration && e < slots.num_experts(); ++e)
        ctx.calibration->see<T>(&experts[static_cast<std::size_t>(e)].down.weight,
                                kernels::Operand<T>(hidden.of(product, e)), ctx);
      outs.run(ctx);
      return {x, slots, hidden, gate_pre, up_pre, product};
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
            hidden, ctx, [](auto g, auto u) { return Glu::value(g, u); }, gates, hidden);
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
    const auto& units = saved.hidden;
    expect_gradients(grads, experts);
    auto dup = ctx.workspace.take<T>(units.num_units()), dgate = ctx.workspace.take<T>(units.num_units());
    kernels::ProductList<T> hiddens(slots.num_experts(), ctx.workspace), rest(4 * slots.num_experts(), ctx.workspace);
    kernels::ProductList<T> second(slots.num_experts(), ctx.workspace);
    struct Gradients {
      Rows<T> gate, up, down;
    };
    auto room = ctx.workspace.take<Gradients>(slots.num_experts());
    for (Index e = 0; e < slots.num_experts(); ++e) {
      const GatedMlp& net = experts[static_cast<std::size_t>(e)];
      GatedMlp& grad = grads[static_cast<std::size_t>(e)];
      const Index begin = slots.offset[e], end = slots.offset[e + 1];
      if (begin == end) continue;
      const auto dy = dys.rows(begin, end);
      const auto seen = kernels::expert_rows(saved.x, slots, e);
      const auto dup_here = units.of(dup, e), dgate_here = units.of(dgate, e);
      const auto add_grad_weight = [&](const auto& weight, Rows<T> into, Rows<const T> d, const auto& x) {
        if (wants_gradient(weight, ctx)) rest.add(kernels::product_grad_weight<T>(d, x, into));
      };
      room[e] = {.gate = detail::gradient_room<T>(grad.gate.weight, ctx),
                 .up = detail::gradient_room<T>(grad.up.weight, ctx),
                 .down = detail::gradient_room<T>(grad.down.weight, ctx)};
      hiddens.add(kernels::product_grad_input<T>(dy, detail::dense_weight<T>(net.down.weight, ctx), dup_here));
      add_grad_weight(net.down.weight, room[e].down, dy, units.of(saved.product, e));
      add_grad_weight(net.gate.weight, room[e].gate, dgate_here, seen);
      add_grad_weight(net.up.weight, room[e].up, dup_here, seen);
      rest.add(kernels::product_grad_input<T>(dgate_here, detail::dense_weight<T>(net.gate.weight, ctx),
                                              dxs.rows(begin, end)));
      second.add(kernels::product_grad_input<T>(dup_here, detail::dense_weight<T>(net.up.weight, ctx),
                                                dxs.rows(begin, end), kernels::Store::add));
    }
    hiddens.run(ctx);
    units.map(
        dgate, ctx, [](auto d, auto g, auto u) { return Glu::gate_grad(d, g, u); }, dup, saved.gate_pre, saved.up_pre);
    units.map(
        dup, ctx, [](auto d, auto g, auto u) { return Glu::up_grad(d, g, u); }, dup, saved.gate_pre, saved.up_pre);
    rest.run(ctx);
    second.run(ctx);
    for (Index e = 0; e < slots.num_experts(); ++e) {
      if (slots.count(e) == 0) continue;
      const GatedMlp& net = experts[static_cast<std::size_t>(e)];
      GatedMlp& grad = grads[static_cast<std::size_t>(e)];
      detail::take_gradient<T>(net.gate.weight, room[e].gate, grad.gate.weight, ctx);
      detail::take_gradient<T>(net.up.weight, room[e].up, grad.up.weight, ctx);
      detail::take_gradient<T>(net.down.weight, room[e].down, grad.down.weight, ctx);
    }
    const auto bias = [&](auto member) {
      return [=, &ctx](Index e) {
        const auto at = static_cast<std::size_t>(e);
        return wants_gradient((experts[at].*member).bias, ctx) ? View<T, 1>((grads[at].*member).bias) : View<T, 1>();
      };
    };
    const Index nets = slots.num_experts();
    kernels::add_expert_column_sums<T>(
        nets, [&](Index e) { return dys.rows(slots.offset[e], slots.offset[e + 1]); }, bias(&GatedMlp::down), ctx);
    kernels::add_expert_column_sums<T>(
        nets, [&](Index e) { return units.of(dgate, e); }, bias(&GatedMlp::gate), ctx);
    kernels::add_expert_column_sums<T>(
        nets, [&](Index e) { return units.of(dup, e); }, bias(&GatedMlp::up), ctx);
  }

  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    GatedMlp<T, Act, WeightBy<To, W>> other({.width = up.in(), .hidden = up.out()});
    other.gate = gate.over(to);
    other.up = up.over(to);
    other.down = down.over(to);
    return other;
  }

 private:
  static const Options& checked(const Options& o) {
    expect_size("GatedMlp", "width", o.width);
    expect_size("GatedMlp", "hidden", o.hidden);
    return o;
  }

  struct Widths {
    Index in, out;
  };
  static void expect_fit(std::span<const GatedMlp> nets, const Widths& width) {
    for (std::size_t e = 0; e < nets.size(); ++e) {
      const kernels::NetOfMany who{"GatedMlp: ", static_cast<Index>(e), std::ssize(nets)};
      const Index hidden = nets[e].up.out();
      kernels::expect_linear(nets[e].up, {hidden, width.in}, who, "up");
      kernels::expect_linear(nets[e].gate, {hidden, width.in}, who, "gate");
      kernels::expect_linear(nets[e].down, {width.out, hidden}, who, "down");
    }
  }
  static void expect_gradients(std::span<const GatedMlp> grads, std::span<const GatedMlp> nets) {
    for (std::size_t e = 0; e < nets.size(); ++e) {
      const kernels::NetOfMany who{"GatedMlp::backward: the gradient of ", static_cast<Index>(e), std::ssize(nets)};
      kernels::expect_gradient(grads[e].gate, nets[e].gate, who, "gate");
      kernels::expect_gradient(grads[e].up, nets[e].up, who, "up");
      kernels::expect_gradient(grads[e].down, nets[e].down, who, "down");
    }
  }
};

}  // namespace gatefold
