#pragma once
#include <numbers>

#include "gatefold/losses/token_groups.hpp"

namespace gatefold {

/// Squared coefficient of variation of the experts' smooth load v_e = mean_t P_te, where P_te is the probability that
/// expert e is among token t's K if its noise alone were drawn again: 1 - Phi((l~_t,kappa - l_te) / sigma), kappa the
/// K-th choice, l~ the noisy and l the clean logits (V-MoE, Riquelme et al. 2021, appendix A). Mean over groups.
///
/// It knows scores that grow with the logit, and nothing else that decides on the choice: with noise and a selection
/// bias, groups, min_p or ReLU it throws OptionError.
///
/// It needs noise: with noise_std = 0, as in evaluation, value and gradient are 0, and it does not act (V-MoE omits the
/// term there): a mean of losses leaves it out.
/// A masked expert (logit -infinity) has P = 0; a token with fewer than K open experts is sure to get each, P = 1, and
/// has no gradient. Padding and NaN tokens: see TokenGroups. O(S E), with one erfc per pair.
struct Load {
  static constexpr std::string_view kName = "load";

  template <Real T>
  bool acts(const RouterScores<T>& scores) const {
    return scores.noise_std > 0;
  }

  template <Real T>
  T value(const RouterScores<T>& given, Context& ctx) const {
    if (!acts(given)) return T(0.0);
    expect_chosen_by_logits(given);
    const auto scope = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {}, ctx);
    const auto load = ctx.workspace.take<Wide<T>>(scores.num_experts());
    Wide<T> total(0.0);
    for (Index g = 0; g < groups.count; ++g) {
      const auto [mean, variance] = mean_loads(scores, groups[g], load);
      if (mean > Wide<T>(0.0)) total += variance / (mean * mean);
    }
    return static_cast<T>(groups.count ? total / Wide<T>(static_cast<double>(groups.count)) : total);
  }

  /// The gradient flows through the threshold too, since l~ = l + noise, and does not pass through the softmax.
  template <Real T>
  void add_gradient(const RouterScores<T>& given, std::type_identity_t<T> scale, std::type_identity_t<Rows<T>> dlogits,
                    Context& ctx) const {
    using std::exp;
    using W = Wide<T>;
    expect_shape(dlogits, given.logits.shape(), "Load::add_gradient: dlogits");
    if (!acts(given)) return;
    expect_chosen_by_logits(given);
    const auto scope = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {}, ctx);
    const Index experts = scores.num_experts();
    const auto w = ctx.workspace.take<W>(experts);  // scale * d value / d v_e / (S sigma sqrt(2 pi))
    for (Index g = 0; g < groups.count; ++g) {
      const auto [mean, variance] = mean_loads(scores, groups[g], w);
      if (!(mean > W(0.0))) continue;
      const double tokens = static_cast<double>(groups[g].size()) * static_cast<double>(groups.count);
      const W density = W(scale) * W(std::numbers::inv_sqrtpi / std::numbers::sqrt2 / (tokens * scores.noise_std));
      const W factor = W(2.0 / static_cast<double>(experts)) / (mean * mean);
      for (Index e = 0; e < experts; ++e) w[e] = density * factor * (w[e] - mean - variance / mean);
      for (const Index t : groups[g]) {
        if (certain(scores, t)) continue;
        const Index kth = last_choice(scores, t);
        W through_threshold(0.0);
        for (Index e = 0; e < experts; ++e) {
          if (detail::is_masked(scores.logits(t, e))) continue;
          const W z = distance(scores, t, e);
          const W r = w[e] * exp(W(-0.5) * z * z);
          dlogits(t, e) += static_cast<T>(r);
          through_threshold += r;
        }
        dlogits(t, kth) -= static_cast<T>(through_threshold);
      }
    }
  }

 private:
  template <Real T>
  static void expect_chosen_by_logits(const RouterScores<T>& scores) {
    if (!scores.chosen_by_logits)
      throw OptionError(
          "Load: the router chooses by more than its noisy logits (a selection bias, groups, min_p, ReLU or a tape), "
          "so the "
          "probability of a choice is not known; expected a router that does not, or the loss with weight 0");
  }
  template <Real T>
  static Index last_choice(const RouterScores<T>& scores, Index t) {
    return scores.choice(t, scores.choice.extent(1) - 1);
  }
  /// Fewer than K experts are open to the token.
  template <Real T>
  static bool certain(const RouterScores<T>& scores, Index t) {
    const Index kth = last_choice(scores, t);
    return kth < 0 || detail::is_masked(scores.noisy_logits(t, kth));
  }
  /// From the clean logit to the threshold, in standard deviations of the noise.
  template <Real T>
  static Wide<T> distance(const RouterScores<T>& scores, Index t, Index e) {
    const Wide<T> threshold(scores.noisy_logits(t, last_choice(scores, t)));
    return (threshold - Wide<T>(scores.logits(t, e))) * Wide<T>(1 / scores.noise_std);
  }

  template <class W>
  struct Moments {
    W mean, variance;
  };
  /// Fills load // [E] with v_e and returns its moments.
  template <Real T>
  static Moments<Wide<T>> mean_loads(const RouterScores<T>& scores, std::span<const Index> rows,
                                     View<Wide<T>, 1> load) {
    using std::erfc;
    using W = Wide<T>;
    if (scores.choice.extent(0) != scores.num_tokens() || scores.choice.extent(1) < 1)
      throw ShapeError("Load: choice has shape " + to_string<2>(scores.choice.shape()) + ", expected [" +
                       std::to_string(scores.num_tokens()) + ", K >= 1]");
    const Index experts = load.extent(0);
    std::fill_n(load.data(), experts, W(0.0));
    for (const Index t : rows) {
      const bool sure = certain(scores, t);
      for (Index e = 0; e < experts; ++e) {
        if (detail::is_masked(scores.logits(t, e))) continue;
        // erfc and not 1 - erf: it keeps the far tail.
        load[e] += sure ? W(1.0) : W(0.5) * erfc(distance(scores, t, e) * W(1 / std::numbers::sqrt2));
      }
    }
    W mean(0.0), variance(0.0);
    for (Index e = 0; e < experts; ++e) {
      load[e] = load[e] / W(static_cast<double>(rows.size()));
      mean += load[e] / W(static_cast<double>(experts));
    }
    for (Index e = 0; e < experts; ++e)
      variance += (load[e] - mean) * (load[e] - mean) / W(static_cast<double>(experts));
    return {mean, variance};
  }
};

}  // namespace gatefold
