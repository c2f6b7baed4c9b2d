#pragma once
#include "gatefold/kernels/claims.hpp"
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
  if (n == 8) return body(std::integral_constant<Index, 8>());
  body(n);
}

/// Counts the claims of rows as they come: seat(k, row) = how many went before to the same expert, by any rank or, with
/// a stride between the counters of ranks, by the same one. // seat [K, S]
struct ClaimCounter {
  View<const Index, 2> choice;
  View<std::uint32_t, 2> seat;
  std::uint32_t* claimed;
  Index num_experts, rank_stride;

  void operator()(Index row, auto num_selected) const {
    for (Index k = 0; k < num_selected && choice(row, k) >= 0; ++k)
      seat(k, row) = claimed[k * rank_stride + choice(row, k)]++;
  }
  /// Of rows that make all their claims.
  void rows(Index begin, Index end, auto num_selected) const {
    const Index *wish = choice.data() + begin * choice.stride(0), stride = choice.stride(0), of_rank = rank_stride;
    std::uint32_t *out = seat.data(), *const made = claimed;
    const Index out_stride = seat.stride(0);
    for (Index row = begin; row < end; ++row, wish += stride)
      for (Index k = 0; k < num_selected; ++k) out[k * out_stride + row] = made[k * of_rank + wish[k]]++;
  }
  /// All rows of the range, rank by rank where that is the same and faster.
  void all(Isa isa, Index begin, Index end, auto num_selected) const {
    if (num_experts > kernels::kFewExperts || num_selected > 2 || (num_selected > 1 && rank_stride == 0))
      return rows(begin, end, num_selected);
    for (Index k = 0; k < num_selected; ++k)
      kernels::count_claims(isa, {choice.data() + begin * choice.stride(0) + k, choice.stride(0), end - begin},
                            num_experts, claimed + k * rank_stride, seat.data() + k * seat.stride(0) + begin);
  }
};

struct Asking {
  Index rows = 0;    // that ask for somebody
  bool all = false;  // every row asks K times
};

/// requested[row] = how many experts it asks for: choices that are not -1, which come first.
inline Asking count_requests(const View<const Index, 2>& choice, Index begin, Index end, auto num_selected,
                             Index* requested) {
  const Index *wish = choice.data() + begin * choice.stride(0), stride = choice.stride(0), most = num_selected;
  Index complete = 0, some = 0;
  for (Index row = begin; row < end; ++row, wish += stride) {
    Index count = most;
    while (count > 0 && wish[count - 1] < 0) --count;
    requested[row] = count;
    complete += count == most;
    some += count > 0;
  }
  return {.rows = some, .all = complete == end - begin};
}

/// The rows of one block and where their slots go: those of rank k at expert e from base[k rank_stride + e] on, as far
/// as end_slot[e]. Plain pointers: the compiler cannot know that no store changes the extents of a view.
struct Seating {
  Index begin, end;     // rows
  Index first_of_list;  // of its part of token_slot
  Index end_of_list;
  const Index* choice;  // of the first row
  Index choice_stride;
  const std::uint32_t* claim;  // of the first row and first rank
  Index claim_stride;          // between ranks
  const Index *base, *end_slot;
  Index rank_stride;
  Index nowhere;  // takes what has no seat
};
struct SeatLists {
  Index *token, *rank, *token_offset, *token_slot;
};

/// Every row asks, and every wish is granted.
inline void seat_all(const Seating& in, const SeatLists& out, auto selected) {
  const Index *wish = in.choice, *const base = in.base;
  const Index begin = in.begin, end = in.end, first = in.first_of_list;
  const Index choice_stride = in.choice_stride, claim_stride = in.claim_stride, rank_stride = in.rank_stride;
  const std::uint32_t* claim = in.claim;
  Index *const token = out.token, *const rank = out.rank, *list = out.token_slot + first;
  for (Index row = begin; row < end; ++row) out.token_offset[row] = first + (row - begin) * selected;
  for (Index row = begin; row < end; ++row, wish += choice_stride, ++claim, list += selected)
    for (Index k = 0; k < selected; ++k) {
      const Index slot = base[k * rank_stride + wish[k]] + claim[k * claim_stride];
      token[slot] = row;
      if (selected > 1) rank[slot] = k;
      list[k] = slot;
    }
}

/// Some rows ask less often, or some wishes are turned away.
inline void seat_some(const Seating& in, const SeatLists& out, auto selected) {
  const Index* wish = in.choice;
  const std::uint32_t* claim = in.claim;
  Index n = in.first_of_list;
  for (Index row = in.begin; row < in.end; ++row, wish += in.choice_stride, ++claim) {
    out.token_offset[row] = n;
    for (Index k = 0; k < selected && wish[k] >= 0; ++k) {
      const Index next = in.base[k * in.rank_stride + wish[k]] + claim[k * in.claim_stride];
      const bool seated = next < in.end_slot[wish[k]];
      const Index slot = seated ? next : in.nowhere;
      out.token[slot] = row;
      if (selected > 1) out.rank[slot] = k;
      out.token_slot[n < in.end_of_list ? n : in.nowhere] = slot;
      n += seated;
    }
  }
}

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

