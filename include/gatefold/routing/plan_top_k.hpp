#pragma once
#include "gatefold/kernels/top_k.hpp"
#include "gatefold/routing/dispatch_plan.hpp"
#include "gatefold/routing/priority_order.hpp"

namespace gatefold {

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

/// The groups, each cut into blocks that count their claims by themselves where many workers share a large group. Then
/// the counts of earlier blocks are added, so the plan is the same for any cut.
struct ClaimBlocks {
  static constexpr Index kRows = 8192;  // some 20 us of work, several times what waking a worker costs

  RowGroups groups;
  Index per_group = 1;

  /// Priorities mix the rows of a group, which then stays in one piece.
  static ClaimBlocks of(const RowGroups& groups, Priority priority, Index workers) {
    const bool cut = priority == Priority::position && workers > 1;
    return {.groups = groups, .per_group = cut ? std::max<Index>(1, (groups.size + kRows - 1) / kRows) : 1};
  }
  Index count() const { return groups.count() * per_group; }
  Index group(Index b) const { return b / per_group; }
  Index begin(Index b) const { return std::min(groups.end(group(b)), groups.begin(group(b)) + b % per_group * kRows); }
  Index end(Index b) const {
    return per_group == 1 ? groups.end(group(b)) : std::min(groups.end(group(b)), begin(b) + kRows);
  }
};

/// Calls body(n) where n is a constant for the usual numbers of choices, so that loops over them unroll.
template <class F>
void with_constant(Index n, F&& body) {
  if (n == 1) return body(std::integral_constant<Index, 1>());
  if (n == 2) return body(std::integral_constant<Index, 2>());
  body(n);
}

/// Counts the claims of rows as they come: seat(row, k) = how many went before to the same expert, by any rank or, with
/// a stride between the counters of ranks, by the same one. // seat [S, K]
struct ClaimCounter {
  View<const Index, 2> choice;
  View<std::uint32_t, 2> seat;
  std::uint32_t* claimed;
  Index rank_stride;

  void operator()(Index row, auto num_selected) const {
    const Index* const expert = choice.data() + row * choice.stride(0);
    std::uint32_t* const out = seat.data() + row * num_selected;
    for (Index k = 0; k < num_selected; ++k) out[k] = claimed[k * rank_stride + expert[k]]++;
  }
};

/// Calls claim(row) for the rows of [begin, end) that ask for experts, those with larger scores first. `scratch` holds
/// two items for each row.
template <class Key, class Score, class F>
void claim_by_score(Index begin, Index end, View<const Index, 1> requested, Keyed<Key>* scratch, Score&& score,
                    F&& claim) {
  Index count = 0;
  for (Index row = begin; row < end; ++row)
    if (requested[row] > 0) scratch[count++] = {descending_key(score(row)), static_cast<std::uint32_t>(row)};
  const Keyed<Key>* const sorted = sort_by_key(scratch, scratch + (end - begin), count);
  for (Index i = 0; i < count; ++i) claim(Index{sorted[i].row});
}

}  // namespace detail

/// The K experts with the largest gates of each token, best first; the lower expert among equals, NaN last. An expert
/// whose gate is exactly 0 (a logit of -inf) is still asked when fewer than K others are left, as in V-MoE; it adds
/// nothing but takes a seat. Padding gets -1. // gates [S, E], choice [S, K]
template <Real T>
void select_top_k(Rows<const T> gates, View<Index, 2> choice, Context& ctx) {
  kernels::top_k_rows<T>(gates, choice, ctx);
  detail::forget_padding(choice, ctx.layout);
}

