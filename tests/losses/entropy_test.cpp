#include "gatefold/losses/entropy.hpp"

#include <gtest/gtest.h>

#include "tests/losses/router_case.hpp"

namespace gatefold {
namespace {

using namespace test;

RouterCase two_tokens() { return from_logits({{1, 0, -1}, {.5, .5, 0}}); }

TEST(LocalEntropy, ValueAndGradientByHand) {
  EXPECT_NEAR(value_of<double>(LocalEntropy{}, vmoe_case()), .8336173359, 1e-10);
  EXPECT_NEAR(value_of<double>(LocalEntropy{}, two_tokens()), .9533819693, 1e-10);
  expect_rows(gradient_of(LocalEntropy{}, two_tokens()),
              {{-.14129373, .07038518, .07090855}, {-.02231861, -.02231861, .04463721}}, 1e-8);
}

TEST(LocalEntropy, UniformOverSomeAndOneHot) {
  const auto uniform = from_probs({{.25, .25, 0, .25, .25}});
  EXPECT_NEAR(value_of<double>(LocalEntropy{}, uniform), std::log(4.), 1e-15);
  expect_zero(gradient_of(LocalEntropy{}, uniform), 1e-15);
  const auto sure = from_probs({{0, 1, 0}});
  EXPECT_EQ(value_of<double>(LocalEntropy{}, sure), 0);
  expect_zero(gradient_of(LocalEntropy{}, sure));
  EXPECT_EQ(value_of<double>(LocalEntropy{}, from_logits({{3}})), 0);
}

TEST(GlobalEntropy, ValueAndGradientByHand) {
  EXPECT_NEAR(value_of<double>(GlobalEntropy{}, vmoe_case()), -1.0798705879, 1e-10);
  EXPECT_NEAR(value_of<double>(GlobalEntropy{}, two_tokens()), -.9965823643, 1e-10);
  expect_rows(gradient_of(GlobalEntropy{}, two_tokens()),
              {{.07700261, -.03436502, -.04263759}, {.09031881, -.00796219, -.08235662}}, 1e-8);
}

TEST(GlobalEntropy, ThresholdByHand) {
  // Experts that nobody may use leave the entropy as it is and let tau go up to log 20.
  RouterCase c = from_logits(std::vector(4, std::vector(20, kMasked)));
  for (Index t = 0; t < 4; ++t) std::ranges::copy_n(vmoe_case().logits.view()[t].data(), 3, c.logits.view()[t].data());
  const auto at = [&](double experts) { return value_of<double>(GlobalEntropy{.threshold = std::log(experts)}, c); };
  EXPECT_EQ(at(2), 0);
  EXPECT_NEAR(at(3), .0187417007, 1e-10);
  EXPECT_NEAR(at(4), .3064237732, 1e-10);
  EXPECT_NEAR(at(9), 1.1173539894, 1e-10);
  EXPECT_NEAR(at(20), 1.9158616857, 1e-10);
  expect_zero(gradient_of(GlobalEntropy{.threshold = std::log(2.)}, c));
  EXPECT_EQ(gradient_of(GlobalEntropy{.threshold = std::log(4.)}, c), gradient_of(GlobalEntropy{}, c));
}

TEST(GlobalEntropy, RefusesAThresholdThatNoRoutingReaches) {
  const auto c = two_tokens();
  EXPECT_NO_THROW(value_of<double>(GlobalEntropy{.threshold = std::log(3.)}, c));
  EXPECT_THROW(value_of<double>(GlobalEntropy{.threshold = std::log(3.1)}, c), OptionError);
  EXPECT_THROW(gradient_of(GlobalEntropy{.threshold = std::log(3.1)}, c), OptionError);
  EXPECT_THROW(GlobalEntropy{.threshold = std::nan("")}.check(3), OptionError);
}

TEST(Entropy, LocalPlusGlobalIsMinusMutualInformation) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const auto c = random_case({.seed = seed, .tokens = 9, .experts = 5, .masked = .3});
    Scored<double> s;
    look_at(c, s);
    // sum over the joint distribution p(t, e) = p_te / n of log p(t, e) / (p(t) p(e)).
    double information = 0;
    for (Index e = 0; e < 5; ++e) {
      double marginal = 0;
      for (Index t = 0; t < 9; ++t) marginal += std::exp(s.log_probs.view()(t, e)) / 9;
      for (Index t = 0; t < 9; ++t)
        if (const double p = std::exp(s.log_probs.view()(t, e)); p > 0) information += p / 9 * std::log(p / marginal);
    }
    EXPECT_NEAR(value_of<double>(LocalEntropy{}, c) + value_of<double>(GlobalEntropy{}, c), -information, 1e-14);
    EXPECT_GT(information, 0);
  }
}

TEST(Entropy, SeesItsModalityOnly) {
  auto c = random_case({.seed = 2, .tokens = 20, .second_modality = .5});
  const auto text = rows_where(c, [&](Index t) { return c.modality[static_cast<std::size_t>(t)] == 1; });
  const LocalEntropy local{.modality = 1};
  const GlobalEntropy global{.modality = 1};
  EXPECT_EQ(value_of<double>(local, c), value_of<double>(local, text));
  EXPECT_EQ(value_of<double>(global, c), value_of<double>(global, text));
  const auto d_local = gradient_of(local, c), d_global = gradient_of(global, c);
  for (Index t = 0; t < 20; ++t)
    EXPECT_EQ(d_local.view()(t, 0) != 0 && d_global.view()(t, 0) != 0, c.modality[static_cast<std::size_t>(t)] == 1);
}

TEST(Entropy, WithoutATokenOfTheModalityThereIsNothing) {
  const auto c = random_case({.seed = 2});
  const LocalEntropy local{.modality = 3};
  const GlobalEntropy global{.modality = 3, .threshold = std::log(4.)};
  EXPECT_EQ(value_of<double>(local, c), 0);
  EXPECT_EQ(value_of<double>(global, c), 0);
  expect_zero(gradient_of(local, c));
  expect_zero(gradient_of(global, c));
}

TEST(Entropy, BatchScopePoolsTheGroups) {
  for (auto c : random_cases()) {
    const GlobalEntropy batch{.scope = LossScope::batch};
    const double pooled = value_of<double>(batch, c), grouped = value_of<double>(GlobalEntropy{}, c);
    EXPECT_GE(grouped, pooled - 1e-12) << "the entropy of a mean is at least the mean entropy";
    expect_exact_gradient(batch, c);
    expect_exact_gradient(LocalEntropy{.scope = LossScope::batch}, c);
    c.group_size = 0;
    EXPECT_EQ(value_of<double>(GlobalEntropy{}, c), pooled);
  }
}

TEST(LocalEntropy, ObeysTheLawsOfRouterLosses) { expect_router_loss_laws(LocalEntropy{}); }

TEST(GlobalEntropy, ObeysTheLawsOfRouterLosses) {
  expect_router_loss_laws(GlobalEntropy{});
  for (auto c : random_cases())
    for (const double share : {.4, .7, 1.})
      expect_exact_gradient(GlobalEntropy{.threshold = share * std::log(static_cast<double>(c.num_experts()))}, c);
}

}  // namespace
}  // namespace gatefold
