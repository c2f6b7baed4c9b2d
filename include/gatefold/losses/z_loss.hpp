#pragma once
#include "gatefold/losses/token_groups.hpp"

namespace gatefold {

/// Mean over tokens of (log sum_e exp l_te)^2, then over groups: keeps the router's logits small (ST-MoE, Zoph et al.
/// 2022, section 3), whatever score the router makes of them (as Megatron-LM). The one router loss that a common shift
/// of the logits changes. Padding and NaN tokens: see TokenGroups. O(S E).
struct ZLoss {
  static constexpr std::string_view kName = "z";

  template <Real T>
  T value(const RouterScores<T>& given, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {}, ctx);
    Wide<T> total(0.0);
    for (Index g = 0; g < groups.count; ++g) {
      Wide<T> sum(0.0);
      for (const Index t : groups[g]) {
        const Wide<T> lse = log_sum_exp(scores, t);
        sum += lse * lse;
      }
      total += sum / Wide<T>(static_cast<double>(groups[g].size()));
    }
    return static_cast<T>(groups.count ? total / Wide<T>(static_cast<double>(groups.count)) : total);
  }

  /// 2 lse_t p_te / S.
  template <Real T>
  void add_gradient(const RouterScores<T>& given, std::type_identity_t<T> scale, std::type_identity_t<Rows<T>> dlogits,
                    Context& ctx) const {
    using std::exp;
    expect_shape(dlogits, given.logits.shape(), "ZLoss::add_gradient: dlogits");
    const auto scope = ctx.workspace.scope();
    const auto scores = normalised_scores(given, ctx);
    const auto groups = token_groups(scores, {}, ctx);
    for (Index g = 0; g < groups.count; ++g) {
      const double tokens = static_cast<double>(groups[g].size()) * static_cast<double>(groups.count);
      for (const Index t : groups[g]) {
        const Wide<T> factor = Wide<T>(scale) * Wide<T>(2 / tokens) * log_sum_exp(scores, t);
        const bool softmax = scores.score == RouterScore::softmax;
        const T lse = softmax ? T(0.0) : static_cast<T>(log_sum_exp(scores, t));
        for (Index e = 0; e < scores.num_experts(); ++e)
          dlogits(t, e) +=
              static_cast<T>(factor * Wide<T>(exp(softmax ? scores.log_probs(t, e) : T(scores.logits(t, e) - lse))));
      }
    }
  }

 private:
  /// l_e - log p_e is the same for each expert; the likeliest one gives it without cancellation and without -infinity.
  template <Real T>
  static Wide<T> log_sum_exp(const RouterScores<T>& scores, Index t) {
    Index best = 0;
    for (Index e = 1; e < scores.num_experts(); ++e)
      if (scores.logits(t, best) < scores.logits(t, e)) best = e;
    if (scores.score != RouterScore::softmax) {
      using std::exp, std::log;
      Wide<T> sum(0.0);
      for (Index e = 0; e < scores.num_experts(); ++e)
        sum += Wide<T>(exp(scores.logits(t, e) - scores.logits(t, best)));
      return Wide<T>(scores.logits(t, best)) + log(sum);
    }
    return Wide<T>(scores.logits(t, best)) - Wide<T>(scores.log_probs(t, best));
  }
};

}  // namespace gatefold
