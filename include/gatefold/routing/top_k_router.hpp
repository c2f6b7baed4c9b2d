#pragma once
#include "gatefold/routing/gating.hpp"
#include "gatefold/routing/plan_top_k.hpp"

namespace gatefold {

/// By what the gates of a token are divided to become combine weights.
enum class Renormalise {
  none,             ///< Nothing: the weights sum to at most 1 (V-MoE, LIMoE, Switch).
  before_dropping,  ///< The sum of the K selected gates (GShard, CLIP-MoE: softmax over the selected logits).
  after_dropping,   ///< The sum of the gates that got a seat (DeepSpeed): softmax over the logits of the seated.
};

/// Each token asks for its K best experts; a full expert turns the token away. Gates are softmax(x wT) over all E
/// before the selection, which is what lets K = 1 learn. Keeps logits, their log-softmax and gates, 3 S E (4 with
/// noise); with jitter also 2 S D, with padding S D. 2 S D E flops forward, twice that backward. (Riquelme et al. 2021,
/// «Scaling vision with sparse mixture of experts»; Mustafa et al. 2022, LIMoE.)
template <Real T>
struct TopKRouter {
  using Scalar = T;
  struct Options {
    Index width = 0, num_experts = 0, num_selected = 1;  // D, E, K
    Capacity capacity{};
    ClaimOrder claim_order = ClaimOrder::rank_major;
    Priority priority = Priority::position;
    Renormalise renormalise = Renormalise::none;
    double noise = 0;      ///< Training: the logits get N(0, (noise / E)^2).
    double jitter = 0;     ///< Training: the router's view of x is multiplied by U(1 - jitter, 1 + jitter).
    Index group_size = 0;  ///< Consecutive rows that share the seats; 0 means all rows of a call.
  };
  struct Saved : Routing<T> {
    Gating<T> gating;
    View<const T, 1> divisor;  // [S] with renormalised gates
  };

  Options options;
  Tensor<T, 2> weight;  // [E, D]; no bias, as in the papers

  /// Throws OptionError if the options contradict each other.
  explicit TopKRouter(const Options& o) : options(checked(o)), weight({o.num_experts, o.width}) {}

  static void visit(auto& v, auto&... self) { v("weight", self.weight...); }
  Index num_experts() const { return options.num_experts; }

  Saved forward(Rows<const T> x, Context& ctx) const {
    checked(options);  // anew, since they may be assigned
    const Index rows = x.extent(0);
    expect_shape(x, {rows, options.width}, "TopKRouter::forward: x");
    expect_shape(weight.view(), {options.num_experts, options.width}, "TopKRouter::forward: weight");
    detail::expect_layout(ctx.layout, rows, "TopKRouter::forward: ctx.layout->modality");
    auto& ws = ctx.workspace;
    Saved saved;
    const RouterNoise noise{.normal = options.noise, .jitter = options.jitter};
    auto choice = ws.take<Index>(rows, options.num_selected);
    saved.gating = gate_forward<T>(x, weight, noise, choice, ctx);
    saved.gates = saved.gating.gates;
    saved.scores = saved.gating.scores(choice, options.group_size);
    const SeatingOptions seating{.capacity = options.capacity,
                                 .claim_order = options.claim_order,
                                 .priority = options.priority,
                                 .group_size = options.group_size};
    saved.plan = plan_top_k<T>(saved.gates, choice, seating, ctx);

    auto combine = ws.take<T>(saved.plan.num_slots());
    auto divisor = options.renormalise == Renormalise::none ? View<T, 1>() : ws.take<T>(rows);
    if (options.renormalise == Renormalise::none)
      slot_gates<T>(saved.gates, saved.plan, combine, ctx);
    else
      kernels::for_each_row(rows, options.num_selected, ctx, [&](Index row) {
        const auto slots = saved.plan.slots_of_token(row);
        const auto gate = [&](Index i) { return saved.gates(row, saved.plan.expert[slots[i]]); };
        T sum(0);
        if (options.renormalise == Renormalise::before_dropping)
          for (Index k = 0; k < saved.plan.requested[row]; ++k) sum = sum + saved.gates(row, choice(row, k));
        if (options.renormalise == Renormalise::after_dropping)
          for (Index i = 0; i < slots.extent(0); ++i) sum = sum + gate(i);
        divisor[row] = sum;
        // Where the best experts turned the token away, the gates of the seated may have lost their digits, or all be
        // 0.
        if (to_double(sum) < kVanishing && slots.extent(0) > 0) return renormalise_logits(saved, row, combine);
        for (Index i = 0; i < slots.extent(0); ++i) combine[slots[i]] = gate(i) / sum;
      });
    saved.weight = combine;
    saved.divisor = divisor;
    return saved;
  }

