#pragma once
#include "gatefold/kernels/top_k.hpp"
#include "gatefold/routing/dispatch_plan.hpp"

namespace gatefold {

/// Each expert takes the C tokens of each group that have the largest gates for it; the earlier token among equals, NaN
/// last, padding never, nor a token with the logit -inf, to which the expert is closed. C counts the tokens to which
/// any expert is open, and is clamped to them. `requested` is the number of experts that took a token: nobody asks and
/// nobody is turned away, but a token may be left without any expert. O(S E) and a sort of the taken. (Zhou et al.
/// 2022, «Mixture-of-experts with expert choice routing».) // gates [S, E], 0 where the logits [S, E] are -inf
template <Real T>
DispatchPlan plan_expert_choice(Rows<const T> gates, Rows<const T> logits, const Capacity& capacity, Index group_size,
                                Context& ctx) {
  const Index rows = gates.extent(0), num_experts = gates.extent(1);
  const auto groups = detail::RowGroups::of(rows, group_size);
  auto& ws = ctx.workspace;
  auto offset = ws.take<Index>(num_experts + 1), demand = ws.take<Index>(num_experts);
  auto requested = ws.take_zeroed<Index>(rows), token_offset = ws.take<Index>(rows + 1);
  auto seats = ws.take<Index>(groups.count());
  const bool masks = logits.size() > 0;
  Index per_expert = 0, longest = 0;
  for (Index g = 0; g < groups.count(); ++g) {
    Index tokens = 0;
    for (Index row = groups.begin(g); row < groups.end(g); ++row)
      tokens += !detail::is_padding(ctx.layout, row) && !(masks && !detail::any_open<T>(logits[row]));
    seats[g] = std::min(capacity.seats({.tokens = tokens, .num_experts = num_experts}), tokens);
    per_expert += seats[g];
    longest = std::max(longest, tokens);
  }
  const Index most = per_expert * num_experts;
  auto token = ws.take<Index>(most), expert = ws.take<Index>(most), rank = ws.take<Index>(most);
  auto token_slot = ws.take<Index>(most);

  const auto scope = ws.scope();
  auto scratch = ws.take<kernels::Ranked>(ctx.parallel_for.workers(), longest);
  ctx.parallel_for(num_experts, [&](Index first, Index last, Index worker) {
    for (Index e = first; e < last; ++e) {
      const Index first_slot = e * per_expert;  // of all that it might take
      Index slot = first_slot;
      for (Index g = 0; g < groups.count(); ++g) {
        kernels::Ranked* const begin = scratch.data() + worker * longest;
        kernels::Ranked* end = begin;
        for (Index row = groups.begin(g); row < groups.end(g); ++row) {
          const double gate = to_double(gates(row, e));  // 0 where the expert is closed, and seldom else
          const bool closed = masks && gate == 0 && detail::is_closed(logits(row, e));
          if (!closed && !detail::is_padding(ctx.layout, row)) *end++ = {gate, row};
        }
        kernels::Ranked* const taken = begin + std::min<Index>(seats[g], end - begin);
        std::nth_element(begin, taken, end);
        std::sort(begin, taken);
        for (const kernels::Ranked* it = begin; it != taken; ++it) token[slot++] = it->at;
      }
      demand[e] = slot - first_slot;
    }
  });
  Index slots = 0;
  for (Index e = 0; e < num_experts; ++e) {  // close the gaps behind experts that took fewer
    std::copy_n(token.data() + e * per_expert, demand[e], token.data() + slots);
    std::fill_n(expert.data() + slots, demand[e], e);
    offset[e] = std::exchange(slots, slots + demand[e]);
  }
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
  return {offset,
          token.rows(0, slots),
          expert.rows(0, slots),
          rank.rows(0, slots),
          token_offset,
          token_slot.rows(0, slots),
          demand,
          requested};
}

/// The same with every expert open to every token that is no padding.
template <Real T>
DispatchPlan plan_expert_choice(Rows<const T> gates, const Capacity& capacity, Index group_size, Context& ctx) {
  return plan_expert_choice<T>(gates, Rows<const T>(), capacity, group_size, ctx);
}

}  // namespace gatefold

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold {

GATEFOLD_COMPILED DispatchPlan plan_expert_choice<float>(Rows<const float>, const Capacity&, Index, Context&);

}  // namespace gatefold
#endif
