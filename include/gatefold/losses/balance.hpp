#pragma once
#include "gatefold/losses/token_groups.hpp"

namespace gatefold {

/// E * sum_e f_e m_e: f_e the share of tokens that ask for expert e, before capacity and without gradient, m_e the mean
/// probability (GShard, Lepikhin et al. 2020; Switch, Fedus et al. 2021). Mean over groups. Padding and NaN tokens: see
/// TokenGroups. O(S E).
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

  template <Real T>
  T value(const RouterScores<T>& given, Context& ctx) const {
    using W = Wide<T>;
    const auto scope = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {}, ctx);
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
    const auto scope = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {}, ctx);
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
    const Index counted = picks == Picks::first ? 1 : selected;
    const double divisor =
        static_cast<double>(rows.size()) * (picks == Picks::any_over_k ? static_cast<double>(selected) : 1.0);
    const Wide<T> one(static_cast<double>(share.extent(0)) / divisor);
    std::fill_n(share.data(), share.size(), Wide<T>(0.0));
    for (const Index t : rows)
      for (Index k = 0; k < counted; ++k)
        if (const Index e = scores.choice(t, k); e >= 0) share[e] += one;
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
