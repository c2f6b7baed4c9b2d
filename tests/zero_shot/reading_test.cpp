#include "zero_shot/reading.hpp"

#include <gtest/gtest.h>

#include "tests/zero_shot/tiny_reader.hpp"

namespace zero_shot {
namespace {

TEST(UsageOf, SharesAndEffectiveExperts) {
  const Usage usage{.tokens = 2, .requests = {3, 1, 0}, .probability = {1, 1, 0}};
  EXPECT_EQ(usage.share(0), 0.75);
  EXPECT_EQ(usage.share(2), 0);
  EXPECT_NEAR(usage.effective_experts(), 2, 1e-12);
  EXPECT_EQ(usage.success_trained(), 1);  // without seats nobody lacks one
  EXPECT_EQ(Usage{}.share(5), 0);
  EXPECT_EQ(Usage{}.effective_experts(), 0);
}

TEST(ScoreOf, CountsTheRightOnes) {
  const Reader reader = tiny::reader();
  Reading reading = tiny::plan(3, {"a pink bag", "a blue bag"}, reader);
  reading.pictures[0].ranked = {{.label = 0}, {.label = 1}};
  reading.pictures[1].ranked = {{.label = 1}, {.label = 0}};
  reading.pictures[2].expected = {};
  const Score s = score(reading);
  EXPECT_EQ(s.known, 2);
  EXPECT_EQ(s.right, 1);
  EXPECT_EQ(s.never_seen, 2);
  EXPECT_EQ(s.never_seen_right, 1);
  EXPECT_EQ(s.by_chance, 1);
}

}  // namespace
}  // namespace zero_shot
