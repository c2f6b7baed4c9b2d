#pragma once
#include "gatefold/nn/activation.hpp"
#include "gatefold/nn/linear.hpp"
#include "gatefold/products/grouped.hpp"
#include "gatefold/products/packed_ffn.hpp"
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// y = down(act(up(x))): the feed-forward net of a transformer block, and the usual expert: many of them run as one
/// (GroupedExpert). 4 R D H flops forward, twice that backward. Keeps up(x) and its activation, 2 [R, H]; over packed
/// weights nothing, and the hidden units never leave the cache.
template <Real T, Activation Act = Gelu, WeightStorage<T> W = Tensor<T, 2>>
struct Mlp {
  using Scalar = T;
  struct Options {
    Index width, hidden;  // D, H
    Bias bias = Bias::zero;
  };
  static constexpr bool kTrainable = TrainableStorage<W, T>;
  struct Kept {
    Rows<const T> x;             // as it came
    SlotRows slots;              // the rows of it that each net saw
    kernels::HiddenRows hidden;  // [N, H_e] where the units of each net lie
    View<const T, 1> pre, act;   // [N H_e] before and after the activation
  };
  using Saved = std::conditional_t<kTrainable, Kept, Nothing>;
  using GroupedSaved = Saved;

  Linear<T, W> up, down;

