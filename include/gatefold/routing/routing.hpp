#pragma once
#include "gatefold/module/router_scores.hpp"
#include "gatefold/routing/dispatch_plan.hpp"

namespace gatefold {

/// What every router hands on: the scores for auxiliary losses, the gates, who sits where, and with which weight the
/// output of each slot counts.
template <Real T>
struct Routing {
  RouterScores<T> scores;
  Rows<const T> gates;      // [S, E] scores of the noisy logits (RouterScores tells what these may be)
  View<const T, 1> weight;  // [N]
  DispatchPlan plan;
};

/// weight[n] = the gate of the token in slot n for its expert. // gates [S, E], weight [N]
template <Real T>
void slot_gates(Rows<const T> gates, const DispatchPlan& plan, View<T, 1> weight, Context& ctx) {
  kernels::for_each_row(plan.num_slots(), 1, ctx, [&](Index n) { weight[n] = gates(plan.token[n], plan.expert[n]); });
}

/// Seats tokens at experts. Selection is piecewise constant, so `backward` knows two ways in: the gradient of the
/// combine weights, dweight // [N], and that of auxiliary losses by the logits, dlogits // [S, E] or an empty view.
/// It overwrites dx.
template <class R>
concept Router = Module<R> && std::derived_from<typename R::Saved, Routing<typename R::Scalar>> &&
    std::is_trivially_destructible_v<typename R::Saved> &&
    requires(const R& router, R& grad, const typename R::Saved& saved, Rows<const typename R::Scalar> x,
             View<const typename R::Scalar, 1> dweight, Rows<const typename R::Scalar> dlogits,
             Rows<typename R::Scalar> dx, Context& ctx) {
  { router.num_experts() } -> std::convertible_to<Index>;
  { router.forward(x, ctx) } -> std::same_as<typename R::Saved>;
  { router.backward(saved, dweight, dlogits, dx, grad, ctx) } -> std::same_as<void>;
};

}  // namespace gatefold
