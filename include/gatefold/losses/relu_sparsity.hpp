#pragma once
#include "gatefold/losses/token_groups.hpp"

namespace gatefold {

/// E / (K T^2) sum_e n_e sum_t s_te: the L1 norm of ReLU's scores s over the T tokens of a group, each expert's weighed
/// by how many tokens use it, n_e, so that it balances too; n has no gradient. Mean over groups. How strongly it acts
/// is not chosen but found: SparsityControl in routing/. (Wang et al. 2024, «ReMoE», arXiv 2412.14711.) Padding and NaN
/// tokens: see TokenGroups; a token without an expert counts. O(S E).
struct ReluSparsity {
  static constexpr std::string_view kName = "relu_sparsity";
  Index wanted = 1;  ///< K, the experts that a token shall use on the average; a mere factor here.
  LossScope scope = LossScope::group;

  template <Real T>
  T value(const RouterScores<T>& scores, Context& ctx) const {
    Wide<T> total(0.0);
    const auto scratch = ctx.workspace.scope();
    for_each_group(scores, ctx, [&](std::span<const Index> rows, View<const Wide<T>, 1> factor) {
      for (const Index t : rows)
        for (Index e = 0; e < scores.num_experts(); ++e)
          if (const T& s = scores.noisy_logits(t, e); s > T(0.0)) total += factor[e] * Wide<T>(s);
    });
    return static_cast<T>(total);
  }

  template <Real T>
  void add_gradient(const RouterScores<T>& scores, std::type_identity_t<T> scale, std::type_identity_t<Rows<T>> dlogits,
                    Context& ctx) const {
    expect_shape(dlogits, scores.logits.shape(), "ReluSparsity::add_gradient: dlogits");
    const auto scratch = ctx.workspace.scope();
    for_each_group(scores, ctx, [&](std::span<const Index> rows, View<const Wide<T>, 1> factor) {
      for (const Index t : rows)
        for (Index e = 0; e < scores.num_experts(); ++e)
          if (scores.noisy_logits(t, e) > T(0.0)) dlogits(t, e) += static_cast<T>(Wide<T>(scale) * factor[e]);
    });
  }

 private:
  /// fn(rows, d value / d s of each expert // [E]) for each group.
  template <Real T, class Fn>
  void for_each_group(const RouterScores<T>& given, Context& ctx, Fn&& fn) const {
    expect_option(given.score == RouterScore::relu,
                  "ReluSparsity: the router's scores are no ReLU, expected RouterScore::relu");
    expect_option(wanted >= 1, "ReluSparsity", "wanted", static_cast<double>(wanted), "1 or more");
    RouterScores<T> scores = given;
    scores.log_probs = scores.logits;  // which a token without an expert has not, but it counts
    const auto groups = token_groups(scores, {.scope = scope}, ctx);
    const auto factor = ctx.workspace.take<Wide<T>>(scores.num_experts());
    for (Index g = 0; g < groups.count; ++g) {
      const auto tokens = static_cast<double>(groups[g].size());
      const double share = static_cast<double>(scores.num_experts()) /
                           (static_cast<double>(wanted) * tokens * tokens * static_cast<double>(groups.count));
      for (Index e = 0; e < factor.extent(0); ++e) {
        Index users = 0;
        for (const Index t : groups[g]) users += scores.noisy_logits(t, e) > T(0.0);
        factor[e] = Wide<T>(share * static_cast<double>(users));
      }
      fn(groups[g], factor);
    }
  }
};

}  // namespace gatefold
