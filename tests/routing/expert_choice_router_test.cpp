#include "gatefold/routing/expert_choice_router.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/module/ops.hpp"
#include "tests/routing/logit_router.hpp"

namespace gatefold::expert_choice_router_test {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::Property;

ExpertChoiceRouter<double> router(const ExpertChoiceRouter<double>::Options& o) {
  ExpertChoiceRouter<double> r(o);
  Rng rng(3);
  for (double& w : r.weight.flat()) w = rng.normal();
  return r;
}
std::vector<Index> list(View<const Index, 1> v) { return {v.data(), v.data() + v.size()}; }
Tensor<double, 2> tokens(Index rows, Index width) {
  Rng rng(4);
  Tensor<double, 2> x({rows, width});
  for (double& v : x.flat()) v = rng.normal();
  return x;
}

TEST(ExpertChoiceRouter, EveryExpertTakesItsShareWithTheGateAsWeight) {
  Context ctx;
  const auto saved = router({.width = 5, .num_experts = 4}).forward(tokens(20, 5), ctx);
  ASSERT_EQ(saved.plan.num_slots(), 40) << "2 * 20 / 4 seats at each of 4 experts";
  for (Index e = 0; e < 4; ++e) {
    const auto [begin, end] = saved.plan.slots(e);
    EXPECT_EQ(end - begin, 10);
    double least = 1;
    std::vector<Index> taken;
    for (Index n = begin; n < end; ++n) {
      EXPECT_EQ(saved.weight[n], saved.gates(saved.plan.token[n], e));
      if (n > begin) {
        EXPECT_LE(saved.weight[n], saved.weight[n - 1]) << "seats go by gate";
      }
      least = std::min(least, saved.weight[n]);
      taken.push_back(saved.plan.token[n]);
    }
    for (Index t = 0; t < 20; ++t)
      if (std::find(taken.begin(), taken.end(), t) == taken.end()) {
        EXPECT_LE(saved.gates(t, e), least);
      }
  }
  EXPECT_EQ(saved.scores.choice.shape(), (Shape<2>{20, 0}));
}

TEST(ExpertChoiceRouter, SeatsAreClampedToTheTokens) {
  Context ctx;
  const auto saved = router({.width = 5, .num_experts = 2, .capacity = {.factor = 4}}).forward(tokens(3, 5), ctx);
  EXPECT_EQ(saved.plan.num_slots(), 6) << "every expert takes every token once";
  EXPECT_EQ(router({.width = 5, .num_experts = 2}).forward(tokens(0, 5), ctx).plan.num_slots(), 0);
}

TEST(ExpertChoiceRouter, PaddingIsNeverChosen) {
  auto x = tokens(6, 5);
  std::fill_n(x.view()[1].data(), 5, 100.0);
  const std::array<std::uint8_t, 6> modality{0, kPadding, 0, 0, kPadding, 0};
  const TokenLayout layout{.offset = {}, .modality = {modality.data(), {6}}};
  Context ctx;
  ctx.layout = &layout;
  const auto saved = router({.width = 5, .num_experts = 2, .capacity = {.factor = 9}}).forward(x, ctx);
  EXPECT_EQ(saved.plan.num_slots(), 8);
  EXPECT_EQ(saved.plan.requested[1], 0);
  EXPECT_EQ(saved.plan.requested[4], 0);
}

TEST(ExpertChoiceRouter, NoiseIsForTraining) {
  const auto r = router({.width = 5, .num_experts = 4, .noise = 4});
  const auto x = tokens(20, 5);
  Context ctx;
  const auto quiet = r.forward(x, ctx);
  Rng rng(1);
  ctx.rng = &rng;
  const auto noisy = r.forward(x, ctx);
  EXPECT_EQ(noisy.scores.noise_std, 1);
  EXPECT_NE(noisy.gates(0, 0), quiet.gates(0, 0));
  EXPECT_EQ(noisy.scores.log_probs(0, 0), quiet.scores.log_probs(0, 0));
}

TEST(ExpertChoiceRouter, RefusesContradictions) {
  const auto refused = [](const ExpertChoiceRouter<double>::Options& o, const char* why) {
    EXPECT_THAT([&] { ExpertChoiceRouter<double>{o}; },
                testing::Throws<OptionError>(Property(&OptionError::what, HasSubstr(why))));
  };
  refused({.width = 0, .num_experts = 2}, "width is 0");
  refused({.width = 4, .num_experts = 0}, "num_experts is 0");
  refused({.width = 4, .num_experts = 2, .capacity = {.factor = -2}}, "factor is -2");
  refused({.width = 4, .num_experts = 2, .group_size = -1}, "group_size is -1");
}

TEST(ExpertChoiceRouter, ClosedExpertsTakeNobodyAndATokenWithoutAnyHasNoSeat) {
  constexpr double kClosed = -std::numeric_limits<double>::infinity();
  const auto check = []<class T>(T) {
    ExpertChoiceRouter<T> r({.width = 2, .num_experts = 2, .capacity = {.factor = 2}});
    test::set_weights_for_logits(r);
    const auto x = test::inputs_for_logits<T>({{1, 2}, {kClosed, kClosed}, {kClosed, 3}});
    Context ctx;
    const auto saved = r.forward(x, ctx);  // 2 tokens count, each expert has 2 seats
    EXPECT_THAT(list(saved.plan.token), testing::ElementsAre(0, 2, 0));
    EXPECT_THAT(list(saved.plan.expert), testing::ElementsAre(0, 1, 1));
    EXPECT_THAT(list(saved.plan.requested), testing::ElementsAre(2, 0, 1));
    auto grad = zeros_like(r);
    Tensor<T, 2> dx(x.shape());
    r.backward(saved, saved.weight, {}, dx, grad, ctx);
    for (const T v : dx.flat()) EXPECT_TRUE(std::isfinite(v));
  };
  check(0.0f);
  check(0.0);
}

}  // namespace
}  // namespace gatefold::expert_choice_router_test
