#pragma once
#include "gatefold/module/module.hpp"

namespace gatefold {

/// How the scores s of a token's experts come from its logits z. Each but the softmax is an expert's own.
enum class RouterScore {
  softmax,        ///< e^z / sum e^z over all experts.
  sigmoid,        ///< 1 / (1 + e^-z): DeepSeek-V3.
  sqrt_softplus,  ///< sqrt(log(1 + e^z)): DeepSeek-V4.
  relu,           ///< max(z, 0); an expert with the score 0 is not asked: ReMoE.
};

/// Choices counted elsewhere: how many asked for each expert, of so many tokens.
struct ChoiceCounts {
  View<const double, 1> choices{};  // [E], or empty: none
  double tokens = 0;
};

/// What an auxiliary loss sees of a router's forward pass. Padding rows (layout) enter no loss, and the gradient that
/// losses give is one by the logits.
///
/// Losses on probabilities take p = s / sum s over all experts, which of a softmax is s itself (normalised_scores has
/// its logarithm for any score); what else one asks for it says itself. A router of one's own with other scores than
/// these puts log s into `logits` and leaves `score` as it is: the softmax of log s is p, so that losses and reports
/// hold as they are, and what they give is a gradient by log s.
template <Real T>
struct RouterScores {
  Rows<const T> logits;                 // [S, E] clean
  Rows<const T> log_probs;              // [S, E] log softmax of the clean logits; NaN where all of them are -inf. Empty
                                        //        with another score: not every pass needs it
  Rows<const T> noisy_logits;           // [S, E] what was selected by; the same memory as `logits` without noise
  View<const Index, 2> choice;          // [S, K] experts asked for, best first; then -1, as throughout for padding
  double noise_std = 0;                 ///< The standard deviation that was applied to the logits.
  Index group_size = 0;                 ///< Rows routed together, consecutive; the last group may be shorter.
  const TokenLayout* layout = nullptr;  ///< A copy (keep_layout): lives as long as the rest.
  RouterScore score = RouterScore::softmax;
  /// The choice is that of the K largest noisy logits: no bias, limit or threshold had a say in it.
  bool chosen_by_logits = true;
  ChoiceCounts beside{};  ///< Of other layers, for a loss that counts choices over them all (Balance).

  Index num_tokens() const { return logits.extent(0); }
  Index num_experts() const { return logits.extent(1); }
  bool is_padding(Index row) const { return layout && layout->modality[row] == kPadding; }
  Index modality(Index row) const { return layout ? layout->modality[row] : 0; }
};

/// A differentiable penalty on routing: `value` of one layer's scores, and `add_gradient`, which adds scale * d value /
/// d logits to dlogits // [S, E].
template <class L, class T = float>
concept AuxLoss = requires(const L& loss, const RouterScores<T>& scores, T scale, Rows<T> dlogits, Context& ctx) {
  { loss.value(scores, ctx) } -> std::convertible_to<T>;
  { loss.add_gradient(scores, scale, dlogits, ctx) } -> std::same_as<void>;
};

}  // namespace gatefold
