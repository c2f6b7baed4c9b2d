#pragma once
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "gatefold/core/shape.hpp"

/// Sorting tokens by a score. A comparison sort waits for one mispredicted branch after the other; counting digits has
/// none, and keeps the order of equals by itself.
namespace gatefold::detail {

/// A token and the bits of its score, turned so that they ascend where the score descends.
template <class Key>
struct Keyed {
  Key key;
  std::uint32_t row;
};

/// Smaller keys for larger scores; zeros are equal, NaN comes last.
inline std::uint32_t descending_key(float score) {
  const auto bits = std::bit_cast<std::int32_t>(score + 0.0f);  // -0 turns into +0
  const auto ascending = static_cast<std::uint32_t>(bits < 0 ? ~bits : bits | std::numeric_limits<std::int32_t>::min());
  return std::isnan(score) ? ~std::uint32_t{0} : ~ascending;
}
inline std::uint64_t descending_key(double score) {
  const auto bits = std::bit_cast<std::int64_t>(score + 0.0);
  const auto ascending = static_cast<std::uint64_t>(bits < 0 ? ~bits : bits | std::numeric_limits<std::int64_t>::min());
  return std::isnan(score) ? ~std::uint64_t{0} : ~ascending;
}

/// Sorts by ascending key, equals in the order they came. The result lies in `items` or in `spare`: where the returned
/// pointer says. O(n) for each byte in which keys differ.
template <class Key>
Keyed<Key>* sort_by_key(Keyed<Key>* items, Keyed<Key>* spare, Index n) {
  constexpr std::size_t kDigits = sizeof(Key), kValues = 256;
  std::array<std::array<std::uint32_t, kValues>, kDigits> place{};  // how many of each digit, then where they go
  const auto digit = [](const Keyed<Key>& item, std::size_t d) { return (item.key >> (8 * d)) & (kValues - 1); };
  for (const auto* it = items; it != items + n; ++it)
    for (std::size_t d = 0; d < kDigits; ++d) ++place[d][digit(*it, d)];
  for (std::size_t d = 0; d < kDigits; ++d) {
    if (n > 0 && place[d][digit(*items, d)] == static_cast<std::uint32_t>(n)) continue;  // the same in all
    std::uint32_t sum = 0;
    for (auto& count : place[d]) sum += std::exchange(count, sum);
    for (const auto* it = items; it != items + n; ++it) spare[place[d][digit(*it, d)]++] = *it;
    std::swap(items, spare);
  }
  return items;
}

}  // namespace gatefold::detail
