#include "gatefold/losses/z_loss.hpp"

#include <gtest/gtest.h>

#include "tests/losses/router_case.hpp"

namespace gatefold {
namespace {

using namespace test;

TEST(ZLoss, ValueAndGradientByHand) {
  const auto c = from_logits({{1, 0, -1}, {.5, .5, 0}});
  EXPECT_NEAR(value_of<double>(ZLoss{}, c), 2.0535885640, 1e-10);
  expect_rows(gradient_of(ZLoss{}, c), {{.93639714, .34448126, .12672758}, {.55937193, .55937193, .33927623}}, 1e-8);
}

TEST(ZLoss, IsTheSquareOfTheLogitWithOneExpert) {
  const auto c = from_logits({{3}, {-1}});
  EXPECT_NEAR(value_of<double>(ZLoss{}, c), 5, 1e-14);
  expect_rows(gradient_of(ZLoss{}, c), {{3}, {-1}}, 1e-14);
}

TEST(ZLoss, HugeLogitsStayExact) {
  // log(e^1000 + e^1000) = 1000 + log 2, where exp alone would overflow.
  const double lse = 1000 + std::numbers::ln2;
  EXPECT_NEAR(value_of<double>(ZLoss{}, from_logits({{1000, 1000, -1000}})), lse * lse, 1e-9);
}

TEST(ZLoss, ObeysTheLawsOfRouterLosses) { expect_router_loss_laws(ZLoss{}); }

}  // namespace
}  // namespace gatefold
