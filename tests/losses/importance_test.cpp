#include "gatefold/losses/importance.hpp"

#include <gtest/gtest.h>

#include "tests/losses/router_case.hpp"

namespace gatefold {
namespace {

using namespace test;

// vmoe/nn/routing_test.py; its literal is 0.03874999 in float32.
TEST(Importance, PublishedValueAndItsGradient) {
  EXPECT_NEAR(value_of<double>(Importance{}, vmoe_case()), .03875, 1e-15);
  expect_rows(gradient_of(Importance{}, vmoe_case()),
              {{.054375, -.0465, -.007875}, {.04275, -.02475, -.018}, {.017625, -.00975, -.007875}, {.036, -.036, 0}},
              1e-15);
}

TEST(Importance, UniformIsZeroAndOneExpertForAllIsExpertsMinusOne) {
  EXPECT_NEAR(value_of<double>(Importance{}, from_logits({{2, 2, 2, 2}, {0, 0, 0, 0}})), 0, 1e-15);
  EXPECT_NEAR(value_of<double>(Importance{}, from_probs({{0, 1, 0, 0}, {0, 1, 0, 0}})), 3, 1e-14);
  EXPECT_EQ(value_of<double>(Importance{}, from_logits({{3}, {-1}})), 0);
}

TEST(Importance, SeesCleanLogitsOnly) {
  auto c = random_case({.seed = 3, .noise_std = 1});
  const double noisy = value_of<double>(Importance{}, c);
  c.noise_std = 0;
  EXPECT_EQ(value_of<double>(Importance{}, c), noisy);
}

TEST(Importance, ObeysTheLawsOfRouterLosses) { expect_router_loss_laws(Importance{}); }

}  // namespace
}  // namespace gatefold
