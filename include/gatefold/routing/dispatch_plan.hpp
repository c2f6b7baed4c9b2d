#pragma once
#include <limits>

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
  View<const Index, 1> requested;     // [S] requests of each token: K, or the experts open to it; 0 for padding

  Index num_slots() const { return token.extent(0); }
  Index num_experts() const { return demand.extent(0); }
  Index num_tokens() const { return requested.extent(0); }
  std::pair<Index, Index> slots(Index e) const { return {offset[e], offset[e + 1]}; }
  View<const Index, 1> slots_of_token(Index row) const {
    return token_slot.rows(token_offset[row], token_offset[row + 1]);
  }
  kernels::RowLists token_lists() const { return {token_offset, token_slot}; }
};

namespace detail {

/// Consecutive rows routed together; the last group may be shorter.
struct RowGroups {
  Index rows = 0, size = 0;
  static RowGroups of(Index rows, Index group_size) {
    expect_option(group_size >= 0, "routing", "group_size", group_size, "0 (all rows) or more");
    return {.rows = rows, .size = group_size ? group_size : rows};
  }
  Index count() const { return size ? (rows + size - 1) / size : 0; }
  Index begin(Index g) const { return g * size; }
  Index end(Index g) const { return std::min(rows, begin(g) + size); }
};

inline bool is_padding(const TokenLayout* layout, Index row) { return layout && layout->modality[row] == kPadding; }

/// A logit of -inf closes the expert to the token.
template <Real T>
bool is_closed(const T& logit) {
  return to_double(logit) == -std::numeric_limits<double>::infinity();
}
/// An expert is open to the token, or it has a NaN. // logits [E]
template <Real T>
bool any_open(View<const T, 1> logits) {
  for (Index e = 0; e < logits.extent(0); ++e)
    if (!is_closed(logits[e])) return true;
  return false;
}

/// Padding asks for nobody: its choices become -1. // choice [S, K]
inline void forget_padding(View<Index, 2> choice, const TokenLayout* layout) {
  if (!layout) return;
  for (Index row = 0; row < choice.extent(0); ++row)
    if (is_padding(layout, row)) std::fill_n(choice[row].data(), choice.extent(1), Index{-1});
}

inline void expect_layout(const TokenLayout* layout, Index rows, std::string_view what) {
  if (layout) expect_shape(layout->modality, {rows}, what);
}

}  // namespace detail

}  // namespace gatefold
