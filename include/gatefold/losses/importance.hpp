#pragma once
#include "gatefold/losses/token_groups.hpp"

namespace gatefold {

/// Squared coefficient of variation of the experts' importance I_e = sum_t p_te over a group: Var(I) / mean(I)^2 with
/// the population variance and the clean p = s / sum s; mean over groups (Shazeer et al. 2017; V-MoE, Riquelme et al.
/// 2021, appendix A). Between 0 (equal) and E - 1 (one expert takes all). Padding and NaN tokens: see TokenGroups. O(S
/// E).
struct Importance {
  static constexpr std::string_view kName = "importance";

  template <Real T>
  T value(const RouterScores<T>& given, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {}, ctx);
    const auto sum = ctx.workspace.take<Wide<T>>(scores.num_experts());
    Wide<T> total(0.0);
    for (Index g = 0; g < groups.count; ++g) {
      const auto mean = sum_probs(scores, groups[g], sum);
      Wide<T> variance(0.0);
      for (Index e = 0; e < sum.extent(0); ++e) variance += (sum[e] - mean) * (sum[e] - mean);
      total += variance / (Wide<T>(static_cast<double>(sum.extent(0))) * mean * mean);
    }
    return static_cast<T>(groups.count ? total / Wide<T>(static_cast<double>(groups.count)) : total);
  }

  /// d/dp_te = 2 (I_e - mean) / (E mean^2), then the softmax; the derivative of the mean is the same for all e, which
  /// the softmax cancels.
  template <Real T>
  void add_gradient(const RouterScores<T>& given, std::type_identity_t<T> scale, std::type_identity_t<Rows<T>> dlogits,
                    Context& ctx) const {
    expect_shape(dlogits, given.logits.shape(), "Importance::add_gradient: dlogits");
    const auto scope = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {}, ctx);
    const auto u = ctx.workspace.take<Wide<T>>(scores.num_experts());
    const auto p = ctx.workspace.take<T>(scores.num_experts());
    for (Index g = 0; g < groups.count; ++g) {
      const auto mean = sum_probs(scores, groups[g], u);
      const Wide<T> factor = Wide<T>(2.0 / static_cast<double>(u.extent(0))) / (mean * mean);
      for (Index e = 0; e < u.extent(0); ++e) u[e] = factor * (u[e] - mean);
      const Wide<T> share = Wide<T>(scale) / Wide<T>(static_cast<double>(groups.count));
      for (const Index t : groups[g]) {
        detail::probs_from_log<T>(scores.log_probs[t], p);
        detail::add_prob_gradient<T>(scores.score, scores.logits[t], p, u, share, dlogits[t]);
      }
    }
  }

 private:
  /// Fills sum // [E] and returns its mean.
  template <Real T>
  static Wide<T> sum_probs(const RouterScores<T>& scores, std::span<const Index> rows, View<Wide<T>, 1> sum) {
    using std::exp;
    std::fill_n(sum.data(), sum.size(), Wide<T>(0.0));
    for (const Index t : rows)
      for (Index e = 0; e < sum.extent(0); ++e) sum[e] += Wide<T>(exp(scores.log_probs(t, e)));
    Wide<T> mean(0.0);
    for (Index e = 0; e < sum.extent(0); ++e) mean += sum[e];
    return mean / Wide<T>(static_cast<double>(sum.extent(0)));
  }
};

}  // namespace gatefold
