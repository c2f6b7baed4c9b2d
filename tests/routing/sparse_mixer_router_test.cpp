#include "gatefold/routing/sparse_mixer_router.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/losses/balance.hpp"
#include "gatefold/nn/linear.hpp"
#include "tests/blocks/exact_gradient.hpp"
#include "tests/routing/logit_router.hpp"
#include "tests/support/refused.hpp"
#include "tests/support/threads.hpp"

namespace gatefold {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

static_assert(Router<SparseMixerRouter<float>>);

constexpr double kInf = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();
using Options = SparseMixerRouterOptions;

/// A router through which rows of `inputs_for_logits` have the logits that were asked for.
SparseMixerRouter<double> router(Index experts, double tolerance = .05, Index selected = 2) {
  SparseMixerRouter<double> r(
      {.width = experts, .num_experts = experts, .num_selected = selected, .tolerance = tolerance});
  test::set_weights_for_logits(r);
  return r;
}
std::vector<double> share(const SparseMixerRouter<double>::Saved& saved, Index at) {
  const auto p = saved.share[at];
  return {p.data(), p.data() + p.size()};
}
/// Of a token's picks, in their order; NaN for one that is not there.
std::vector<double> weights(const SparseMixerRouter<double>::Saved& saved, Index token, Index selected = 2) {
  std::vector<double> w(static_cast<std::size_t>(selected), kNan);
  const auto slots = saved.plan.slots_of_token(token);
  for (Index i = 0; i < slots.extent(0); ++i)
    w[static_cast<std::size_t>(saved.plan.rank[slots[i]])] = saved.weight[slots[i]];
  return w;
}
/// e^a / (e^a + e^b + ...).
double part(double a, const std::vector<double>& all) {
  double sum = 0;
  for (const double b : all) sum += std::exp(b - a);
  return 1 / sum;
}

// Expert 4 is out of the first running, (10 - 8.9) / 10 > 0.1, but in the second, (9.8 - 8.9) / 9.8 <= 0.1.
TEST(SparseMixerRouter, EachPickHasASoftmaxOfItsOwnOverThoseNearTheBest) {
  const auto r = router(5);
  Context ctx;
  const auto x = test::inputs_for_logits<double>({{9.5, 10, 2, 9.8, 8.9}, {1, 5, 2, 3, 4}, {-1, -1.05, -9, -1.5, -3}});
  const auto saved = r.forward(x, ctx);
  EXPECT_THAT(std::vector(saved.scores.choice.data(), saved.scores.choice.data() + 6), ElementsAre(1, 3, 1, 4, 0, 1));
  EXPECT_NEAR(weights(saved, 0)[0], part(10, {9.5, 10, 9.8}), 1e-12);
  EXPECT_NEAR(weights(saved, 0)[1], part(9.8, {9.5, 9.8, 8.9}), 1e-12);
  EXPECT_THAT(weights(saved, 1), ElementsAre(1, 1)) << "nobody is near; and not renormalised";
  EXPECT_NEAR(weights(saved, 2)[0], part(-1, {-1, -1.05}), 1e-12) << "below zero, the share is of |z|";
  EXPECT_NEAR(weights(saved, 2)[1], 1, 1e-12);
  EXPECT_EQ(share(saved, 1)[1], 0) << "the first pick is not in the second running";
  EXPECT_TRUE(saved.scores.chosen_by_logits);
}

TEST(SparseMixerRouter, ZerosAreNearEachOther) {  // 0 / 0
  Context ctx;
  const auto saved = router(4).forward(test::inputs_for_logits<double>({{0, -1, 0, 0}}), ctx);
  EXPECT_THAT(share(saved, 0), ElementsAre(1. / 3, 0, 1. / 3, 1. / 3));
  EXPECT_THAT(share(saved, 1), ElementsAre(0, 0, .5, .5));
}

TEST(SparseMixerRouter, ClosedExpertsAreNotAsked) {
  Context ctx;
  const auto saved =
      router(3).forward(test::inputs_for_logits<double>({{-kInf, 1, -kInf}, {-kInf, -kInf, -kInf}, {1, 2, 3}}), ctx);
  EXPECT_THAT(std::vector(saved.scores.choice.data(), saved.scores.choice.data() + 6),
              ElementsAre(1, -1, -1, -1, 2, 1));
  EXPECT_EQ(saved.plan.num_slots(), 3);
  EXPECT_EQ(weights(saved, 0)[0], 1);
}

TEST(SparseMixerRouter, NanStaysInItsToken) {
  auto x = test::inputs_for_logits<double>({{1, 2, 3}, {1, 2, 3}});
  x.view()(0, 1) = kNan;
  Context ctx;
  const auto r = router(3);
  const auto saved = r.forward(x, ctx);
  EXPECT_TRUE(std::isnan(weights(saved, 0)[0]));
  EXPECT_THAT(weights(saved, 1), ElementsAre(1, 1));
}

template <class T>
using Layer = SparseMlp<SparseMixerRouter<T>, Linear<T>, Balance>;
template <class T>
Layer<T> layer(const Capacity& capacity = {}) {
  Layer<T> l(
      SparseMixerRouter<T>({.width = 4, .num_experts = 6, .num_selected = 3, .tolerance = .2, .capacity = capacity}),
      Linear<T>({.in = 4, .out = 4}));
  return l;
}

TEST(SparseMixerRouter, GradientsAreExact) {
  for (const auto& capacity : {Capacity{}, Capacity{.factor = .8}}) {
    auto net = layer<double>(capacity);
    auto lifted = layer<Dual>(capacity);
    disturb_params(net, 5, .3);
    for (Index e = 0; e < 6; ++e) net.router.weight.view()(e, 0) += 1;  // near each other
    auto x = random_tensor<double>(Shape<2>{13, 4}, 9);
    for (Index i = 0; i < 13; ++i) x.view()(i, 0) = i % 3 ? 2 : -2;
    Context ctx;
    Index shared = 0;
    const auto saved = net.router.forward(x, ctx);
    for (Index i = 0; i < saved.share.extent(0); ++i) shared += saved.share(i, saved.scores.choice(i / 3, i % 3)) < .9;
    ASSERT_GT(shared, 10) << "a weight of 1 has no gradient";
    expect_exact_gradient(net, lifted, x);
  }
}

TEST(SparseMixerRouter, DrawsFromTheRunningAndWeighsTheSecondStageAThird) {
  const auto r = router(5, .05);
  constexpr Index kTokens = 4000;
  const std::vector<std::vector<double>> rows(static_cast<std::size_t>(kTokens), {9.5, 10, 2, 9.8, 3});
  const auto x = test::inputs_for_logits<double>(rows);
  Context ctx;
  Rng rng(3);
  ctx.rng = &rng;
  const auto saved = r.forward(x, ctx);
  EXPECT_FALSE(saved.scores.chosen_by_logits);
  const std::vector<double> running{9.5, 10, 9.8};
  std::map<Index, double> count, thirds;
  for (Index t = 0; t < kTokens; ++t) {
    const Index pick = saved.scores.choice(t, 0);
    const double p = share(saved, 2 * t)[static_cast<std::size_t>(pick)], w = weights(saved, t)[0];
    ++count[pick];
    thirds[pick] += w < .5 * p;
    EXPECT_NEAR(w, w < .5 * p ? p / 3 : p, 1e-12);
    EXPECT_NE(saved.scores.choice(t, 1), pick);
  }
  EXPECT_EQ(count.size(), 3);
  for (const auto& [expert, z] : {std::pair<Index, double>(0, 9.5), {1, 10}, {3, 9.8}}) {
    const double p = part(z, running), spread = 4 * std::sqrt(p * (1 - p) / kTokens);
    EXPECT_NEAR(count[expert] / kTokens, p, spread) << expert;
    EXPECT_NEAR(thirds[expert] / count[expert], expert == 1 ? 0 : .75, expert == 1 ? 0 : .06) << expert;
  }
}

// The estimate leaves the factor of the two stages out: what comes back is as if every weight were whole.
TEST(SparseMixerRouter, TheWayBackLeavesTheStagesOut) {
  const auto r = router(5, .05);
  const auto x = test::inputs_for_logits<double>({{9.5, 10, 2, 9.8, 3}, {9.5, 10, 2, 9.8, 3}, {9.5, 10, 2, 9.8, 3}});
  Context ctx;
  Rng rng(5);
  ctx.rng = &rng;
  const auto saved = r.forward(x, ctx);
  auto dweight = ctx.workspace.take<double>(saved.plan.num_slots());
  Tensor<double, 2> dx({3, 5});
  auto grad = zeros_like(r);
  bool staged = false;
  for (Index n = 0; n < dweight.size(); ++n) dweight[n] = saved.plan.rank[n] == 0 ? 1 : 0;
  r.backward(saved, dweight, {}, dx, grad, ctx);
  for (Index t = 0; t < 3; ++t) {
    const Index pick = saved.scores.choice(t, 0);
    const auto p = share(saved, 2 * t);
    const double w = p[static_cast<std::size_t>(pick)];
    staged |= weights(saved, t)[0] < .5 * w;
    for (Index e = 0; e < 5; ++e) {  // dx = dz times the weights, which are one number on the diagonal
      const double dz = dx.view()(t, e) / r.weight.view()(e, e);
      EXPECT_NEAR(dz, w * ((e == pick) - p[static_cast<std::size_t>(e)]), 1e-12);
    }
  }
  EXPECT_TRUE(staged);
}

TEST(SparseMixerRouter, TakesItsChoicesFromATape) {
  const auto r = router(4);
  const auto x = test::inputs_for_logits<double>({{10, 9.9, 9.8, 1}});
  RoutingTape tape(1);
  tape.layers[0] = Tensor<Index, 2>({1, 2});
  std::ranges::copy(std::array<Index, 2>{2, 3}, tape.layers[0].data());
  tape.replay();
  Context ctx;
  ctx.tape = &tape;
  const auto saved = r.forward(x, ctx);
  EXPECT_NEAR(weights(saved, 0)[0], part(9.8, {10, 9.9, 9.8}), 1e-12);
  EXPECT_EQ(weights(saved, 0)[1], 0) << "far from the best of the rest";
  EXPECT_FALSE(saved.scores.chosen_by_logits);
  tape.record();
  ctx.tape = &tape;
  (void)r.forward(x, ctx);
  EXPECT_THAT(tape.layers[0].flat(), ElementsAre(0, 1));
}

TEST(SparseMixerRouter, PaddingAsksForNobody) {
  const std::vector<Index> offset{0, 3};
  const std::vector<std::uint8_t> modality{0, kPadding, 0};
  const TokenLayout layout{.offset = {offset.data(), {2}}, .modality = {modality.data(), {3}}, .num_modalities = 1};
  const auto r = router(3);
  auto x = test::inputs_for_logits<double>({{1, 2, 3}, {3, 2, 1}, {1, 3, 2}});
  x.view()(1, 0) = kNan;
  Context ctx;
  ctx.layout = &layout;
  const auto saved = r.forward(x, ctx);
  EXPECT_EQ(saved.plan.num_slots(), 4);
  EXPECT_EQ(saved.plan.slots_of_token(1).extent(0), 0);
}

TEST(SparseMixerRouter, ThreadsDoNotChangeABit) {
  SparseMixerRouter<float> r({.width = 16, .num_experts = 8, .tolerance = .3});
  r.weight = random_tensor<float>(Shape<2>{8, 16}, 3);
  const auto x = random_tensor<float>(Shape<2>{5000, 16}, 4);
  std::vector<float> first;
  for (const Index workers : {1, 2, 7}) {
    Context ctx;
    ctx.parallel_for = test::threads(workers);
    Rng rng(8);
    ctx.rng = &rng;
    const auto saved = r.forward(x, ctx);
    const std::vector<float> now(saved.weight.data(), saved.weight.data() + saved.weight.size());
    if (first.empty()) first = now;
    EXPECT_EQ(now, first) << workers;
  }
}

TEST(SparseMixerRouter, WhatContradictsItselfIsRefused) {
  test::expect_option_error([] { SparseMixerRouter<float>(Options{.width = 2}); }, "num_experts");
  test::expect_option_error([] { SparseMixerRouter<float>(Options{.width = 2, .num_experts = 1}); }, "num_selected");
  test::expect_option_error([] { SparseMixerRouter<float>(Options{.width = 2, .num_experts = 3, .tolerance = -1}); },
                            "tolerance");
}

}  // namespace
}  // namespace gatefold
