#pragma once
#include "gatefold/routing/gating.hpp"
#include "gatefold/routing/plan_top_k.hpp"

namespace gatefold {

/// See SparseMixerRouter.
struct SparseMixerRouterOptions {
  Index width = 0, num_experts = 0, num_selected = 2;  // D, E, K
  double tolerance = 0.01;  ///< ε: who comes within 2 ε of the best logit, as a share of the larger, is in the running.
  Capacity capacity{};

  /// Itself. Throws OptionError if the options contradict each other.
  const SparseMixerRouterOptions& checked() const {
    const std::string_view who = "SparseMixerRouter";
    expect_size(who, "width", width);
    expect_size(who, "num_experts", num_experts);
    expect_option(num_selected >= 1 && num_selected <= num_experts, who, "num_selected", num_selected,
                  "1.." + std::to_string(num_experts));
    expect_rate(who, "tolerance", tolerance);
    capacity.check();
    return *this;
  }
};

/// SparseMixer-v2, as Phi-3.5-MoE routes: K picks, each with a softmax of its own over the few experts near the best.
/// With z = x weightT, for k = 1..K over the experts not picked before, m their largest logit:
///   kept = those with (m - z_i) / max(|z_i|, m) <= 2 ε; p_k = softmax of z over kept; the pick is the largest, and
///   w_k = p_k at the pick: near 1 for each of them, and not renormalised
/// Where ctx.rng is set, as in training, the pick is drawn from p_k (Gumbel), and w_k counts a third where the pick is
/// not the largest and a draw of U(0, 1) is at most 3/4 (the two stages of Heun's third-order method). The way back
/// leaves that factor out: dz = dw_k w_k (onehot(pick) - p_k), an estimate of what the choice itself has to learn and,
/// without draws, the exact gradient. A choice that RoutingTape replays from outside of `kept` has the weight 0.
///
/// Keeps logits, gates (the plain softmax, for reports and losses) and its logarithm, and the p_k, (3 + K) S E.
/// 2 S D E flops forward, twice that backward. (Liu et al. 2024, «GRIN: GRadient-INformed MoE», arXiv 2409.12136.)
template <Real T>
struct SparseMixerRouter {
  using Scalar = T;
  using Options = SparseMixerRouterOptions;
  struct Saved : Routing<T> {
    Gating<T> gating;
    Rows<const T> share;  // [S K, E] the p_k, 0 outside of what was kept
  };

  Options options;
  Tensor<T, 2> weight;  // [E, D]

  /// Throws OptionError if the options contradict each other.
  explicit SparseMixerRouter(const Options& o) : options(o.checked()), weight({o.num_experts, o.width}) {}

  static void visit(auto& v, auto&... self) { v("weight", self.weight...); }
  Index num_experts() const { return options.num_experts; }

  Saved forward(Rows<const T> x, Context& ctx) const {
    options.checked();  // anew, since they may be assigned
    const Index rows = x.extent(0), selected = options.num_selected;
    expect_shape(x, {rows, options.width}, "SparseMixerRouter::forward: x");
    expect_shape(weight.view(), {options.num_experts, options.width}, "SparseMixerRouter::forward: weight");
    detail::expect_layout(ctx.layout, rows, "SparseMixerRouter::forward: ctx.layout->modality");
    auto& ws = ctx.workspace;
    Saved saved;
    auto choice = ws.take<Index>(rows, selected);
    saved.gating = gate_forward<T>(x, {.weight = weight}, {}, ctx);
    saved.gates = saved.gating.gates;
    const bool given = ctx.tape && ctx.tape->take(choice, options.num_experts);
    auto share = ws.take<T>(rows * selected, options.num_experts);
    auto pick_weight = ws.take<T>(rows, selected);
    const Draws draws{ctx.rng ? std::optional(ctx.rng->next_stream().state()) : std::nullopt, options.num_experts};
    kernels::for_each_row(rows, selected * options.num_experts, ctx, [&](Index row) {
      Index* const picks = choice[row].data();
      for (Index k = 0; k < selected; ++k) {
        const Index at = row * selected + k;
        T* const p = share[at].data();
        const Index best = keep(saved.gating.logits[row], picks, k, p);
        if (!given) picks[k] = best < 0 || !draws ? best : draws.pick(at, p);
        if (picks[k] < 0) {  // no expert is open to the token any more
          std::fill(picks + k, picks + selected, Index{-1});
          std::fill_n(p, (selected - k) * options.num_experts, T(0));
          return;
        }
        pick_weight(row, k) = p[picks[k]];
        if (draws && picks[k] != best && draws.second_stage(at)) pick_weight(row, k) = p[picks[k]] / T(3);
      }
    });
    detail::forget_padding(choice, ctx.layout);
    if (ctx.tape) ctx.tape->keep(choice);
    saved.gating.chosen_by_logits = !given && !draws;
    saved.scores = saved.gating.scores(choice, 0);
    saved.share = share;
    saved.plan = plan_top_k<T>(saved.gates, choice, {.capacity = options.capacity}, ctx);
    auto combine = ws.take<T>(saved.plan.num_slots());
    kernels::for_each_row(saved.plan.num_slots(), 1, ctx,
                          [&](Index n) { combine[n] = pick_weight(saved.plan.token[n], saved.plan.rank[n]); });
    saved.weight = combine;
    return saved;
  }