  /// The only way back is through the combine weights and the auxiliary losses. Overwrites dx; dlogits may be empty.
  void backward(const Saved& saved, View<const T, 1> dweight, Rows<const T> dlogits, Rows<T> dx, TopKRouter& grad,
                Context& ctx) const {
    const Index rows = saved.gates.extent(0);
    expect_shape(dweight, {saved.plan.num_slots()}, "TopKRouter::backward: dweight");
    if (dlogits.size()) expect_shape(dlogits, saved.gates.shape(), "TopKRouter::backward: dlogits");
    expect_shape(dx, {rows, options.width}, "TopKRouter::backward: dx");
    expect_shape(grad.weight.view(), weight.shape(), "TopKRouter::backward: grad.weight");
    const auto scope = ctx.workspace.scope();
    auto dscores = ctx.workspace.take<T>(rows, options.num_experts);
    const auto by = options.renormalise == Renormalise::none ? GradientBy::gates : GradientBy::logits;
    kernels::for_each_row(rows, options.num_experts, ctx, [&](Index row) {
      std::fill_n(dscores[row].data(), options.num_experts, T(0));
      const auto slots = saved.plan.slots_of_token(row);
      if (by == GradientBy::gates) {
        for (Index i = 0; i < slots.extent(0); ++i) dscores(row, saved.plan.expert[slots[i]]) = dweight[slots[i]];
        return;
      }
      if (slots.extent(0) == 0) return;
      // w is a softmax over some of the logits: dl_i = w_i (dw_i - sum_j w_j dw_j), where dw = 0 for those turned away.
      T mean(0);
      for (Index i = 0; i < slots.extent(0); ++i) mean = mean + saved.weight[slots[i]] * dweight[slots[i]];
      if (options.renormalise == Renormalise::before_dropping)
        for (Index k = 0; k < saved.plan.requested[row]; ++k) {
          const Index e = saved.scores.choice(row, k);
          dscores(row, e) = saved.gates(row, e) / saved.divisor[row] * (T(0) - mean);
        }
      for (Index i = 0; i < slots.extent(0); ++i)
        dscores(row, saved.plan.expert[slots[i]]) = saved.weight[slots[i]] * (dweight[slots[i]] - mean);
    });
    gate_backward<T>(saved.gating, weight, dscores, dlogits, dx, grad.weight, ctx, by);
  }

 private:
  using Limits = std::numeric_limits<std::conditional_t<std::is_floating_point_v<T>, T, double>>;
  /// Gates that sum to less are made again from their logits: beside such a sum, what exp rounds to 0 would count.
  static constexpr double kVanishing = double{Limits::min()} / (double{Limits::epsilon()} * double{Limits::epsilon()});

  /// The weights of a token whose seated gates vanish beside those that turned it away.
  static void renormalise_logits(const Saved& saved, Index row, View<T, 1> weight) {
    const auto slots = saved.plan.slots_of_token(row);
    const auto logit = [&](Index i) { return saved.gating.noisy_logits(row, saved.plan.expert[slots[i]]); };
    const T most = logit(0);  // seated in the order of their choice: the first is the largest
    T sum(0);
    for (Index i = 0; i < slots.extent(0); ++i) sum = sum + (weight[slots[i]] = kernels::exp(T(logit(i) - most)));
    for (Index i = 0; i < slots.extent(0); ++i) weight[slots[i]] = weight[slots[i]] / sum;
  }

  static const Options& checked(const Options& o) {
    const std::string_view who = "TopKRouter";
    expect_size(who, "width", o.width);
    expect_size(who, "num_experts", o.num_experts);
    if (o.num_selected < 1 || o.num_selected > o.num_experts)
      throw OptionError("TopKRouter: num_selected is " + std::to_string(o.num_selected) + ", expected 1.." +
                        std::to_string(o.num_experts));
    if (o.num_selected == 1 && o.renormalise != Renormalise::none)
      throw OptionError(
          "TopKRouter: one expert per token with renormalised gates; the gate is then constantly 1, so the router gets "
          "no gradient. Expected num_selected of at least 2 or Renormalise::none");
    expect_option(o.group_size >= 0, who, "group_size", o.group_size, "0 (all rows) or more");
    o.capacity.check();
    detail::check_router_noise({.normal = o.noise, .jitter = o.jitter}, who);
    return o;
  }
};

}  // namespace gatefold