/// Seats the choices of the tokens, group by group; an expert without a free seat turns a request away. Capacity counts
/// the tokens that are no padding. O(S K) with counting, for priorities too. // gates [S, E], choice [S, K]
template <Real T>
DispatchPlan plan_top_k(Rows<const T> gates, View<const Index, 2> choice, const SeatingOptions& options, Context& ctx) {
  const Index rows = gates.extent(0), num_experts = gates.extent(1), num_selected = choice.extent(1);
  const auto groups = detail::RowGroups::of(rows, options.group_size);
  const auto blocks = detail::ClaimBlocks::of(groups, options.priority, ctx.parallel_for.workers());
  auto& ws = ctx.workspace;
  auto offset = ws.take<Index>(num_experts + 1), demand = ws.take_zeroed<Index>(num_experts);
  auto requested = ws.take<Index>(rows), token_offset = ws.take<Index>(rows + 1);
  // Claims without a seat are written too, to a place of their block behind the slots: cheaper than a branch.
  const Index most = rows * num_selected, room = most + blocks.count();
  auto token = ws.take<Index>(room), expert = ws.take<Index>(most), rank = ws.take<Index>(room);
  auto token_slot = ws.take<Index>(room);

  const auto scope = ws.scope();
  // Rows are counted in 32 bits, to move half the bytes.
  if (rows > std::numeric_limits<std::uint32_t>::max())
    throw ShapeError("plan_top_k: gates has " + std::to_string(rows) + " rows, expected fewer than 2^32");
  // Where all first choices come first, each rank counts for itself, so that one walk over the rows does for all ranks.
  const Index ranks = options.claim_order == ClaimOrder::rank_major ? num_selected : 1;
  const Index rank_stride = ranks > 1 ? num_experts : 0;
  auto claims = ws.take_zeroed<std::uint32_t>(blocks.count(), ranks, num_experts);  // made, then those before
  auto seat = ws.take<std::uint32_t>(rows, num_selected);                           // within block, rank and expert
  auto tokens = ws.take<Index>(blocks.count()), seats = ws.take<Index>(groups.count());  // C of each group
  auto first_slot = ws.take<Index>(groups.count(), num_experts);
  auto seated = ws.take_zeroed<Index>(blocks.count() + 1);
  const bool by_float = std::is_same_v<T, float> && options.priority == Priority::max_gate;
  const bool by_double = !by_float && options.priority != Priority::position;
  auto floats = ws.take<detail::Keyed<std::uint32_t>>(by_float ? 2 * rows : 0);
  auto doubles = ws.take<detail::Keyed<std::uint64_t>>(by_double ? 2 * rows : 0);

  ctx.parallel_for(blocks.count(), [&](Index first, Index last, Index) {
    for (Index b = first; b < last; ++b)
      detail::with_constant(num_selected, [&](const auto selected) {
        const Index begin = blocks.begin(b), end = blocks.end(b);
        const detail::ClaimCounter count{choice, seat, claims[b].data(), rank_stride};
        const auto claim = [&](Index row) { count(row, selected); };
        Index asking = 0;
        for (Index row = begin; row < end; ++row) {
          const bool asks = choice(row, 0) >= 0;
          requested[row] = asks ? num_selected : 0;
          asking += asks;
          if (asks && options.priority == Priority::position) claim(row);
        }
        tokens[b] = asking;
        if (by_float)
          detail::claim_by_score(
              begin, end, requested, floats.data() + 2 * begin,
              [&](Index row) { return static_cast<float>(to_double(gates(row, choice(row, 0)))); }, claim);
        if (by_double)
          detail::claim_by_score(
              begin, end, requested, doubles.data() + 2 * begin,
              [&](Index row) {
                double score = 0;
                const Index summed = options.priority == Priority::gate_sum ? num_selected : 1;
                for (Index k = 0; k < summed; ++k) score += to_double(gates(row, choice(row, k)));
                return score;
              },
              claim);
      });
  });
  for (Index g = 0; g < groups.count(); ++g) {
    Index asking = 0;
    for (Index b = g * blocks.per_group; b < (g + 1) * blocks.per_group; ++b) asking += tokens[b];
    const Index capacity =
        options.capacity.seats({.tokens = asking, .num_selected = num_selected, .num_experts = num_experts});
    seats[g] = std::min(capacity, asking);  // nobody asks twice
  }

  Index slots = 0;
  for (Index e = 0; e < num_experts; ++e) {
    offset[e] = slots;
    for (Index g = 0; g < groups.count(); ++g) {
      first_slot(g, e) = slots;
      Index before = 0;
      for (Index k = 0; k < ranks; ++k)
        for (Index b = g * blocks.per_group; b < (g + 1) * blocks.per_group; ++b) {
          const Index here = std::exchange(claims(b, k, e), static_cast<std::uint32_t>(before));
          seated[b + 1] += std::clamp<Index>(seats[g] - before, 0, here);
          before += here;
        }
      demand[e] += before;
      slots += std::min(before, seats[g]);
    }
  }
  offset[num_experts] = slots;
  for (Index b = 0; b < blocks.count(); ++b) seated[b + 1] += seated[b];

  ctx.parallel_for(blocks.count(), [&](Index first, Index last, Index) {
    for (Index b = first; b < last; ++b)
      detail::with_constant(num_selected, [&](const auto selected) {
        const Index limit = seats[blocks.group(b)], end = seated[b + 1], nowhere = most + b, stride = rank_stride;
        // Plain pointers: the compiler cannot know that no store changes the extents of a view.
        const Index* const slot_of = first_slot[blocks.group(b)].data();
        const std::uint32_t *const before = claims[b].data(), *claim = seat.data() + blocks.begin(b) * selected;
        Index *const token_at = token.data(), *const rank_at = rank.data(), *const list = token_slot.data();
        Index n = seated[b];
        for (Index row = blocks.begin(b); row < blocks.end(b); ++row, claim += selected) {
          token_offset[row] = n;
          if (requested[row] == 0) continue;
          const Index* const wish = &choice(row, 0);
          for (Index k = 0; k < selected; ++k) {
            const Index nth = Index{claim[k]} + before[k * stride + wish[k]];
            const Index slot = nth < limit ? slot_of[wish[k]] + nth : nowhere;
            token_at[slot] = row;
            rank_at[slot] = k;
            list[n < end ? n : nowhere] = slot;
            n += nth < limit;
          }
        }
      });
  });
  token_offset[rows] = slots;
  for (Index e = 0; e < num_experts; ++e) std::fill(expert.data() + offset[e], expert.data() + offset[e + 1], e);
  return {offset,
          token.rows(0, slots),
          expert.rows(0, slots),
          rank.rows(0, slots),
          token_offset,
          token_slot.rows(0, slots),
          demand,
          requested};
}

}  // namespace gatefold
