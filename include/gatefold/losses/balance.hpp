#pragma once
#include <vector>

#include "gatefold/losses/token_groups.hpp"

namespace gatefold {

/// E * sum_e f_e m_e: f_e the share of tokens that ask for expert e, before capacity and without gradient, m_e the mean
/// probability p = s / sum s (GShard, Lepikhin et al. 2020; Switch, Fedus et al. 2021). Mean over groups. Padding and
/// NaN tokens: see TokenGroups. O(S E).
///
/// Over each sequence by itself, with any_over_k, it is the complementary loss of DeepSeek-V3 (its alpha: the weight of
/// the term). Over the global batch (Qwen3; Qiu et al. 2025, «Demons in the detail», arXiv 2501.11873) f counts the
/// choices of all micro-batches and workers, while m is of the tokens at hand: carry() what went before.
///   balance.carry(saved.routing.plan.demand);   // after each micro-batch, or what other workers counted
///   balance.carried.clear();                    // after the optimiser step
///
/// Over several layers as one (CLIP-MoE's code), f counts the choices of all: count() each, then give each its
/// RouterScores::beside, what the others have. The mean of the layers' values is then that of all of them together.
struct Balance {
  static constexpr std::string_view kName = "balance";

  /// Libraries differ, and so does the value of perfect balance.
  enum class Picks {
    first,       ///< f counts the first choice; balanced: 1 (GShard, Switch, V-MoE, CLIP-MoE's paper).
    any,         ///< f counts each of the K choices; balanced: K (flaxformer, CLIP-MoE's code).
    any_over_k,  ///< The same divided by K; balanced: 1 (DeepSpeed, megablocks).
  };
  enum class Probs {
    clean,
    noisy,  ///< Softmax of the logits that were selected by (V-MoE in training).
  };
  Picks picks = Picks::first;
  Probs probs = Probs::clean;
  LossScope scope = LossScope::group;
  /// [E] choices that f counts besides those of the pass, or none. For Picks::any and any_over_k: of a count nobody
  /// knows which were first.
  std::vector<double> carried{};

  /// Adds to what is carried: DispatchPlan::demand of a pass, say. Allocates the first time.
  void carry(View<const Index, 1> demand) {
    if (carried.empty()) carried.resize(static_cast<std::size_t>(demand.extent(0)));
    expect_shape(demand, {std::ssize(carried)}, "Balance::carry: demand");
    for (Index e = 0; e < demand.extent(0); ++e) carried[static_cast<std::size_t>(e)] += static_cast<double>(demand[e]);
  }

  /// Adds to choices what f counts of these scores; returns of how many tokens. // choices [E]
  template <Real T>
  double count(const RouterScores<T>& given, View<double, 1> choices, Context& ctx) const {
    expect_shape(choices, {given.num_experts()}, "Balance::count: choices");
    const auto scratch = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {.scope = LossScope::batch}, ctx);
    if (groups.count == 0) return 0;
    for_each_choice(scores, groups[0], [&](Index e) { choices[e] += 1; });
    return static_cast<double>(groups[0].size());
  }

