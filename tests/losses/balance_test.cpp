#include "gatefold/losses/balance.hpp"

#include <gtest/gtest.h>

#include "tests/losses/router_case.hpp"

namespace gatefold {
namespace {

using namespace testing;

// vmoe/nn/routing_test.py.
TEST(Balance, PublishedValueAndItsGradient) {
  EXPECT_NEAR(value_of<double>(Balance{}, vmoe_case()), 1.0875, 1e-15);
  expect_rows(gradient_of(Balance{}, vmoe_case()),
              {{.075, -.09, .015}, {.03375, -.07875, .045}, {.0075, -.06, .0525}, {.06, -.06, 0}}, 1e-15);
}

TEST(Balance, MayGoBelowOne) {
  const auto c = from_probs({{.34, .33, .33}, {.34, .33, .33}, {.34, .33, .33}, {0, .5, .5}, {0, .5, .5}});
  // f = (3/5, 2/5, 0), m = (.204, .398, .398).
  EXPECT_NEAR(value_of<double>(Balance{}, c), .8448, 1e-15);
}

TEST(Balance, BalancedAndCollapsed) {
  auto balanced = from_logits({{0, 0, 0, 0}, {0, 0, 0, 0}});
  auto collapsed = from_probs({{1, 0, 0, 0}, {1, 0, 0, 0}});
  for (auto* c : {&balanced, &collapsed}) c->num_selected = 2;
  EXPECT_NEAR(value_of<double>(Balance{}, balanced), 1, 1e-15);
  EXPECT_NEAR(value_of<double>(Balance{.picks = Balance::Picks::any}, balanced), 2, 1e-15);
  EXPECT_NEAR(value_of<double>(Balance{.picks = Balance::Picks::any_over_k}, balanced), 1, 1e-15);
  EXPECT_NEAR(value_of<double>(Balance{}, collapsed), 4, 1e-14);
  EXPECT_EQ(value_of<double>(Balance{}, from_logits({{3}, {-1}})), 1);
}

TEST(Balance, CountsAllChoicesWhereAsked) {
  auto c = vmoe_case();
  c.num_selected = 2;
  // Choices {0,1}, {2,0}, {2,1}, {0,1}: f = (3, 3, 2) / 4, m = (.425, .275, .3).
  const double any = 3 * (3 * .425 + 3 * .275 + 2 * .3) / 4;
  EXPECT_NEAR(value_of<double>(Balance{.picks = Balance::Picks::any}, c), any, 1e-15);
  EXPECT_NEAR(value_of<double>(Balance{.picks = Balance::Picks::any_over_k}, c), any / 2, 1e-15);
}

TEST(Balance, EmptyChoicesCountForNoExpert) {
  Context ctx;
  Scored<double> s;
  auto c = vmoe_case();
  c.num_selected = 2;
  look_at(c, s);
  s.choice.view()(3, 1) = -1;
  // As above, but f = (3, 2, 2) / 4.
  EXPECT_NEAR((Balance{.picks = Balance::Picks::any}.value(s.scores, ctx)), 3 * (3 * .425 + 2 * .275 + 2 * .3) / 4,
              1e-15);
}

TEST(Balance, NoisyProbabilitiesAreThoseSelectedBy) {
  // With the noise inside the logits, the clean loss of the sum is the noisy loss of the parts.
  const auto parts = random_case({.seed = 4, .num_selected = 2, .noise_std = 1});
  auto sum = parts;
  for (std::size_t i = 0; i < sum.logits.flat().size(); ++i) sum.logits.flat()[i] += parts.noise.flat()[i];
  sum.noise_std = 0;
  EXPECT_NEAR(value_of<double>(Balance{.probs = Balance::Probs::noisy}, parts), value_of<double>(Balance{}, sum),
              1e-14);
  EXPECT_GT(std::abs(value_of<double>(Balance{}, parts) - value_of<double>(Balance{}, sum)), 1e-3);
}

TEST(Balance, RefusesChoicesOfAnotherShape) {
  Context ctx;
  Scored<double> s;
  look_at(vmoe_case(), s);
  s.scores.choice = {};
  EXPECT_THROW((void)Balance{}.value(s.scores, ctx), ShapeError);
}

TEST(Balance, ObeysTheLawsOfRouterLosses) {
  expect_router_loss_laws(Balance{});
  expect_router_loss_laws(Balance{.picks = Balance::Picks::any, .probs = Balance::Probs::noisy});
  expect_router_loss_laws(Balance{.picks = Balance::Picks::any_over_k, .probs = Balance::Probs::noisy});
}

}  // namespace
}  // namespace gatefold
