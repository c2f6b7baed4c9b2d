#pragma once
#include "gatefold/routing/gating.hpp"
#include "gatefold/routing/plan_expert_choice.hpp"

namespace gatefold {

/// Each expert takes its C best tokens of each group, so the load is even by construction; a token gets 0 to E experts,
/// each with its gate as the weight. C = factor * S / E, clamped to S; an expert does not take tokens with the logit
/// -inf for it, and may then take fewer. The fate of a token depends on all tokens of its group: not for causal
/// decoders. Keeps and costs what TopKRouter does. (Zhou et al. 2022, «Mixture-of-experts with expert choice routing».)
template <Real T>
struct ExpertChoiceRouter {
  using Scalar = T;
  struct Options {
    Index width = 0, num_experts = 0;  // D, E
    Capacity capacity{.factor = 2, .rounding = Capacity::Rounding::half_even, .minimum = 1};
    double noise = 0;      ///< Training: the logits get N(0, (noise / E)^2).
    double jitter = 0;     ///< Training: the router's view of x is multiplied by U(1 - jitter, 1 + jitter).
    Index group_size = 0;  ///< Consecutive rows an expert chooses from; 0 means all rows of a call.
  };
  static constexpr bool kMixesRows = true;  // experts choose among them
  struct Saved : Routing<T> {               // scores.choice is [S, 0]: no token chooses
    Gating<T> gating;
  };

  Options options;
  Tensor<T, 2> weight;  // [E, D]

  /// Throws OptionError if the options contradict each other.
  explicit ExpertChoiceRouter(const Options& o) : options(checked(o)), weight({o.num_experts, o.width}) {}

  static void visit(auto& v, auto&... self) { v("weight", self.weight...); }
  Index num_experts() const { return options.num_experts; }

  Saved forward(Rows<const T> x, Context& ctx) const {
    checked(options);  // anew, since they may be assigned
    const Index rows = x.extent(0);
    expect_shape(x, {rows, options.width}, "ExpertChoiceRouter::forward: x");
    expect_shape(weight.view(), {options.num_experts, options.width}, "ExpertChoiceRouter::forward: weight");
    detail::expect_layout(ctx.layout, rows, "ExpertChoiceRouter::forward: ctx.layout->modality");
    Saved saved;
    const RouterNoise noise{.normal = options.noise, .jitter = options.jitter};
    saved.gating = gate_forward<T>(x, {.weight = weight, .noise = noise}, {}, ctx);
    saved.gates = saved.gating.gates;
    saved.scores = saved.gating.scores(View<const Index, 2>(nullptr, {rows, 0}), options.group_size);
    saved.plan =
        plan_expert_choice<T>(saved.gates, saved.gating.noisy_logits, options.capacity, options.group_size, ctx);
    auto combine = ctx.workspace.take<T>(saved.plan.num_slots());
    slot_gates<T>(saved.gates, saved.plan, combine, ctx);
    saved.weight = combine;
    return saved;
  }

  /// Overwrites dx; dlogits may be empty.
  void backward(const Saved& saved, View<const T, 1> dweight, Rows<const T> dlogits, Rows<T> dx,
                ExpertChoiceRouter& grad, Context& ctx) const {
    const Index rows = saved.gates.extent(0);
    expect_shape(dweight, {saved.plan.num_slots()}, "ExpertChoiceRouter::backward: dweight");
    if (dlogits.size()) expect_shape(dlogits, saved.gates.shape(), "ExpertChoiceRouter::backward: dlogits");
    expect_shape(dx, {rows, options.width}, "ExpertChoiceRouter::backward: dx");
    expect_shape(grad.weight.view(), weight.shape(), "ExpertChoiceRouter::backward: grad.weight");
    const auto scope = ctx.workspace.scope();
    auto dgates = ctx.workspace.take_zeroed<T>(rows, options.num_experts);
    for (Index n = 0; n < saved.plan.num_slots(); ++n) dgates(saved.plan.token[n], saved.plan.expert[n]) = dweight[n];
    gate_backward<T>(saved.gating, weight, dgates, dlogits, dx, grad.weight, {}, ctx);
  }

 private:
  static const Options& checked(const Options& o) {
    const std::string_view who = "ExpertChoiceRouter";
    expect_size(who, "width", o.width);
    expect_size(who, "num_experts", o.num_experts);
    expect_option(o.group_size >= 0, who, "group_size", o.group_size, "0 (all rows) or more");
    o.capacity.check();
    detail::check_router_noise({.normal = o.noise, .jitter = o.jitter}, who);
    return o;
  }
};

}  // namespace gatefold