  /// Overwrites dx; dlogits may be empty.
  void backward(const Saved& saved, View<const T, 1> dweight, Rows<const T> dlogits, Rows<T> dx,
                SparseMixerRouter& grad, Context& ctx) const {
    const Index rows = saved.gates.extent(0), experts = options.num_experts;
    expect_shape(dweight, {saved.plan.num_slots()}, "SparseMixerRouter::backward: dweight");
    if (dlogits.size()) expect_shape(dlogits, saved.gates.shape(), "SparseMixerRouter::backward: dlogits");
    expect_shape(dx, {rows, options.width}, "SparseMixerRouter::backward: dx");
    expect_shape(grad.weight.view(), weight.shape(), "SparseMixerRouter::backward: grad.weight");
    const auto scope = ctx.workspace.scope();
    auto dscores = ctx.workspace.take<T>(rows, experts);
    kernels::for_each_row(rows, experts * options.num_selected, ctx, [&](Index row) {
      T* const d = dscores[row].data();
      std::fill_n(d, experts, T(0));
      const auto slots = saved.plan.slots_of_token(row);
      for (Index i = 0; i < slots.extent(0); ++i) {
        const Index n = slots[i], pick = saved.plan.expert[n];
        const auto p = saved.share[row * options.num_selected + saved.plan.rank[n]];
        const T by_share = dweight[n] * p[pick];
        d[pick] = d[pick] + by_share;
        for (Index e = 0; e < experts; ++e) d[e] = d[e] - by_share * p[e];
      }
    });
    gate_backward<T>(saved.gating, weight, dscores, dlogits, dx, grad.weight, {}, ctx, GradientBy::logits);
  }

 private:
  /// The random numbers of a pass, each by its place alone.
  struct Draws {
    std::optional<Rng::State> state;
    Index num_experts;

    explicit operator bool() const { return state.has_value(); }
    double uniform(Index at, Index e) const {
      const auto index = static_cast<std::uint64_t>(at * (num_experts + 1) + e);
      return Rng(Rng::State{state->seed, state->stream, 2 * index}).uniform();  // which takes two words
    }
    /// By the shares, of which those outside of what was kept are 0: the largest log p + Gumbel.
    Index pick(Index at, const T* p) const {
      Index best = -1;
      double most = 0;
      for (Index e = 0; e < num_experts; ++e) {
        const double share = to_double(p[e]);
        if (share == 0) continue;
        const double value = std::log(share) - std::log(-std::log1p(-uniform(at, e)));
        if (best < 0 || value > most) best = e, most = value;
      }
      return best;
    }
    bool second_stage(Index at) const { return uniform(at, num_experts) <= 0.75; }
  };

  /// p = the softmax over what is kept for pick k; returns the expert with the largest logit (the smaller index of
  /// equals, NaN last), or -1 where all are closed, by a logit of -inf or picked before.
  Index keep(View<const T, 1> z, const Index* picks, Index k, T* p) const {
    const auto open = [&](Index e) { return std::find(picks, picks + k, e) == picks + k; };
    Index best = -1;
    for (Index e = 0; e < options.num_experts; ++e) {
      if (!open(e) || to_double(z[e]) == -std::numeric_limits<double>::infinity()) continue;
      if (best < 0 || z[best] < z[e] || (std::isnan(to_double(z[best])) && !std::isnan(to_double(z[e])))) best = e;
    }
    if (best < 0) return best;
    const double most = to_double(z[best]);
    T sum(0);
    for (Index e = 0; e < options.num_experts; ++e) {
      const double v = to_double(z[e]);
      const bool beyond = (most - v) / std::max(std::abs(v), most) > 2 * options.tolerance;  // 0 / 0 is not
      p[e] = !open(e) || beyond ? T(0) : kernels::exp(T(z[e] - z[best]));
      sum = sum + p[e];
    }
    for (Index e = 0; e < options.num_experts; ++e) p[e] = p[e] / sum;
    return best;
  }
};

}  // namespace gatefold
