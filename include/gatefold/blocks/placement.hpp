#pragma once
#include <vector>

#include "gatefold/core/error.hpp"

namespace gatefold {

/// Which blocks of an encoder are sparse.
struct Placement {
  std::vector<Index> layers;  ///< 0-based, ascending

  bool is_sparse(Index layer) const {
    for (const Index sparse : layers)
      if (sparse == layer) return true;
    return false;
  }

  static Placement none() { return {}; }
  /// V-MoE's «every n»: blocks n-1, 2n-1, ...
  static Placement every(Index n, Index num_layers) {
    expect_option(n > 0, "Placement::every: n is " + std::to_string(n) + ", expected 1 or more");
    Placement placement;
    for (Index layer = n - 1; layer < num_layers; layer += n) placement.layers.push_back(layer);
    return placement;
  }
  /// V-MoE's «last n»: the last n odd-numbered blocks, so that sparse and dense alternate.
  static Placement last_alternating(Index n, Index num_layers) {
    Placement placement;
    for (Index layer = 1; layer < num_layers; layer += 2) placement.layers.push_back(layer);
    expect_option(n >= 0 && n <= static_cast<Index>(placement.layers.size()),
                  "Placement::last_alternating: n is " + std::to_string(n) + ", expected 0.." +
                      std::to_string(placement.layers.size()));
    placement.layers.erase(placement.layers.begin(), placement.layers.end() - n);
    return placement;
  }
  /// The last n blocks, as Soft MoE places them.
  static Placement last(Index n, Index num_layers) {
    expect_option(n >= 0 && n <= num_layers,
                  "Placement::last: n is " + std::to_string(n) + ", expected 0.." + std::to_string(num_layers));
    Placement placement;
    for (Index layer = num_layers - n; layer < num_layers; ++layer) placement.layers.push_back(layer);
    return placement;
  }

  bool operator==(const Placement&) const = default;
};

}  // namespace gatefold
