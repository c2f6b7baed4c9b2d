#include "gatefold/routing/sparsity_control.hpp"

#include <gtest/gtest.h>

#include "gatefold/losses/relu_sparsity.hpp"
#include "gatefold/module/ops.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace gatefold::sparsity_control_test {
namespace {

TEST(SparsityControl, GrowsWhileTooManyAreUsedAndShrinksBelow) {
  SparsityControl control{.wanted = 2, .coefficient = 4, .step = 2};
  control.update(2.5);
  EXPECT_EQ(control.coefficient, 8);
  control.update(2);
  EXPECT_EQ(control.coefficient, 8);
  control.update(0);
  EXPECT_EQ(control.coefficient, 4);
  for (const SparsityControl& wrong : {SparsityControl{.step = 1}, {.coefficient = 0}, {.coefficient = -1}}) {
    SparsityControl copy = wrong;
    EXPECT_THROW(copy.update(2), OptionError);
  }
  EXPECT_THROW(control.update(std::numeric_limits<double>::quiet_NaN()), OptionError);
}

// Tokens that start with half of all experts each come to use as many as are wanted, in the mean of the
// last steps, each expert its part of them.
TEST(SparsityControl, LeadsARouterToWhatIsWanted) {
  constexpr Index kExperts = 8, kTokens = 64, kWidth = 12;
  TopKRouter<float> router(
      {.width = kWidth, .num_experts = kExperts, .num_selected = kExperts, .score = RouterScore::relu, .bias = true});
  Rng rng(1);
  for (float& w : router.weight.flat()) w = static_cast<float>(rng.normal());
  Tensor<float, 2> x({kTokens, kWidth}), dx({kTokens, kWidth}), dlogits({kTokens, kExperts});
  const ReluSparsity loss{.wanted = 2};
  SparsityControl control{.wanted = 2, .coefficient = 1e-2, .step = 1.03};
  Context ctx;
  RoutingReport report;
  double used = 0;
  std::vector<double> asked(kExperts);
  constexpr int kSteps = 600, kLast = 300;
  for (int step = 0; step < kSteps; ++step) {
    for (float& v : x.flat()) v = static_cast<float>(rng.normal());
    const auto scope = ctx.workspace.scope();
    const auto saved = router.forward(x, ctx);
    // The task: each token's weights shall sum to 2, whoever gives them.
    auto dweight = ctx.workspace.take<float>(saved.plan.num_slots());
    for (Index t = 0; t < kTokens; ++t) {
      const auto slots = saved.plan.slots_of_token(t);
      float sum = 0;
      for (Index i = 0; i < slots.extent(0); ++i) sum += saved.weight[slots[i]];
      for (Index i = 0; i < slots.extent(0); ++i) dweight[slots[i]] = (sum - 2) / kTokens;
    }
    std::ranges::fill(dlogits.flat(), 0.0f);
    loss.add_gradient(saved.scores, static_cast<float>(control.coefficient), dlogits, ctx);
    auto grad = zeros_like(router);
    router.backward(saved, dweight, dlogits, dx, grad, ctx);
    for_each_param(
        [](std::string_view, auto& w, const auto& g) {
          for (std::size_t i = 0; i < w.flat().size(); ++i) w.flat()[i] -= 0.01f * g.flat()[i];
        },
        router, grad);
    report.record_pass(saved);
    if (step >= kSteps - kLast) {
      const auto total = report.layers()[0].total();
      for (std::size_t e = 0; e < asked.size(); ++e) asked[e] += total.requests[e] / (kTokens * kLast);
    }
    control.update(report);
    report.clear();
  }
  for (const double n : asked) {
    EXPECT_GT(n, 0.02);
    used += n;
  }
  EXPECT_NEAR(used, 2, 0.3);
}

TEST(SparsityControl, AReportOfCountsDoesNotDo) {
  TopKRouter<float> router({.width = 2, .num_experts = 3, .num_selected = 3, .score = RouterScore::relu});
  std::ranges::fill(router.weight.flat(), 1.0f);
  Tensor<float, 2> x({4, 2});
  std::ranges::fill(x.flat(), 1.0f);
  RoutingReport counts(RoutingReport::Detail::counts);
  Context ctx;
  counts.record_pass(router.forward(x, ctx));
  SparsityControl control;
  EXPECT_THROW(control.update(counts), OptionError);
  control.update(RoutingReport());
  EXPECT_EQ(control.coefficient, 1e-8) << "no layer, no change";
}

}  // namespace
}  // namespace gatefold::sparsity_control_test
