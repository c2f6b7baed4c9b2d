#include "zero_shot/candidate.hpp"

#include <gtest/gtest.h>

#include <array>

namespace zero_shot {
namespace {

TEST(Candidate, TheBestComesFirstEqualsInOrderAndNoNumberLast) {
  const std::array<Index, 4> choices{7, 8, 9, 10};
  const std::array<double, 4> cosines{0.1, std::nan(""), 0.3, 0.1};
  const auto ranked = rank(choices, cosines, 10);
  ASSERT_EQ(ranked.size(), 4u);
  EXPECT_EQ(ranked[0].label, 9);
  EXPECT_EQ(ranked[1].label, 7);
  EXPECT_EQ(ranked[2].label, 10);
  EXPECT_EQ(ranked[3].label, 8);
  EXPECT_TRUE(std::isnan(ranked[3].probability));
  const double e = std::exp(-2);  // softmax of 3, 1, 1
  EXPECT_NEAR(ranked[0].probability, 1 / (1 + 2 * e), 1e-12);
  EXPECT_NEAR(ranked[1].probability, e / (1 + 2 * e), 1e-12);
}

}  // namespace
}  // namespace zero_shot
