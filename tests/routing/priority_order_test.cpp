#include "gatefold/routing/priority_order.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "gatefold/core/random.hpp"

namespace gatefold::detail::priority_order_test {
namespace {

template <class T>
T odd_number(Rng& rng) {
  using Limits = std::numeric_limits<T>;
  const std::array<T, 12> numbers{T(0),
                                  T(-0.0),
                                  Limits::infinity(),
                                  -Limits::infinity(),
                                  Limits::quiet_NaN(),
                                  -Limits::quiet_NaN(),
                                  Limits::denorm_min(),
                                  -Limits::denorm_min(),
                                  Limits::max(),
                                  Limits::lowest(),
                                  T(.5),
                                  T(-.5)};
  return numbers[static_cast<std::size_t>(rng.below(12))];
}

template <class T>
void check_against_stable_sort() {
  using Key = decltype(descending_key(T()));
  Rng rng(1);
  for (int i = 0; i < 1500; ++i) {
    const Index n = i < 3 ? i : i % 100 == 0 ? 5000 : rng.below(300), kind = rng.below(5);
    std::vector<T> score(static_cast<std::size_t>(n));
    for (T& s : score)
      s = kind == 0   ? odd_number<T>(rng)
          : kind == 1 ? T(rng.below(6)) / T(5)
          : kind == 2 ? T(rng.normal() * std::exp(40 * rng.normal()))
          : kind == 3 ? T(.25)
                      : T(rng.uniform());
    std::vector<Keyed<Key>> items, spare(score.size());
    std::vector<std::uint32_t> wanted;
    for (const T s : score) {
      wanted.push_back(static_cast<std::uint32_t>(items.size()));
      items.push_back({descending_key(s), wanted.back()});
    }
    std::stable_sort(wanted.begin(), wanted.end(), [&](std::uint32_t a, std::uint32_t b) {
      if (std::isnan(score[a]) || std::isnan(score[b])) return std::isnan(score[b]) && !std::isnan(score[a]);
      return score[a] > score[b];
    });
    const auto* const sorted = sort_by_key(items.data(), spare.data(), n);
    for (std::size_t at = 0; at < wanted.size(); ++at) ASSERT_EQ(sorted[at].row, wanted[at]) << i << " " << at;
  }
}

TEST(PriorityOrder, EqualsAStableSortOfFloats) { check_against_stable_sort<float>(); }
TEST(PriorityOrder, EqualsAStableSortOfDoubles) { check_against_stable_sort<double>(); }

}  // namespace
}  // namespace gatefold::detail::priority_order_test