  template <Real T>
  T value(const RouterScores<T>& given, Context& ctx) const {
    using W = Wide<T>;
    const auto scratch = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {.scope = scope}, ctx);
    const auto share = ctx.workspace.take<W>(scores.num_experts());
    const auto p = ctx.workspace.take<T>(scores.num_experts());
    W total(0.0);
    for (Index g = 0; g < groups.count; ++g) {
      count_choices(scores, groups[g], share);
      W sum(0.0);
      for (const Index t : groups[g]) {
        fill_probs(scores, t, p);
        for (Index e = 0; e < p.extent(0); ++e) sum += share[e] * W(p[e]);
      }
      total += sum / W(static_cast<double>(groups[g].size()));
    }
    return static_cast<T>(groups.count ? total / W(static_cast<double>(groups.count)) : total);
  }

  /// d/dp_te = E f_e / S, then the softmax.
  template <Real T>
  void add_gradient(const RouterScores<T>& given, std::type_identity_t<T> scale, std::type_identity_t<Rows<T>> dlogits,
                    Context& ctx) const {
    using W = Wide<T>;
    expect_shape(dlogits, given.logits.shape(), "Balance::add_gradient: dlogits");
    const auto scratch = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {.scope = scope}, ctx);
    const auto share = ctx.workspace.take<W>(scores.num_experts());
    const auto p = ctx.workspace.take<T>(scores.num_experts());
    for (Index g = 0; g < groups.count; ++g) {
      count_choices(scores, groups[g], share);
      const W weight = W(scale) / W(static_cast<double>(groups[g].size()) * static_cast<double>(groups.count));
      for (const Index t : groups[g]) {
        fill_probs(scores, t, p);
        detail::add_prob_gradient<T>(scores.score, (is_clean(scores) ? scores.logits : scores.noisy_logits)[t], p,
                                     share, weight, dlogits[t]);
      }
    }
  }

 private:
  template <Real T>
  bool is_clean(const RouterScores<T>& scores) const {
    return probs == Probs::clean || scores.noisy_logits.data() == scores.logits.data();
  }

  /// share_e = E f_e // [E]
  template <Real T>
  void count_choices(const RouterScores<T>& scores, std::span<const Index> rows, View<Wide<T>, 1> share) const {
    const Index selected = scores.choice.extent(1);
    if (scores.choice.extent(0) != scores.num_tokens() || selected < 1)
      throw ShapeError("Balance: choice has shape " + to_string<2>(scores.choice.shape()) + ", expected [" +
                       std::to_string(scores.num_tokens()) + ", K >= 1]");
    double before = scores.beside.tokens;  // tokens whose choices come from elsewhere
    if (scores.beside.choices.size())
      expect_shape(scores.beside.choices, {share.extent(0)}, "Balance: choices beside those of the pass");
    if (!carried.empty()) {
      expect_shape(share, {std::ssize(carried)}, "Balance: carried");
      expect_option(picks != Picks::first,
                    "Balance: choices are carried, which Picks::first cannot tell apart; expected "
                    "Picks::any or any_over_k");
      for (const double n : carried) before += n / static_cast<double>(selected);
    }
    const double divisor = (static_cast<double>(rows.size()) + before) *
                           (picks == Picks::any_over_k ? static_cast<double>(selected) : 1.0);
    const Wide<T> one(static_cast<double>(share.extent(0)) / divisor);
    for (Index e = 0; e < share.extent(0); ++e)
      share[e] = Wide<T>((carried.empty() ? 0 : carried[static_cast<std::size_t>(e)]) +
                         (scores.beside.choices.size() ? scores.beside.choices[e] : 0)) *
                 one;
    for_each_choice(scores, rows, [&](Index e) { share[e] += one; });
  }

  /// fn(expert) for each choice that f counts.
  template <Real T, class Fn>
  void for_each_choice(const RouterScores<T>& scores, std::span<const Index> rows, Fn&& fn) const {
    const Index counted = picks == Picks::first ? 1 : scores.choice.extent(1);
    for (const Index t : rows)
      for (Index k = 0; k < counted; ++k)
        if (const Index e = scores.choice(t, k); e >= 0) fn(e);
  }

  template <Real T>
  void fill_probs(const RouterScores<T>& scores, Index t, View<T, 1> p) const {
    if (is_clean(scores)) return detail::probs_from_log<T>(scores.log_probs[t], p);
    if (scores.score != RouterScore::softmax) {
      T sum(0.0);
      kernels::with_score(scores.score, [&]<class Score>(Score) {
        for (Index e = 0; e < p.extent(0); ++e) sum += p[e] = Score::value(scores.noisy_logits(t, e));
      });
      for (Index e = 0; e < p.extent(0); ++e) p[e] = to_double(sum) > 0 ? T(p[e] / sum) : T(0.0);
      return;
    }
    using std::exp;
    const auto logits = scores.noisy_logits[t];
    T top = logits[0];
    for (Index e = 1; e < p.extent(0); ++e)
      if (top < logits[e]) top = logits[e];
    T sum(0.0);
    for (Index e = 0; e < p.extent(0); ++e) sum += p[e] = exp(logits[e] - top);
    for (Index e = 0; e < p.extent(0); ++e) p[e] = p[e] / sum;
  }
};

}  // namespace gatefold
