#include "gatefold/routing/soft_mixing.hpp"

#include <gtest/gtest.h>

#include <numbers>

namespace gatefold::soft_mixing_test {
namespace {

TEST(SoftMixing, T9OfVMoe) {
  // Slot = 2 * expert + place: t0 -> 0, 3; t1 -> 2; t2 -> 1, 4; t3 -> 5.
  Tensor<double, 2> weights({4, 6}), mu({6, 2});
  for (const auto& [token, slot] : {std::pair{0, 0}, {0, 3}, {1, 2}, {2, 1}, {2, 4}, {3, 5}})
    weights.view()(token, slot) = 1;
  std::ranges::copy(std::array{1., 0., 0., 1., 2., 0., 1., 1., -1., 0., 0., -1.}, mu.data());
  const auto m = soft_mixing<double>(weights, weights, mu);
  EXPECT_EQ(m.combine_min, 0);
  EXPECT_EQ(m.combine_max, 1);
  EXPECT_EQ(m.dispatch_min, 0);
  EXPECT_EQ(m.dispatch_max, 1);
  EXPECT_EQ(m.combine.min, 0);
  EXPECT_EQ(m.combine.max, 0);
  EXPECT_EQ(m.combine.mean, 0);
  EXPECT_EQ(m.dispatch.min, 0);
  EXPECT_EQ(m.dispatch.max, 1);
  EXPECT_NEAR(m.dispatch.mean, 4.0 / 30, 1e-15);
  EXPECT_NEAR(m.mu.min, -1, 1e-15);
  EXPECT_NEAR(m.mu.max, 1, 1e-15);
  EXPECT_NEAR(m.mu.mean, (std::numbers::sqrt2 / 2 - 2) / 15, 1e-15);
}

TEST(SoftMixing, DegenerateSetsGiveZero) {
  Tensor<double, 2> one({1, 3}), none({0, 3});
  std::fill_n(one.data(), 3, 5.0);
  const auto s = cosine_similarity<double>(one, VectorsAre::rows);
  EXPECT_EQ(s.min, 0);
  EXPECT_EQ(s.max, 0);
  EXPECT_EQ(s.mean, 0);
  EXPECT_NEAR(cosine_similarity<double>(one, VectorsAre::columns).min, 1, 1e-15);
  const auto m = soft_mixing<double>(none, none, one);
  EXPECT_EQ(m.combine_max, 0);
  EXPECT_EQ(m.dispatch_max, 0);
}

TEST(SoftMixing, ZeroVectorsAreOrthogonal) {
  Tensor<double, 2> rows({2, 2});
  rows.data()[0] = 3;
  EXPECT_EQ(cosine_similarity<double>(rows, VectorsAre::rows).max, 0);
}

}  // namespace
}  // namespace gatefold::soft_mixing_test
