#pragma once
#include <cmath>
#include <limits>
#include <optional>
#include <span>

#include "gatefold/kernels/router_score.hpp"

namespace gatefold {

/// Over which rows a router loss takes its statistics: each group routed together, all rows of the call at once, or
/// each sequence of the layout (all rows without one).
enum class LossScope { group, batch, sequence };

/// The rows that enter a router loss, group by group. Left out are padding, other modalities where one is asked for,
/// and every token with a NaN among its scores or without an open expert (all logits -inf, whose log-probabilities are
/// NaN): it gets no gradient and disturbs no other token's (the task loss shows the NaN). Groups left without a row are
/// not listed, so that padding, whole groups of it too, changes no mean.
struct TokenGroups {
  View<const Index, 1> rows;    // [R] ascending
  View<const Index, 1> offset;  // group g owns the rows offset[g]..offset[g + 1]
  Index count = 0;              ///< Groups with at least one row.

  std::span<const Index> operator[](Index g) const { return {rows.data() + offset[g], rows.data() + offset[g + 1]}; }
};

struct TokenFilter {
  std::optional<Index> modality = {};  ///< None: all of them.
  LossScope scope = LossScope::group;
};

namespace detail {

template <Real T>
bool has_nan(View<const T, 1> row) {
  using std::isnan;
  for (Index e = 0; e < row.extent(0); ++e)
    if (isnan(row[e])) return true;
  return false;
}

/// An expert closed to a token has the logit -infinity.
template <Real T>
bool is_masked(const T& logit) {
  return !(logit > T(-std::numeric_limits<double>::infinity()));
}

/// p = exp(log_p) // [E]
template <Real T>
void probs_from_log(View<const T, 1> log_p, View<T, 1> p) {
  using std::exp;
  for (Index e = 0; e < p.extent(0); ++e) p[e] = exp(log_p[e]);
}

/// d log s / d z, up to what all experts of a token share, which no function of p feels.
template <Real T>
T log_slope(RouterScore score, const T& logit) {
  if (score == RouterScore::softmax) return T(1.0);
  return kernels::with_score(score, [&]<class Score>(Score) { return Score::log_slope(logit); });
}

/// dlogits_e += scale p_e (u_e - sum_j p_j u_j) d log s_e / d z_e: a gradient u by p = s / sum s, brought to the logits
/// that p is of. // [E]
template <Real T>
void add_prob_gradient(RouterScore score, View<const T, 1> logits, View<const T, 1> p, View<const Wide<T>, 1> u,
                       const Wide<T>& scale, View<T, 1> dlogits) {
  using W = Wide<T>;
  W mean(0.0);
  for (Index e = 0; e < p.extent(0); ++e) mean += W(p[e]) * u[e];
  for (Index e = 0; e < p.extent(0); ++e)
    dlogits[e] += static_cast<T>(scale * W(p[e]) * (u[e] - mean) * W(log_slope<T>(score, logits[e])));
}

}  // namespace detail

/// The same scores with log_probs, the logarithm of p = s / sum s, whatever the score; a softmax has them already, for
/// others they are made in the caller's scope. NaN throughout where no score is above 0. O(S E).
template <Real T>
RouterScores<T> normalised_scores(const RouterScores<T>& scores, Context& ctx) {
  if (scores.score == RouterScore::softmax) return scores;
  const Index rows = scores.num_tokens(), experts = scores.num_experts();
  auto log_probs = ctx.workspace.take<T>(rows, experts), scratch = ctx.workspace.take<T>(rows, experts);
  kernels::for_each_row(rows, experts, ctx, [&](Index row) {
    kernels::log_probs_row<T>(ctx.isa, scores.score, experts, scores.logits[row].data(), scratch[row].data(),
                              log_probs[row].data());
  });
  RouterScores<T> all = scores;
  all.log_probs = log_probs;
  return all;
}

/// Collects the rows into the workspace; they live as long as the caller's scope. O(S E).
/// A group_size of 0 means that all rows are one group.
/// Throws ShapeError if the parts of `scores` do not fit together (log_probs among them: normalised_scores),
/// OptionError if group_size is negative.
template <Real T>
TokenGroups token_groups(const RouterScores<T>& scores, const TokenFilter& filter, Context& ctx) {
  const Index tokens = scores.num_tokens();
  expect_shape(scores.log_probs, scores.logits.shape(), "router loss: log_probs");
  expect_shape(scores.noisy_logits, scores.logits.shape(), "router loss: noisy_logits");
  if (scores.layout) expect_shape(scores.layout->modality, {tokens}, "router loss: layout.modality");
  if (scores.group_size < 0)
    throw OptionError("router loss: group_size is " + std::to_string(scores.group_size) + ", expected at least 0");

  const bool noisy = scores.noisy_logits.data() != scores.logits.data();
  const auto counts = [&](Index row) {
    if (scores.is_padding(row) || (filter.modality && scores.modality(row) != *filter.modality)) return false;
    return !detail::has_nan<T>(scores.log_probs[row]) && !(noisy && detail::has_nan<T>(scores.noisy_logits[row]));
  };
  const TokenLayout* const layout = filter.scope == LossScope::sequence ? scores.layout : nullptr;
  const bool sequences = layout && layout->offset.extent(0) > 1;
  if (sequences && (layout->offset[0] != 0 || layout->offset[layout->num_sequences()] != tokens))
    throw ShapeError("router loss: the sequences of the layout are rows " + std::to_string(layout->offset[0]) + " to " +
                     std::to_string(layout->offset[layout->num_sequences()]) + ", expected 0 to " +
                     std::to_string(tokens));
  const bool whole = filter.scope != LossScope::group || scores.group_size == 0;
  const Index size = std::max<Index>(1, whole ? tokens : std::min(tokens, scores.group_size));
  const Index parts = sequences ? layout->num_sequences() : (tokens + size - 1) / size;
  const auto rows = ctx.workspace.take<Index>(tokens);
  const auto offset = ctx.workspace.take<Index>(parts + 1);
  offset[0] = 0;
  Index num_rows = 0, count = 0;
  for (Index part = 0; part < parts; ++part) {
    const Index begin = sequences ? layout->offset[part] : part * size;
    const Index end = sequences ? layout->offset[part + 1] : std::min(tokens, begin + size);
    for (Index row = begin; row < end; ++row)
      if (counts(row)) rows[num_rows++] = row;
    if (num_rows > offset[count]) offset[++count] = num_rows;
  }
  return {rows, offset, count};
}

}  // namespace gatefold
