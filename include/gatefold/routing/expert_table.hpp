#pragma once
#include <algorithm>

#include "gatefold/core/error.hpp"
#include "gatefold/core/random.hpp"
#include "gatefold/core/tensor.hpp"

namespace gatefold {

/// Experts by number instead of by score: of a token's id (hash layers, Roller et al. 2021, arXiv 2106.04426), or of
/// the task or language of its sequence (Kudugunta et al. 2021, «Beyond distillation: task-level mixture-of-experts»).
/// choice[t] = table[id[t]], where a row with the id -1 asks for nobody. For RoutingTape::layers. Throws OptionError
/// for an id without a row. // table [V, K], id [S], returns [S, K]
inline Tensor<Index, 2> choose_by_table(View<const Index, 2> table, View<const Index, 1> id) {
  Tensor<Index, 2> choice({id.extent(0), table.extent(1)});
  for (Index t = 0; t < id.extent(0); ++t) {
    expect_option(id[t] >= -1 && id[t] < table.extent(0), "choose_by_table", "id", id[t], "-1 or a row of the table");
    for (Index k = 0; k < table.extent(1); ++k) choice.view()(t, k) = id[t] < 0 ? Index{-1} : table(id[t], k);
  }
  return choice;
}

struct ExpertTableOptions {
  Index num_ids, num_experts, num_selected = 1;  // V, E, K
};

/// A random hash: K different experts for each id, drawn evenly. // [V, K]
inline Tensor<Index, 2> random_expert_table(const ExpertTableOptions& o, Rng& rng) {
  expect_size("random_expert_table", "num_ids", o.num_ids);
  expect_option(o.num_selected >= 1 && o.num_selected <= o.num_experts, "random_expert_table", "num_selected",
                o.num_selected, "1 to num_experts");
  Tensor<Index, 2> table({o.num_ids, o.num_selected});
  for (Index v = 0; v < o.num_ids; ++v) {
    Index* const row = table.view()[v].data();
    for (Index k = 0; k < o.num_selected;) {
      row[k] = rng.below(o.num_experts);
      k += std::find(row, row + k, row[k]) == row + k;
    }
  }
  return table;
}

}  // namespace gatefold
