#include "gatefold/routing/routing_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/routing/plan_expert_choice.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace gatefold::routing_report_test {
namespace {

using testing::DoubleNear;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;
using testing::Property;

/// Identity weight: x are the logits.
TopKRouter<double> router(Index num_experts, Index num_selected, Capacity capacity) {
  TopKRouter<double> r(
      {.width = num_experts, .num_experts = num_experts, .num_selected = num_selected, .capacity = capacity});
  for (Index e = 0; e < num_experts; ++e) r.weight.view()(e, e) = 1;
  return r;
}
/// Rows of gates as the router's input.
Tensor<double, 2> logits(const std::vector<std::vector<double>>& gates) {
  Tensor<double, 2> x({static_cast<Index>(gates.size()), static_cast<Index>(gates.at(0).size())});
  for (std::size_t t = 0; t < gates.size(); ++t)
    for (std::size_t e = 0; e < gates[t].size(); ++e)
      x.view()(static_cast<Index>(t), static_cast<Index>(e)) = std::log(gates[t][e]);
  return x;
}

// Modality 0: rows 0, 1, 2; padding: row 3; modality 1: row 4.
const std::array<std::uint8_t, 5> kModality{0, 0, 0, kPadding, 1};
const std::array<Index, 2> kOffset{0, 5};
const TokenLayout kLayout{.offset = {kOffset.data(), {2}}, .modality = {kModality.data(), {5}}, .num_modalities = 2};
const auto kLogits = logits({{.9, .1}, {.8, .2}, {.7, .3}, {.5, .5}, {.4, .6}});

TEST(RoutingReport, CountsByExpertModalityAndRank) {
  RoutingReport report(RoutingReport::Detail::tokens);
  Context ctx;
  ctx.layout = &kLayout;
  const auto saved = router(2, 1, {.factor = .5}).forward(kLogits, ctx);  // one seat at each expert
  report.record(saved);
  ASSERT_EQ(report.layers().size(), 1u);
  const auto& layer = report.layers()[0];
  ASSERT_EQ(layer.modalities.size(), 2u);
  const auto& image = layer.modalities[0];
  const auto& text = layer.modalities[1];
  EXPECT_EQ(image.tokens, 3);
  EXPECT_THAT(image.requests, ElementsAre(3, 0));
  EXPECT_THAT(image.seated, ElementsAre(1, 0));
  EXPECT_EQ(image.unseated, 2);
  EXPECT_NEAR(image.success_rate(), 1. / 3, 1e-15);
  EXPECT_NEAR(image.drop_fraction(), 2. / 3, 1e-15);
  EXPECT_NEAR(image.mean_confidence(), .8, 1e-15);
  // H(.8, .2), and exp of it.
  EXPECT_NEAR(image.effective_experts(), std::exp(-.8 * std::log(.8) - .2 * std::log(.2)), 1e-14);
  EXPECT_THAT(text.requests, ElementsAre(0, 1));
  EXPECT_EQ(text.success_rate(), 1);
  EXPECT_EQ(text.unseated, 0);
  EXPECT_EQ(layer.total().tokens, 4);
  EXPECT_THAT(layer.total().seated, ElementsAre(1, 1));
  EXPECT_EQ(layer.ranks.size(), 1u);
  EXPECT_EQ(layer.ranks[0].drop_fraction(), .5);

  ASSERT_EQ(layer.tokens.size(), 5u);
  EXPECT_TRUE(layer.tokens[0].choices[0].seated);
  EXPECT_NEAR(layer.tokens[0].choices[0].weight, .9, 1e-15);
  EXPECT_FALSE(layer.tokens[1].choices[0].seated);
  EXPECT_EQ(layer.tokens[1].choices[0].weight, 0);
  EXPECT_NEAR(layer.tokens[1].choices[0].gate, .8, 1e-15);
  EXPECT_EQ(layer.tokens[3].modality, kPadding);
  EXPECT_TRUE(layer.tokens[3].choices.empty());
  EXPECT_EQ(layer.tokens[4].choices[0].expert, 1);
}

TEST(RoutingReport, SecondChoicesAreDroppedMore) {
  RoutingReport report;
  Context ctx;
  const auto x = logits({{.5, .3, .2}, {.5, .3, .2}, {.3, .5, .2}});
  report.record(router(3, 2, {.factor = 1}).forward(x, ctx));  // two seats; 0: two firsts; 1: a first, two seconds
  const auto& ranks = report.layers()[0].ranks;
  ASSERT_EQ(ranks.size(), 2u);
  EXPECT_EQ(ranks[0].drop_fraction(), 0);
  EXPECT_NEAR(ranks[1].drop_fraction(), 2. / 3, 1e-15);
  EXPECT_TRUE(report.layers()[0].tokens.empty());
}

TEST(RoutingReport, BatchesAddUpAndLayersFollowEachOther) {
  RoutingReport report;
  Context ctx;
  const auto two = router(2, 1, {}), three = router(3, 1, {});
  const auto x2 = logits({{.9, .1}}), x3 = logits({{.2, .3, .5}});
  for (int batch = 0; batch < 3; ++batch) {
    report.begin_batch();
    report.record(two.forward(x2, ctx));
    report.record_loss("z", batch);
    report.record(three.forward(x3, ctx));
    report.record_loss("z", 10);
    report.record_loss("load", 1);
  }
  ASSERT_EQ(report.layers().size(), 2u);
  EXPECT_EQ(report.layers()[0].batches, 3);
  EXPECT_EQ(report.layers()[0].modalities[0].tokens, 3);
  EXPECT_NEAR(report.layers()[0].modalities[0].mean_confidence(), .9, 1e-15);
  EXPECT_THAT(report.layers()[1].modalities[0].seated, ElementsAre(0, 0, 3));
  ASSERT_EQ(report.layers()[1].losses.size(), 2u);
  EXPECT_EQ(report.layers()[0].losses[0].mean(), 1);
  EXPECT_EQ(report.layers()[1].losses[0].mean(), 10);
  EXPECT_EQ(report.layers()[1].losses[1].name, "load");

  report.begin_batch();
  EXPECT_THAT([&] { report.record(three.forward(x3, ctx)); },
              testing::Throws<ShapeError>(Property(&ShapeError::what, HasSubstr("has 3 experts, expected 2"))));
  report.clear();
  EXPECT_TRUE(report.layers().empty());
  report.record(three.forward(x3, ctx));
  EXPECT_EQ(report.layers()[0].num_experts, 3);
}

TEST(RoutingReport, NanIsCountedAndKeptOutOfAverages) {
  RoutingReport report;
  Context ctx;
  auto x = kLogits;
  x.view()(0, 0) = std::numeric_limits<double>::quiet_NaN();
  report.record(router(2, 1, {}).forward(x, ctx));
  const auto& usage = report.layers()[0].modalities[0];
  EXPECT_EQ(usage.tokens, 5);
  EXPECT_EQ(usage.nan_tokens, 1);
  EXPECT_NEAR(usage.mean_confidence(), (.8 + .7 + .5 + .6) / 4, 1e-15);
}

TEST(RoutingReport, NothingHappened) {
  RoutingReport report;
  Context ctx;
  report.record(router(2, 1, {}).forward(Tensor<double, 2>({0, 2}), ctx));
  const auto total = report.layers()[0].total();
  EXPECT_EQ(total.tokens, 0);
  EXPECT_EQ(total.success_rate(), 1);
  EXPECT_EQ(total.mean_confidence(), 0);
  EXPECT_EQ(total.effective_experts(), 0);
}

TEST(SeatSpread, T4OfVMoe) {
  // The gates of T4 are no softmax, so the routing is put together by hand.
  Tensor<double, 2> gates({3, 3});
  std::ranges::copy(std::array{.4, 0., .2, .5, .1, .4, .3, .2, .6}, gates.data());
  Context ctx;
  Routing<double> routing;
  routing.gates = gates;
  routing.plan = plan_expert_choice<double>(gates, {.factor = 2, .counts = Capacity::Counts::tokens}, 0, ctx);
  auto weight = ctx.workspace.take<double>(routing.plan.num_slots());
  for (Index n = 0; n < weight.size(); ++n) weight[n] = gates.view()(routing.plan.token[n], routing.plan.expert[n]);
  routing.weight = weight;
  const auto spread = seat_spread(routing);
  EXPECT_EQ(spread.fewest_experts, 1);
  EXPECT_EQ(spread.most_experts, 3);
  EXPECT_EQ(spread.smallest_weight, .1);
  EXPECT_EQ(spread.largest_weight, .6);
  EXPECT_THAT(spread.tokens_with, Pointwise(DoubleNear(1e-15), {1., 1., 2. / 3, 1. / 3}));
}

}  // namespace
}  // namespace gatefold::routing_report_test
