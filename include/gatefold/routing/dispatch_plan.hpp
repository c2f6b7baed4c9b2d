#pragma once
#include "gatefold/kernels/dispatch.hpp"
#include "gatefold/routing/capacity.hpp"

namespace gatefold {

/// Who sits where. The slots (seated pairs of token and expert) are sorted by expert, within an expert by group, within
/// a group by seat; what belongs to a token is found through the inverse lists. Borrows the workspace.
struct DispatchPlan {
  View<const Index, 1> offset;        // [E+1] expert e owns the slots offset[e]..offset[e+1]
  View<const Index, 1> token;         // [N] the row seated in each slot
  View<const Index, 1> expert;        // [N]
  View<const Index, 1> rank;          // [N] which of its token's choices this is, 0 the best; expert choice: by expert
  View<const Index, 1> token_offset;  // [S+1]
  View<const Index, 1> token_slot;    // [N] the slots of each token, in the order of rank
  View<const Index, 1> demand;        // [E] requests, also those turned away
  View<const Index, 1> requested;     // [S] requests of each token; 0 for padding

  Index num_slots() const { return token.extent(0); }
  Index num_experts() const { return demand.extent(0); }
  Index num_tokens() const { return requested.extent(0); }
  std::pair<Index, Index> slots(Index e) const { return {offset[e], offset[e + 1]}; }
  View<const Index, 1> slots_of_token(Index row) const {
    return token_slot.rows(token_offset[row], token_offset[row + 1]);
  }
  kernels::RowLists token_lists() const { return {token_offset, token_slot}; }
};

/// In which order requests claim seats.
enum class ClaimOrder {
  rank_major,   ///< All first choices, then all second choices: V-MoE, GShard.
  token_major,  ///< All choices of a token, then the next token: Megablocks. Late tokens may lose their first choice.
};
/// Whose requests come first, one order of the tokens for all ranks; the earlier token among equals, NaN last.
enum class Priority {
  position,
  max_gate,  ///< Batch priority routing by the best gate (V-MoE's code). Makes a token's fate depend on later tokens.
  gate_sum,  ///< By the sum of the selected gates (V-MoE's paper).
};

struct SeatingOptions {
  Capacity capacity{};
  ClaimOrder claim_order = ClaimOrder::rank_major;
  Priority priority = Priority::position;
  Index group_size = 0;  ///< Consecutive rows that share the seats; 0 means all rows.
};

namespace detail {

/// A score and where it stands. Sorts the larger first, NaN last, the lower index first among equals: a strict total
/// order, so that any sorting algorithm gives the same result.
struct Ranked {
  double score;
  Index at;
  friend bool operator<(const Ranked& a, const Ranked& b) {
    if (a.score > b.score) return true;
    if (a.score < b.score) return false;
    const bool a_nan = std::isnan(a.score), b_nan = std::isnan(b.score);
    return a_nan != b_nan ? b_nan : a.at < b.at;
  }
};

/// Consecutive rows routed together; the last group may be shorter.
struct RowGroups {
  Index rows = 0, size = 0;
  static RowGroups of(Index rows, Index group_size) { return {.rows = rows, .size = group_size ? group_size : rows}; }
  Index count() const { return size ? (rows + size - 1) / size : 0; }
  Index begin(Index g) const { return g * size; }
  Index end(Index g) const { return std::min(rows, begin(g) + size); }
};

inline bool is_padding(const TokenLayout* layout, Index row) { return layout && layout->modality[row] == kPadding; }

inline void expect_layout(const TokenLayout* layout, Index rows, std::string_view what) {
  if (layout) expect_shape(layout->modality, {rows}, what);
}

}  // namespace detail

/// The K experts with the largest gates of each token, best first; the lower expert among equals, NaN last. An expert
/// whose gate is exactly 0 (a logit of -inf) is still asked when fewer than K others are left, as in V-MoE; it adds
/// nothing but takes a seat. Padding gets -1. O(S E K). // gates [S, E], choice [S, K]
template <Real T>
void select_top_k(Rows<const T> gates, View<Index, 2> choice, Context& ctx) {
  using detail::Ranked;
  const Index num_experts = gates.extent(1), num_selected = choice.extent(1);
  kernels::for_each_row(gates.extent(0), num_experts * num_selected, ctx, [&](Index row) {
    const auto gate = gates[row];
    const auto chosen = choice[row];
    if (detail::is_padding(ctx.layout, row)) return void(std::fill_n(chosen.data(), num_selected, Index{-1}));
    Ranked last{std::numeric_limits<double>::infinity(), -1};
    for (Index k = 0; k < num_selected; ++k) {
      Ranked best{std::numeric_limits<double>::quiet_NaN(), num_experts};
      for (Index e = 0; e < num_experts; ++e)
        if (const Ranked it{to_double(gate[e]), e}; last < it && it < best) best = it;
      chosen[k] = best.at;
      last = best;
    }
  });
}

/// Seats the choices of the tokens, group by group; an expert without a free seat turns a request away. Capacity counts
/// the tokens that are no padding. O(S K), and a sort of each group for priorities. // gates [S, E], choice [S, K]
template <Real T>
DispatchPlan plan_top_k(Rows<const T> gates, View<const Index, 2> choice, const SeatingOptions& options, Context& ctx) {
  const Index rows = gates.extent(0), num_experts = gates.extent(1), num_selected = choice.extent(1);
  const auto groups = detail::RowGroups::of(rows, options.group_size);
  auto& ws = ctx.workspace;
  auto offset = ws.take<Index>(num_experts + 1), demand = ws.take_zeroed<Index>(num_experts);
  auto requested = ws.take<Index>(rows), token_offset = ws.take<Index>(rows + 1);
  const Index most = rows * num_selected;
  auto token = ws.take<Index>(most), expert = ws.take<Index>(most), rank = ws.take<Index>(most);
  auto token_slot = ws.take<Index>(most);

  const auto scope = ws.scope();
  auto seats = ws.take<Index>(groups.count());                       // C of each group
  auto claims = ws.take_zeroed<Index>(groups.count(), num_experts);  // requests, then the first slot
  auto seat = ws.take<Index>(rows, num_selected);                    // within group and expert; -1 without
  auto order = ws.take<detail::Ranked>(rows);  // tokens of each group, in the order of their claims
  for (Index g = 0; g < groups.count(); ++g) {
    Index tokens = 0;
    for (Index row = groups.begin(g); row < groups.end(g); ++row) {
      requested[row] = choice(row, 0) < 0 ? 0 : num_selected;
      tokens += requested[row] > 0;
    }
    seats[g] = options.capacity.seats({.tokens = tokens, .num_selected = num_selected, .num_experts = num_experts});
  }

  ctx.parallel_for(groups.count(), [&](Index first, Index last, Index) {
    for (Index g = first; g < last; ++g) {
      detail::Ranked* const begin = order.data() + groups.begin(g);
      detail::Ranked* end = begin;
      for (Index row = groups.begin(g); row < groups.end(g); ++row) {
        if (requested[row] == 0) continue;
        double score = 0;
        if (options.priority == Priority::max_gate) score = to_double(gates(row, choice(row, 0)));
        if (options.priority == Priority::gate_sum)
          for (Index k = 0; k < num_selected; ++k) score += to_double(gates(row, choice(row, k)));
        *end++ = {score, row};
      }
      if (options.priority != Priority::position) std::sort(begin, end);

      const auto claimed = claims[g];
      const auto claim = [&](Index row, Index k) {
        const Index n = claimed[choice(row, k)]++;
        seat(row, k) = n < seats[g] ? n : -1;
      };
      if (options.claim_order == ClaimOrder::rank_major)
        for (Index k = 0; k < num_selected; ++k)
          for (const auto* it = begin; it != end; ++it) claim(it->at, k);
      else
        for (const auto* it = begin; it != end; ++it)
          for (Index k = 0; k < num_selected; ++k) claim(it->at, k);
    }
  });

  Index slots = 0;
  for (Index e = 0; e < num_experts; ++e) {
    offset[e] = slots;
    for (Index g = 0; g < groups.count(); ++g) {
      demand[e] += claims(g, e);
      slots += std::min(std::exchange(claims(g, e), slots), seats[g]);
    }
  }
  offset[num_experts] = slots;

  Index seated = 0;
  for (Index row = 0; row < rows; ++row) {
    token_offset[row] = seated;
    for (Index k = 0; k < requested[row]; ++k) {
      if (seat(row, k) < 0) continue;
      const Index e = choice(row, k), slot = claims(row / groups.size, e) + seat(row, k);
      token[slot] = row;
      expert[slot] = e;
      rank[slot] = k;
      token_slot[seated++] = slot;
    }
  }
  token_offset[rows] = seated;
  return {offset,
          token.rows(0, slots),
          expert.rows(0, slots),
          rank.rows(0, slots),
          token_offset,
          token_slot.rows(0, slots),
          demand,
          requested};
}

/// Each expert takes the C tokens of each group that have the largest gates for it; the earlier token among equals, NaN
/// last, padding never. C is clamped to the tokens there are. `requested` is the number of experts that took a token:
/// nobody asks and nobody is turned away, but a token may be left without any expert. O(S E) and a sort of the taken.
/// (Zhou et al. 2022, «Mixture-of-experts with expert choice routing».) // gates [S, E]
template <Real T>
DispatchPlan plan_expert_choice(Rows<const T> gates, const Capacity& capacity, Index group_size, Context& ctx) {
  const Index rows = gates.extent(0), num_experts = gates.extent(1);
  const auto groups = detail::RowGroups::of(rows, group_size);
  auto& ws = ctx.workspace;
  auto offset = ws.take<Index>(num_experts + 1), demand = ws.take<Index>(num_experts);
  auto requested = ws.take_zeroed<Index>(rows), token_offset = ws.take<Index>(rows + 1);
  auto seats = ws.take<Index>(groups.count());
  Index per_expert = 0, longest = 0;
  for (Index g = 0; g < groups.count(); ++g) {
    Index tokens = 0;
    for (Index row = groups.begin(g); row < groups.end(g); ++row) tokens += !detail::is_padding(ctx.layout, row);
    seats[g] = std::min(capacity.seats({.tokens = tokens, .num_experts = num_experts}), tokens);
    per_expert += seats[g];
    longest = std::max(longest, tokens);
  }
  const Index slots = per_expert * num_experts;
  auto token = ws.take<Index>(slots), expert = ws.take<Index>(slots), rank = ws.take<Index>(slots);
  auto token_slot = ws.take<Index>(slots);

  const auto scope = ws.scope();
  auto scratch = ws.take<detail::Ranked>(ctx.parallel_for.workers(), longest);
  ctx.parallel_for(num_experts, [&](Index first, Index last, Index worker) {
    for (Index e = first; e < last; ++e) {
      Index slot = e * per_expert;
      offset[e] = slot;
      demand[e] = per_expert;
      for (Index g = 0; g < groups.count(); ++g) {
        detail::Ranked* const begin = scratch.data() + worker * longest;
        detail::Ranked* end = begin;
        for (Index row = groups.begin(g); row < groups.end(g); ++row)
          if (!detail::is_padding(ctx.layout, row)) *end++ = {to_double(gates(row, e)), row};
        std::nth_element(begin, begin + seats[g], end);
        std::sort(begin, begin + seats[g]);
        for (Index c = 0; c < seats[g]; ++c, ++slot) {
          token[slot] = begin[c].at;
          expert[slot] = e;
        }
      }
    }
  });
  offset[num_experts] = slots;

  for (const Index row : std::span(token.data(), static_cast<std::size_t>(slots))) ++requested[row];
  Index sum = 0;
  for (Index row = 0; row < rows; ++row) token_offset[row] = std::exchange(sum, sum + requested[row]);
  token_offset[rows] = sum;
  auto filled = ws.take_zeroed<Index>(rows);
  for (Index slot = 0; slot < slots; ++slot) {  // slots go by expert, hence so do the lists
    rank[slot] = filled[token[slot]]++;
    token_slot[token_offset[token[slot]] + rank[slot]] = slot;
  }
  return {offset, token, expert, rank, token_offset, token_slot, demand, requested};
}

}  // namespace gatefold
