#include "zero_shot/softmax.hpp"

#include <gtest/gtest.h>

#include <numeric>

namespace zero_shot {
namespace {

TEST(Probabilities, AreASoftmax) {
  const std::vector<double> cosines{0.25, -0.5, 0.75, 0.75};
  const auto p = probabilities(cosines, 10);
  EXPECT_NEAR(std::accumulate(p.begin(), p.end(), 0.0), 1, 1e-15);
  EXPECT_NEAR(p[2] / p[0], std::exp(5.0), 1e-12 * std::exp(5.0));
  EXPECT_NEAR(p[0] / p[1], std::exp(7.5), 1e-12 * std::exp(7.5));
  EXPECT_EQ(p[2], p[3]);
}

TEST(Probabilities, OfOneLabelIsOne) { EXPECT_EQ(probabilities(std::vector{-0.9}, 100), std::vector{1.0}); }

TEST(Probabilities, StayFiniteForAnyTemperature) {
  const auto p = probabilities(std::vector{1.0, -1.0}, 1e6);
  EXPECT_EQ(p, (std::vector{1.0, 0.0}));
}

TEST(Probabilities, NaNStaysWithItsLabel) {
  const auto p = probabilities(std::vector{0.5, std::nan(""), 0.5}, 20);
  EXPECT_TRUE(std::isnan(p[1]));
  EXPECT_EQ(p[0], 0.5);
  EXPECT_EQ(p[2], 0.5);
  EXPECT_TRUE(std::isnan(probabilities(std::vector{std::nan("")}, 1)[0]));
  EXPECT_TRUE(probabilities({}, 1).empty());
}

}  // namespace
}  // namespace zero_shot
