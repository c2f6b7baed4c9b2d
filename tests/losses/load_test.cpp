#include "gatefold/losses/load.hpp"

#include <gtest/gtest.h>

#include "tests/losses/router_case.hpp"

namespace gatefold {
namespace {

using namespace test;

RouterCase published() {
  RouterCase c = from_logits({{.9, .06, .04}, {.7, .18, .12}, {.85, .05, .1}});
  const double noise[] = {-.037, .026, -.018, -.074, .045, -.015, -.067, -.059, .073};
  std::ranges::copy(noise, c.noise.data());
  c.noise_std = .1;
  c.num_selected = 2;
  return c;
}

// vmoe/nn/routing_test.py has 0.48573864536 from a float32 pipeline; the value in double and its gradient are derived.
TEST(Load, PublishedValueAndItsGradient) {
  EXPECT_NEAR(value_of<double>(Load{}, published()), .485738472616, 1e-12);
  EXPECT_NEAR(value_of<float>(Load{}, published()), .48573864536, 5e-7);
  expect_rows(gradient_of(Load{}, published()),
              {{0, 1.616136351, -1.616136351}, {1.1059e-5, 1.035182406, -1.035193465}, {0, -.771701846, .771701846}},
              1e-9);
}

TEST(Load, IsOffWithoutNoise) {
  auto c = published();
  c.noise_std = 0;
  EXPECT_EQ(value_of<double>(Load{}, c), 0);
  expect_zero(gradient_of(Load{}, c));
}

// The definition itself: draw the noise of one expert again and count how often it reaches the old threshold.
TEST(Load, IsTheVariationOfTheChanceToBeAmongTheK) {
  const auto c = random_case({.seed = 5, .tokens = 3, .experts = 3, .num_selected = 2, .noise_std = .8});
  Scored<double> s;
  look_at(c, s);
  Rng rng(6);
  constexpr int kDraws = 100000;
  double load[3] = {};
  for (Index t = 0; t < 3; ++t)
    for (Index e = 0; e < 3; ++e) {
      const double threshold = s.noisy.view()(t, s.choice.view()(t, 1));
      int reached = 0;
      for (int i = 0; i < kDraws; ++i) reached += c.logits.view()(t, e) + .8 * rng.normal() >= threshold;
      load[e] += static_cast<double>(reached) / kDraws;
    }
  const double mean = (load[0] + load[1] + load[2]) / 3;
  double variance = 0;
  for (const double v : load) variance += (v - mean) * (v - mean) / 3;
  // Each load has a standard error below sqrt(3 / 4 / kDraws) = .003; the value moves by less than that.
  EXPECT_NEAR(value_of<double>(Load{}, c), variance / (mean * mean), .01);
}

TEST(Load, FewerOpenExpertsThanChoicesAreCertain) {
  auto c = from_logits({{0, kMasked, 1}, {.5, kMasked, kMasked}});
  c.noise_std = .3;
  c.num_selected = 3;
  // Loads: (1 + 1) / 2, 0, (1 + 0) / 2. Mean 1/2, variance 1/6.
  EXPECT_NEAR(value_of<double>(Load{}, c), 2. / 3, 1e-15);
  expect_exact_gradient(Load{}, c);
  expect_zero(gradient_of(Load{}, c));

  // A router may as well leave such choices empty.
  Context ctx;
  Scored<double> s;
  look_at(c, s);
  s.choice.view()(0, 2) = s.choice.view()(1, 1) = s.choice.view()(1, 2) = -1;
  Tensor<double, 2> d({2, 3});
  EXPECT_NEAR(Load{}.value(s.scores, ctx), 2. / 3, 1e-15);
  Load{}.add_gradient(s.scores, 1, d, ctx);
  expect_zero(d);
}

TEST(Load, KeepsTheFarTail) {
  // 30 standard deviations below the threshold: 1 - Phi(30) = 4.9e-198, where 1 - erf would be 0 and its slope lost.
  auto c = from_logits({{30, 0}});
  c.noise_std = 1;
  expect_exact_gradient(Load{}, c);
  const double value = value_of<double>(Load{}, c);
  EXPECT_NEAR(value, 1, 1e-15);
  EXPECT_GT(std::abs(gradient_of(Load{}, c).flat()[1]), 0);
}

TEST(Load, RefusesChoicesOfAnotherShape) {
  Context ctx;
  Scored<double> s;
  look_at(published(), s);
  s.scores.choice = {};
  EXPECT_THROW((void)Load{}.value(s.scores, ctx), ShapeError);
}

TEST(Load, ObeysTheLawsOfRouterLosses) { expect_router_loss_laws(Load{}); }

}  // namespace
}  // namespace gatefold
