#pragma once
#include <cmath>
#include <limits>

#include "gatefold/core/error.hpp"

namespace gatefold {

/// How many seats each expert offers to a group of tokens: factor * requests / experts, rounded. A factor means another
/// number of seats in every library, so all that they disagree on is a field. (V-MoE, Switch, GShard, DeepSpeed.)
struct Capacity {
  static constexpr double kUnlimited = std::numeric_limits<double>::infinity();
  enum class Counts { assignments, tokens };       ///< Does the K of top-K multiply the seats?
  enum class Rounding { ceil, half_even, floor };  ///< half_even is what Python's round does.
  struct Group {
    Index tokens = 0, num_selected = 1, num_experts = 1;  // S, K, E
  };

  double factor = kUnlimited;  ///< Infinity turns nobody away («dropless»).
  Counts counts = Counts::assignments;
  Rounding rounding = Rounding::ceil;
  Index multiple_of = 1;
  Index minimum = 0;

  bool operator==(const Capacity&) const = default;

  /// C, the seats of one expert. It may exceed the tokens, which does no harm; without tokens it is 0. Throws
  /// OptionError if the factor is not positive or rounds to no seat at all.
  Index seats(const Group& group) const {
    check();
    if (group.tokens == 0) return 0;
    if (std::isinf(factor)) return group.tokens;  // a token asks an expert at most once
    const Index requests = counts == Counts::assignments ? group.tokens * group.num_selected : group.tokens;
    // In double and from left to right, as the reference does: 100 tokens at 1.1 among 10 experts give 12 seats.
    const double exact = static_cast<double>(requests) * factor / static_cast<double>(group.num_experts);
    const double rounded = rounding == Rounding::ceil    ? std::ceil(exact)
                           : rounding == Rounding::floor ? std::floor(exact)
                                                         : exact - std::remainder(exact, 1.0);
    constexpr double kLargest = 1e15;  // no group is larger, and the sums below stay far from overflow
    Index seats = std::max(static_cast<Index>(std::min(rounded, kLargest)), minimum);
    // Not expect_option, whose text would be made, on the heap, in every pass of every layer.
    if (seats < 1)
      throw OptionError("Capacity: factor " + std::to_string(factor) + " leaves no seat at an expert for " +
                        std::to_string(requests) + " requests to " + std::to_string(group.num_experts) +
                        " experts, expected at least 1");
    if (const Index excess = seats % multiple_of) seats += multiple_of - excess;
    return seats;
  }

  /// Throws OptionError unless every field makes sense by itself.
  void check() const {
    if (!(factor > 0)) throw OptionError("Capacity: factor is " + std::to_string(factor) + ", expected more than 0");
    if (multiple_of < 1)
      throw OptionError("Capacity: multiple_of is " + std::to_string(multiple_of) + ", expected at least 1");
    if (minimum < 0) throw OptionError("Capacity: minimum is " + std::to_string(minimum) + ", expected at least 0");
  }
};

}  // namespace gatefold
