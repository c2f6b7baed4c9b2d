#pragma once
#include "gatefold/losses/token_groups.hpp"

namespace gatefold {

/// Mean entropy, in nats, of the clean p = s / sum s of one modality's tokens: minimised, each token is routed with
/// confidence (LIMoE, Mustafa et al. 2022, section 2.2). Without a token of the modality value and gradient are 0.
/// Padding and NaN tokens: see TokenGroups. O(S E).
struct LocalEntropy {
  static constexpr std::string_view kName = "local_entropy";
  Index modality = 0;
  LossScope scope = LossScope::group;

  template <Real T>
  T value(const RouterScores<T>& given, Context& ctx) const {
    const auto scratch = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {.modality = modality, .scope = scope}, ctx);
    Wide<T> total(0.0);
    for (Index g = 0; g < groups.count; ++g) {
      Wide<T> sum(0.0);
      for (const Index t : groups[g]) sum += entropy(scores, t);
      total += sum / Wide<T>(static_cast<double>(groups[g].size()));
    }
    return static_cast<T>(groups.count ? total / Wide<T>(static_cast<double>(groups.count)) : total);
  }

  /// -p_te (log p_te + H(p_t)) / n by log s_te.
  template <Real T>
  void add_gradient(const RouterScores<T>& given, std::type_identity_t<T> scale, std::type_identity_t<Rows<T>> dlogits,
                    Context& ctx) const {
    using std::exp;
    using W = Wide<T>;
    expect_shape(dlogits, given.logits.shape(), "LocalEntropy::add_gradient: dlogits");
    const auto scratch = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {.modality = modality, .scope = scope}, ctx);
    for (Index g = 0; g < groups.count; ++g) {
      const W weight = W(scale) / W(static_cast<double>(groups[g].size()) * static_cast<double>(groups.count));
      for (const Index t : groups[g]) {
        const W h = entropy(scores, t);
        for (Index e = 0; e < scores.num_experts(); ++e) {
          const W p(exp(scores.log_probs(t, e)));
          if (!(p > W(0.0))) continue;
          const W slope(detail::log_slope<T>(scores.score, scores.logits(t, e)));
          dlogits(t, e) -= static_cast<T>(weight * p * (W(scores.log_probs(t, e)) + h) * slope);
        }
      }
    }
  }

 private:
  /// H = -sum p log p; an expert with p = 0 adds 0.
  template <Real T>
  static Wide<T> entropy(const RouterScores<T>& scores, Index t) {
    using std::exp;
    Wide<T> h(0.0);
    for (Index e = 0; e < scores.num_experts(); ++e)
      if (const Wide<T> p(exp(scores.log_probs(t, e))); p > Wide<T>(0.0)) h -= p * Wide<T>(scores.log_probs(t, e));
    return h;
  }
};

/// Minus the entropy of the mean clean p = s / sum s of one modality: minimised, the modality spreads over experts.
/// With a threshold tau it is max(0, tau - H(mean p)), so that nothing is asked of a modality that uses about exp(tau)
/// experts or more (LIMoE, section 2.2 and appendix A). Without a token of the modality value and gradient are 0.
/// Padding and NaN tokens: see TokenGroups. Throws OptionError if tau exceeds log E, which no routing could reach. O(S
/// E).
struct GlobalEntropy {
  static constexpr std::string_view kName = "global_entropy";
  Index modality = 0;
  std::optional<double> threshold = {};  ///< tau = log of the soft minimum of experts, in nats.
  LossScope scope = LossScope::group;
  std::string_view set_by = {};  ///< For errors: the option that exp(threshold) was given by; not owned.

  /// Throws OptionError, which names the option to change, unless the threshold can be met with `num_experts`.
  void check(Index num_experts) const {
    // The slack lets log(s) through whatever library rounded it.
    if (!threshold || *threshold <= std::log(static_cast<double>(num_experts)) + 1e-9) return;
    if (!set_by.empty())
      throw OptionError(std::string(set_by) + " is " + std::to_string(std::exp(*threshold)) + ", expected at most " +
                        std::to_string(num_experts) + ", the number of experts");
    throw OptionError("GlobalEntropy: threshold is " + std::to_string(*threshold) + ", expected at most log(" +
                      std::to_string(num_experts) + "), the entropy of uniform use of all experts");
  }

  template <Real T>
  T value(const RouterScores<T>& given, Context& ctx) const {
    check(given.num_experts());
    const auto scratch = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {.modality = modality, .scope = scope}, ctx);
    const auto log_mean = ctx.workspace.take<Wide<T>>(scores.num_experts());
    Wide<T> total(0.0);
    for (Index g = 0; g < groups.count; ++g) {
      const Wide<T> h = marginal_entropy(scores, groups[g], log_mean);
      if (active(h)) total += Wide<T>(threshold.value_or(0.0)) - h;
    }
    return static_cast<T>(groups.count ? total / Wide<T>(static_cast<double>(groups.count)) : total);
  }

  /// p_te (log mean_e - sum_k p_tk log mean_k) / n where the threshold is not met, else 0.
  template <Real T>
  void add_gradient(const RouterScores<T>& given, std::type_identity_t<T> scale, std::type_identity_t<Rows<T>> dlogits,
                    Context& ctx) const {
    using W = Wide<T>;
    check(given.num_experts());
    expect_shape(dlogits, given.logits.shape(), "GlobalEntropy::add_gradient: dlogits");
    const auto scratch = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {.modality = modality, .scope = scope}, ctx);
    const auto log_mean = ctx.workspace.take<W>(scores.num_experts());
    const auto p = ctx.workspace.take<T>(scores.num_experts());
    for (Index g = 0; g < groups.count; ++g) {
      if (!active(marginal_entropy(scores, groups[g], log_mean))) continue;
      const W weight = W(scale) / W(static_cast<double>(groups[g].size()) * static_cast<double>(groups.count));
      for (const Index t : groups[g]) {
        detail::probs_from_log<T>(scores.log_probs[t], p);
        detail::add_prob_gradient<T>(scores.score, scores.logits[t], p, log_mean, weight, dlogits[t]);
      }
    }
  }

 private:
  template <class W>
  bool active(const W& h) const {
    return !threshold || h < W(*threshold);
  }

  /// Fills log_mean // [E] with the logarithm of the mean probabilities, or 0 where nobody has any, and returns the
  /// entropy of the mean.
  template <Real T>
  static Wide<T> marginal_entropy(const RouterScores<T>& scores, std::span<const Index> rows,
                                  View<Wide<T>, 1> log_mean) {
    using std::exp, std::log;
    using W = Wide<T>;
    std::fill_n(log_mean.data(), log_mean.size(), W(0.0));
    for (const Index t : rows)
      for (Index e = 0; e < log_mean.extent(0); ++e) log_mean[e] += W(exp(scores.log_probs(t, e)));
    W h(0.0);
    for (Index e = 0; e < log_mean.extent(0); ++e) {
      if (!(log_mean[e] > W(0.0))) continue;
      const W mean = log_mean[e] / W(static_cast<double>(rows.size()));
      log_mean[e] = log(mean);
      h -= mean * log_mean[e];
    }
    return h;
  }
};

}  // namespace gatefold
