#include "gatefold/train/shuffle.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace gatefold {
namespace {

TEST(Shuffle, EveryPassIsAPermutation) {
  for (const Index size : {1, 2, 3, 4, 5, 15, 16, 17, 100, 1000, 4097})
    for (Index pass = 0; pass < 3; ++pass) {
      const Shuffle order{.size = size, .seed = 5};
      std::vector<int> seen(static_cast<std::size_t>(size));
      for (Index i = 0; i < size; ++i) ++seen[static_cast<std::size_t>(order(pass * size + i))];
      EXPECT_EQ(seen, std::vector<int>(static_cast<std::size_t>(size), 1)) << size << " " << pass;
    }
}

TEST(Shuffle, PassesAndSeedsDiffer) {
  const auto pass = [](std::uint64_t seed, Index first) {
    std::vector<Index> all;
    for (Index i = 0; i < 50; ++i) all.push_back(Shuffle{.size = 50, .seed = seed}(first + i));
    return all;
  };
  EXPECT_EQ(pass(1, 0), pass(1, 0));
  EXPECT_NE(pass(1, 0), pass(1, 50));
  EXPECT_NE(pass(1, 0), pass(2, 0));
  EXPECT_NE(pass(1, 0), pass(std::uint64_t{1} << 32 | 1, 0));
  EXPECT_NE(pass(1, 0), pass(1, Index{50} << 32));
}

/// Where a sample stands is uniform, and so is who comes after whom: chi-square over cells, at five standard
/// deviations.
TEST(Shuffle, IsEvenOverPlacesAndNeighbours) {
  constexpr Index kSize = 12, kPasses = 12000;
  std::vector<double> place(kSize * kSize), neighbour(kSize * kSize);
  const Shuffle order{.size = kSize, .seed = 7};
  for (Index pass = 0; pass < kPasses; ++pass)
    for (Index i = 0; i < kSize; ++i) {
      const Index sample = order(pass * kSize + i);
      ++place[static_cast<std::size_t>(i * kSize + sample)];
      if (i > 0) ++neighbour[static_cast<std::size_t>(order(pass * kSize + i - 1) * kSize + sample)];
    }
  double of_places = 0, of_neighbours = 0;
  for (Index a = 0; a < kSize; ++a)
    for (Index b = 0; b < kSize; ++b) {
      const auto at = static_cast<std::size_t>(a * kSize + b);
      of_places += std::pow(place[at] - kPasses / kSize, 2) / (kPasses / kSize);
      const double expected = kPasses / double{kSize};  // (kSize - 1) pairs among kSize (kSize - 1)
      if (a != b) of_neighbours += std::pow(neighbour[at] - expected, 2) / expected;
    }
  const double freedom = (kSize - 1) * (kSize - 1), pairs = kSize * (kSize - 1);
  EXPECT_LT(std::abs(of_places - freedom), 5 * std::sqrt(2 * freedom));
  EXPECT_LT(std::abs(of_neighbours - pairs), 5 * std::sqrt(2 * pairs));
}

TEST(Shuffle, RefusesWhatIsNoOrder) {
  EXPECT_THROW((void)Shuffle{.size = 0}(0), OptionError);
  EXPECT_THROW((void)Shuffle{.size = (Index{1} << 32) + 1}(0), OptionError);
  EXPECT_THROW((void)Shuffle{.size = 3}(-1), OptionError);
  const Shuffle large{.size = Index{1} << 32};
  EXPECT_NE(large(0), large(1));
}

}  // namespace
}  // namespace gatefold
