#include "gatefold/losses/balance.hpp"

#include <gtest/gtest.h>

#include "tests/losses/router_case.hpp"

namespace gatefold {
namespace {

using namespace test;

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

// DeepSeek-V3: P = s / sum s, f_e = E / (K T) times how often e was chosen, by sequence; the mean of sum f P.
TEST(Balance, OfSigmoidScoresBySequenceIsDeepSeeks) {
  auto c = random_case({.seed = 6, .tokens = 9, .experts = 4, .num_selected = 2});
  Scored<double> s;
  look_at(c, s);
  const std::array<Index, 4> offset{0, 3, 3, 9};  // the second is empty
  s.layout.offset = {offset.data(), {4}};
  s.scores.score = RouterScore::sigmoid;
  s.scores.log_probs = {};
  double wanted = 0;
  for (const auto& [begin, end] : {std::pair<Index, Index>{0, 3}, {3, 9}}) {
    const double tokens = static_cast<double>(end - begin);
    for (Index e = 0; e < 4; ++e) {
      double f = 0, p = 0;
      for (Index t = begin; t < end; ++t) {
        double sum = 0;
        for (Index j = 0; j < 4; ++j) sum += 1 / (1 + std::exp(-c.logits.view()(t, j)));
        p += 1 / (1 + std::exp(-c.logits.view()(t, e))) / sum / tokens;
        for (Index k = 0; k < 2; ++k) f += s.choice.view()(t, k) == e ? 4 / (2 * tokens) : 0;
      }
      wanted += f * p / 2;
    }
  }
  Context ctx;
  const Balance loss{.picks = Balance::Picks::any_over_k, .scope = LossScope::sequence};
  EXPECT_NEAR(loss.value(s.scores, ctx), wanted, 1e-14);
  const std::array<Index, 2> short_offset{0, 8};
  s.layout.offset = {short_offset.data(), {2}};
  EXPECT_THROW((void)loss.value(s.scores, ctx), ShapeError);
}

// The parts of a batch, each with the choices of the others carried, have the mean of the whole: f is the same for all.
TEST(Balance, CarriesTheChoicesOfOtherMicroBatches) {
  using Picks = Balance::Picks;
  const auto whole = random_case({.seed = 7, .tokens = 12, .experts = 4, .num_selected = 2});
  std::array<RouterCase, 2> parts;
  std::array<std::array<Index, 4>, 2> asked{};
  for (const Index part : {0, 1}) {
    auto& p = parts[static_cast<std::size_t>(part)];
    p = random_case({.seed = 7, .tokens = 6, .experts = 4, .num_selected = 2});
    std::copy_n(whole.logits.view()[6 * part].data(), 24, p.logits.data());
    Scored<double> s;
    look_at(p, s);
    for (const Index e : s.choice.flat()) asked[static_cast<std::size_t>(part)][static_cast<std::size_t>(e)] += 1;
  }
  for (const Picks picks : {Picks::any, Picks::any_over_k}) {
    double sum = 0;
    for (const std::size_t part : {0u, 1u}) {
      Balance loss{.picks = picks};
      loss.carry({asked[1 - part].data(), {4}});
      sum += value_of<double>(loss, parts[part]) / 2;
      expect_exact_gradient(loss, parts[part]);
    }
    EXPECT_NEAR(sum, value_of<double>(Balance{.picks = picks}, whole), 1e-14);
  }
  Balance first;
  first.carry({asked[0].data(), {4}});
  EXPECT_THROW((void)value_of<double>(first, whole), OptionError);
  EXPECT_THROW(first.carry({asked[0].data(), {3}}), ShapeError);
}

// The two published forms of CLIP-MoE's (arXiv 2409.19291). Its code stacks the logits of all layers of a tower and
// counts every choice: balanced, K. Its paper (equations 6 to 9) takes each layer by itself, counts first choices, and
// has the mean: balanced, 1. A gradient flows through the probabilities only.
TEST(Balance, OverLayersAsOneIsClipMoesCodeAndOverEachItsPaper) {
  constexpr Index kTokens = 5, kExperts = 4, kLayers = 3, kSelected = 2;
  std::array<RouterCase, kLayers> layers;
  std::array<Scored<double>, kLayers> scored;
  for (std::size_t l = 0; l < kLayers; ++l) {
    layers[l] = random_case({.seed = 7 + l, .tokens = kTokens, .experts = kExperts, .num_selected = kSelected});
    look_at(layers[l], scored[l]);
  }
  const Balance code{.picks = Balance::Picks::any}, paper;
  Context ctx;
  std::array<std::array<double, kExperts>, kLayers> own{}, others{};
  for (std::size_t l = 0; l < kLayers; ++l)
    EXPECT_EQ(code.count(scored[l].scores, View<double, 1>(own[l].data(), {kExperts}), ctx), kTokens);
  double joint = 0, apart = 0, stacked = 0, by_layer = 0;
  for (std::size_t l = 0; l < kLayers; ++l) {
    for (std::size_t m = 0; m < kLayers; ++m)
      for (std::size_t e = 0; e < kExperts && m != l; ++e) others[l][e] += own[m][e];
    auto scores = scored[l].scores;
    apart += paper.value(scores, ctx) / kLayers;
    scores.beside = {View<const double, 1>(others[l].data(), {kExperts}), (kLayers - 1) * kTokens};
    joint += code.value(scores, ctx) / kLayers;
  }
  const auto p_of = [&](std::size_t l, Index t, Index e) { return std::exp(scored[l].log_probs.view()(t, e)); };
  for (Index e = 0; e < kExperts; ++e) {
    double f = 0, mean = 0;
    for (std::size_t l = 0; l < kLayers; ++l) {
      double first = 0, mean_here = 0;
      for (Index t = 0; t < kTokens; ++t) {
        for (Index slot = 0; slot < kSelected; ++slot) f += scored[l].choice.view()(t, slot) == e;
        first += scored[l].choice.view()(t, 0) == e;
        mean_here += p_of(l, t, e) / kTokens;
      }
      by_layer += kExperts * first / kTokens * mean_here / kLayers;
      mean += mean_here / kLayers;
    }
    stacked += kExperts * f / (kLayers * kTokens) * mean;
  }
  EXPECT_NEAR(joint, stacked, 1e-14);
  EXPECT_NEAR(apart, by_layer, 1e-14);
  auto scores = scored[0].scores;
  scores.beside = {View<const double, 1>(others[0].data(), {kExperts - 1}), kTokens};
  EXPECT_THROW((void)code.value(scores, ctx), ShapeError);
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