  /// Throws OptionError for a size below 1.
  explicit Mlp(Options o)
      : up({.in = checked(o).width, .out = o.hidden, .bias = o.bias}),
        down({.in = o.hidden, .out = o.width, .bias = o.bias}) {}
  static void visit(auto& v, auto&... self) {
    v("up", self.up...);
    v("down", self.down...);
  }

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    expect_shape(x, {x.extent(0), up.in()}, "Mlp::forward: x");
    expect_shape(y, {x.extent(0), down.out()}, "Mlp::forward: y");
    return keep<Saved>(ctx, [&] {
      return forward_grouped({this, 1}, x, SlotRows::all(x.extent(0), ctx.workspace), y, ctx);
    });
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, Mlp& grad, Context& ctx) const requires kTrainable {
    expect_shape(dy, {saved.slots.num_slots(), down.out()}, "Mlp::backward: dy");
    expect_shape(dx, {saved.slots.num_slots(), up.in()}, "Mlp::backward: dx");
    backward_grouped({this, 1}, saved, dy, dx, {&grad, 1}, ctx);
  }

  /// Throws ShapeError «Mlp: experts[1].up.weight has shape [64, 24], expected [64, 32]» unless all nets take and give
  /// rows of one width. Their hidden widths may differ.
  static void expect_fit(std::span<const Mlp> experts) {
    if (!experts.empty()) expect_fit(experts, {experts[0].up.in(), experts[0].down.out()});
  }

  /// experts [E], of any hidden width each, x [S, D], ys [N, D]
  static GroupedSaved forward_grouped(std::span<const Mlp> experts, Rows<const T> x, SlotRows slots, Rows<T> ys,
                                      Context& ctx) {
    expect_fit(experts, {x.extent(1), ys.extent(1)});
    if constexpr (kTrainable) {
      const kernels::HiddenRows hidden(
          slots, [&](Index e) { return experts[static_cast<std::size_t>(e)].up.out(); }, ctx.workspace);
      auto pre = ctx.workspace.take<T>(hidden.num_units()), act = ctx.workspace.take<T>(hidden.num_units());
      const auto scope = ctx.workspace.scope();
      kernels::ProductList<T> ups(slots.num_experts(), ctx.workspace), downs(slots.num_experts(), ctx.workspace);
      for (Index e = 0; e < slots.num_experts(); ++e) {
        const Mlp& net = experts[static_cast<std::size_t>(e)];
        const Index begin = slots.offset[e], end = slots.offset[e + 1];
        if (begin == end) continue;
        const auto seen = kernels::expert_rows(x, slots, e);
        if (ctx.calibration) ctx.calibration->see<T>(&net.up.weight, seen, ctx);
        ups.add(kernels::product<T>(seen, detail::dense_weight<T>(net.up.weight, ctx), hidden.of(pre, e),
                                    net.up.bias_or_null()));
        downs.add(kernels::product<T>(hidden.of(act, e), detail::dense_weight<T>(net.down.weight, ctx),
                                      ys.rows(begin, end), net.down.bias_or_null()));
      }
      ups.run(ctx, [&](const kernels::ProductBlock& block) {
        const Rows<T> from = kernels::block_of(ups[block.product].c, block);
        const Rows<T> to(act.data() + (from.data() - pre.data()), from.shape(), {from.stride(0)});
        kernels::map_block<T>(
            to, ctx.isa, [](auto v) { return Act::value(v); }, from);
      });
      for (Index e = 0; ctx.calibration && e < slots.num_experts(); ++e)
        ctx.calibration->see<T>(&experts[static_cast<std::size_t>(e)].down.weight,
                                kernels::Operand<T>(hidden.of(act, e)), ctx);
      downs.run(ctx);
      return {x, slots, hidden, pre, act};
    } else if constexpr (detail::is_packed<W>) {
      const auto scope = ctx.workspace.scope();
      auto nets = ctx.workspace.take<kernels::PackedFfn<typename W::Format>>(slots.num_experts());
      for (Index e = 0; e < slots.num_experts(); ++e) {
        const Mlp& net = experts[static_cast<std::size_t>(e)];
        nets[e] = {.up = &net.up.weight,
                   .down = &net.down.weight,
                   .up_bias = net.up.bias_or_null(),
                   .down_bias = net.down.bias_or_null()};
      }
      kernels::packed_ffn<Act, typename W::Format>(nets, x, slots, ys, ctx);
      return {};
    } else {
      detail::for_each_expert<T>(x, slots, ys, ctx, [&](Index e, Rows<const T> seen, Rows<T> y) {
        const Mlp& net = experts[static_cast<std::size_t>(e)];
        auto hidden = ctx.workspace.take<T>(seen.extent(0), net.up.out());
        (void)net.up.forward(seen, hidden, ctx);
        kernels::map_rows<T>(
            hidden, ctx, [](auto v) { return Act::value(v); }, hidden);
        (void)net.down.forward(hidden, y, ctx);
      });
      return {};
    }
  }

  /// dys, dxs [N, D]
  static void backward_grouped(std::span<const Mlp> experts, const GroupedSaved& saved, Rows<const T> dys, Rows<T> dxs,
                               std::span<Mlp> grads, Context& ctx) requires kTrainable {
    const auto scope = ctx.workspace.scope();
    const auto& slots = saved.slots;
    const auto& units = saved.hidden;
    expect_gradients(grads, experts);
    auto dpre = ctx.workspace.take<T>(units.num_units());
    auto dup = ctx.workspace.take<Rows<T>>(slots.num_experts()), ddown = ctx.workspace.take<Rows<T>>(dup.extent(0));
    kernels::ProductList<T> hidden(slots.num_experts(), ctx.workspace), rest(3 * slots.num_experts(), ctx.workspace);
    for (Index e = 0; e < slots.num_experts(); ++e) {
      const Mlp& net = experts[static_cast<std::size_t>(e)];
      Mlp& grad = grads[static_cast<std::size_t>(e)];
      const Index begin = slots.offset[e], end = slots.offset[e + 1];
      if (begin == end) continue;
      const auto dy = dys.rows(begin, end), act = units.of(saved.act, e);
      const auto d = units.of(dpre, e);
      dup[e] = detail::gradient_room<T>(grad.up.weight, ctx);
      ddown[e] = detail::gradient_room<T>(grad.down.weight, ctx);
      hidden.add(kernels::product_grad_input<T>(dy, detail::dense_weight<T>(net.down.weight, ctx), d));
      if (wants_gradient(net.down.weight, ctx)) rest.add(kernels::product_grad_weight<T>(dy, act, ddown[e]));
      rest.add(kernels::product_grad_input<T>(d, detail::dense_weight<T>(net.up.weight, ctx), dxs.rows(begin, end)));
      if (wants_gradient(net.up.weight, ctx))
        rest.add(kernels::product_grad_weight<T>(d, kernels::expert_rows(saved.x, slots, e), dup[e]));
    }
    hidden.run(ctx, [&](const kernels::ProductBlock& block) {
      const Rows<T> d = kernels::block_of(hidden[block.product].c, block);
      const Rows<const T> pre(saved.pre.data() + (d.data() - dpre.data()), d.shape(), {d.stride(0)});
      kernels::map_block<T>(
          d, ctx.isa, [](auto v, auto x) { return v * Act::slope(x); }, d, pre);
    });
    rest.run(ctx);
    for (Index e = 0; e < slots.num_experts(); ++e) {
      if (slots.count(e) == 0) continue;
      const Mlp& net = experts[static_cast<std::size_t>(e)];
      Mlp& grad = grads[static_cast<std::size_t>(e)];
      detail::take_gradient<T>(net.up.weight, dup[e], grad.up.weight, ctx);
      detail::take_gradient<T>(net.down.weight, ddown[e], grad.down.weight, ctx);
    }
    const auto bias = [&](auto member) {
      return [=, &ctx](Index e) {
        const auto at = static_cast<std::size_t>(e);
        return wants_gradient((experts[at].*member).bias, ctx) ? View<T, 1>((grads[at].*member).bias) : View<T, 1>();
      };
    };
    const Index nets = slots.num_experts();
    kernels::add_expert_column_sums<T>(
        nets, [&](Index e) { return dys.rows(slots.offset[e], slots.offset[e + 1]); }, bias(&Mlp::down), ctx);
    kernels::add_expert_column_sums<T>(
        nets, [&](Index e) { return units.of(dpre, e); }, bias(&Mlp::up), ctx);
  }

  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    Mlp<T, Act, WeightBy<To, W>> other({.width = up.in(), .hidden = up.out()});
    other.up = up.over(to);
    other.down = down.over(to);
    return other;
  }

 private:
  static const Options& checked(const Options& o) {
    expect_size("Mlp", "width", o.width);
    expect_size("Mlp", "hidden", o.hidden);
    return o;
  }

  struct Widths {
    Index in, out;
  };
  static void expect_fit(std::span<const Mlp> nets, const Widths& width) {
    for (std::size_t e = 0; e < nets.size(); ++e) {
      const kernels::NetOfMany who{"Mlp: ", static_cast<Index>(e), std::ssize(nets)};
      const Index hidden = nets[e].up.out();
      kernels::expect_linear(nets[e].up, {hidden, width.in}, who, "up");
      kernels::expect_linear(nets[e].down, {width.out, hidden}, who, "down");
    }
  }
  /// A gradient is as its net.
  static void expect_gradients(std::span<const Mlp> grads, std::span<const Mlp> nets) {
    for (std::size_t e = 0; e < nets.size(); ++e) {
      const kernels::NetOfMany who{"Mlp::backward: the gradient of ", static_cast<Index>(e), std::ssize(nets)};
      kernels::expect_gradient(grads[e].up, nets[e].up, who, "up");
      kernels::expect_gradient(grads[e].down, nets[e].down, who, "down");
    }
  }
};

}  // namespace gatefold
