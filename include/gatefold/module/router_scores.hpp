#pragma once
#include "gatefold/module/module.hpp"

namespace gatefold {

/// What an auxiliary loss sees of a router's forward pass. Padding rows (layout) enter no loss.
///
/// A router whose gates are no softmax of its scores puts into `logits` what they are a softmax of: where they are
/// s_e / sum s (of sigmoids, say), log s_e. Then log_probs is the logarithm of the gates, losses and reports hold as
/// they are, and the gradient that losses give by the logits is one by log s_e: for s = σ(z) it reaches z times 1 - s.
template <Real T>
struct RouterScores {
  Rows<const T> logits;                 // [S, E] clean
  Rows<const T> log_probs;              // [S, E] log softmax of the clean logits; NaN where all of them are -inf
  Rows<const T> noisy_logits;           // [S, E] what was selected by; the same memory as `logits` without noise
  View<const Index, 2> choice;          // [S, K] experts asked for, best first; then -1, as throughout for padding
  double noise_std = 0;                 ///< The standard deviation that was applied to the logits.
  Index group_size = 0;                 ///< Rows routed together, consecutive; the last group may be shorter.
  const TokenLayout* layout = nullptr;  ///< A copy (keep_layout): lives as long as the rest.

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
