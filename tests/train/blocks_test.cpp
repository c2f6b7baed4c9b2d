#include "gatefold/train/blocks.hpp"

#include <gtest/gtest.h>

#include "tests/train/optimizer_model.hpp"

namespace gatefold {
namespace {

TEST(Blocks, CoverEveryItemOnceWhateverTheThreads) {
  for (const Index count : {0, 1, 9, 10, 11, 95})
    for (const Index workers : {1, 2, 7}) {
      std::vector<int> hits(static_cast<std::size_t>(count));
      for_each_block({.count = count, .size = 10}, test::threads(workers), [&](Index block, Index begin, Index end) {
        EXPECT_EQ(begin, 10 * block);
        EXPECT_LE(end - begin, 10);
        for (Index i = begin; i < end; ++i) ++hits[static_cast<std::size_t>(i)];
      });
      EXPECT_EQ(std::ranges::count(hits, 1), count);
    }
}

TEST(Blocks, SumsAreExactOnWholeNumbers) {
  Context ctx;
  for (const Index n : {0, 1, 7, 8, 9, 4095, 4097, 9001}) {
    const auto identity = [](Index i) { return static_cast<double>(i); };
    EXPECT_EQ(sum_in_lanes(0, n, identity), static_cast<double>(n * (n - 1) / 2));
    EXPECT_EQ(sum_over_blocks({.count = n}, ctx, [&](Index b, Index e) { return sum_in_lanes(b, e, identity); }),
              static_cast<double>(n * (n - 1) / 2));
  }
}

}  // namespace
}  // namespace gatefold