/// The K experts with the largest scores (gates, or any others) of each token, best first; the lower expert among
/// equals, NaN last. A score of -inf closes the expert to the token: it is not asked, and where fewer than K are open
/// the rest of the choices is -1, as is every choice of padding. (V-MoE lets closed experts be asked, which adds
/// nothing but takes seats.) The routers of this library choose by gates, and among gates of 0 by logits: one of -inf
/// closes.
/// // gates [S, E], choice [S, K]
template <Real T>
void select_top_k(Rows<const T> gates, View<Index, 2> choice, Context& ctx) {
  kernels::top_k_rows<T>(gates, choice, ctx);
  detail::forget_padding(choice, ctx.layout);
}

/// Seats the choices of the tokens, group by group; an expert without a free seat turns a request away. A choice of -1
/// asks for nobody, and only more of them may follow it. Capacity counts the tokens that ask: neither padding nor those
/// to whom every expert is closed. O(S K) with counting, for priorities too. // gates [S, E], choice [S, K]
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
  auto seat = ws.take<std::uint32_t>(num_selected, rows);                           // within block, rank and expert
  auto tokens = ws.take<Index>(blocks.count()), seats = ws.take<Index>(groups.count());  // C of each group
  auto base = ws.take<Index>(blocks.count(), ranks, num_experts);                        // first slot of those
  auto end_slot = ws.take<Index>(groups.count(), num_experts);
  auto seated = ws.take_zeroed<Index>(blocks.count() + 1);
  const bool by_float = std::is_same_v<T, float> && options.priority == Priority::max_gate;
  const bool by_double = !by_float && options.priority != Priority::position;
  auto floats = ws.take<detail::Keyed<std::uint32_t>>(by_float ? 2 * rows : 0);
  auto doubles = ws.take<detail::Keyed<std::uint64_t>>(by_double ? 2 * rows : 0);

  ctx.parallel_for(blocks.count(), [&](Index first, Index last, Index) {
    for (Index b = first; b < last; ++b)
      detail::with_constant(num_selected, [&](const auto selected) {
        const Index begin = blocks.begin(b), end = blocks.end(b);
        const detail::ClaimCounter count{choice, seat, claims[b].data(), num_experts, rank_stride};
        const auto claim = [&](Index row) { count(row, selected); };
        const detail::Asking asking = detail::count_requests(choice, begin, end, selected, requested.data());
        if (options.priority == Priority::position) {
          if (asking.all) {
            count.all(ctx.isa, begin, end, selected);
          } else {
            for (Index row = begin; row < end; ++row)
              if (requested[row] > 0) claim(row);
          }
        }
        tokens[b] = asking.rows;
        if (by_float)
          detail::claim_by_score(
              begin, end, requested, floats.data() + 2 * begin,
              [&](Index row) { return static_cast<float>(to_double(gates(row, choice(row, 0)))); }, claim);
        if (by_double)
          detail::claim_by_score(
              begin, end, requested, doubles.data() + 2 * begin,
              [&](Index row) {
                double score = 0;
                const Index summed = options.priority == Priority::gate_sum ? requested[row] : 1;
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
      Index before = 0;
      for (Index k = 0; k < ranks; ++k)
        for (Index b = g * blocks.per_group; b < (g + 1) * blocks.per_group; ++b) {
          const Index here = claims(b, k, e);
          base(b, k, e) = slots + before;
          seated[b + 1] += std::clamp<Index>(seats[g] - before, 0, here);
          before += here;
        }
      demand[e] += before;
      end_slot(g, e) = slots += std::min(before, seats[g]);
    }
  }
  offset[num_experts] = slots;
  for (Index b = 0; b < blocks.count(); ++b) seated[b + 1] += seated[b];

  const detail::SeatLists lists{token.data(), rank.data(), token_offset.data(), token_slot.data()};
  ctx.parallel_for(blocks.count(), [&](Index first, Index last, Index) {
    for (Index b = first; b < last; ++b)
      detail::with_constant(num_selected, [&](const auto selected) {
        const detail::Seating block{.begin = blocks.begin(b),
                                    .end = blocks.end(b),
                                    .first_of_list = seated[b],
                                    .end_of_list = seated[b + 1],
                                    .choice = choice.data() + blocks.begin(b) * choice.stride(0),
                                    .choice_stride = choice.stride(0),
                                    .claim = seat.data() + blocks.begin(b),
                                    .claim_stride = rows,
                                    .base = base[b].data(),
                                    .end_slot = end_slot[blocks.group(b)].data(),
                                    .rank_stride = rank_stride,
                                    .nowhere = most + b};
        if (block.end_of_list - block.first_of_list == (block.end - block.begin) * selected)
          detail::seat_all(block, lists, selected);
        else
          detail::seat_some(block, lists, selected);
      });
  });
  token_offset[rows] = slots;
  if (num_selected == 1) std::fill_n(rank.data(), slots, Index{0});
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

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold {

GATEFOLD_COMPILED DispatchPlan plan_top_k<float>(Rows<const float>, View<const Index, 2>, const SeatingOptions&,
                                                 Context&);

}  // namespace gatefold
#endif
