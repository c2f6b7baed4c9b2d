#include "gatefold/routing/selection_bias.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/io/checkpoint.hpp"
#include "gatefold/module/ops.hpp"
#include "gatefold/train/adafactor.hpp"
#include "gatefold/train/adamw.hpp"
#include "gatefold/train/sgd.hpp"
#include "tests/io/temporary_folder.hpp"
#include "tests/support/refused.hpp"

namespace gatefold::selection_bias_test {
namespace {

using ::testing::ElementsAre;

TopKRouter<float> sigmoid_router(Index experts, std::uint64_t seed) {
  TopKRouter<float> r({.width = 6,
                       .num_experts = experts,
                       .num_selected = 2,
                       .score = RouterScore::sigmoid,
                       .selection_bias = true,
                       .renormalise = Renormalise::before_dropping});
  Rng rng(seed);
  for (float& w : r.weight.flat()) w = static_cast<float>(rng.normal());
  return r;
}
/// With a mean of their own, which favours some experts.
Tensor<float, 2> tokens(Index rows, std::uint64_t seed) {
  Tensor<float, 2> x({rows, 6});
  Rng rng(seed);
  for (float& v : x.flat()) v = static_cast<float>(rng.normal() + .7);
  return x;
}

/// Two routers behind each other, as a model has them.
struct TwoRouters {
  std::vector<TopKRouter<float>> routers{sigmoid_router(8, 1), sigmoid_router(5, 2)};
  static void visit(auto& v, auto&... self) { v("routers", self.routers...); }
};

TEST(SelectionBias, MovesAgainstTheSignOfTheExcess) {
  auto r = sigmoid_router(4, 1);
  r.selection_bias.data()[0] = 1;
  update_selection_bias(r, std::array<double, 4>{2, 9, 4, 5}, 0.25);  // 5 is the mean
  EXPECT_THAT(r.selection_bias.flat(), ElementsAre(1.25f, -0.25f, 0.25f, 0.0f));
}

TEST(SelectionBias, EvensTheLoadsOfAModelFromItsCounts) {
  TwoRouters model;
  RoutingReport counts(RoutingReport::Detail::counts);
  Context ctx;
  ctx.parallel_for = ParallelFor();
  const auto x = tokens(400, 3);
  const auto worst = [&](std::size_t layer) {
    const auto asked = counts.layers()[layer].total().requests;
    return *std::max_element(asked.begin(), asked.end()) * static_cast<double>(asked.size()) / (400 * 2);
  };
  std::array<double, 2> at_first{}, at_last{};
  for (int step = 0; step < 120; ++step) {
    counts.clear();
    std::array<std::vector<double>, 2> demand{std::vector<double>(8), std::vector<double>(5)};
    for (const Index begin : {0, 150}) {  // two micro-batches of unequal length
      const auto scope = ctx.workspace.scope();
      counts.begin_batch();
      for (std::size_t layer = 0; layer < 2; ++layer) {
        const auto saved = model.routers[layer].forward(x.view().rows(begin, begin ? 400 : 150), ctx);
        counts.record_pass(saved);
        for (Index e = 0; e < saved.plan.num_experts(); ++e)
          demand[layer][static_cast<std::size_t>(e)] += static_cast<double>(saved.plan.demand[e]);
      }
    }
    for (std::size_t layer = 0; layer < 2; ++layer) {
      ASSERT_EQ(counts.layers()[layer].total().requests, demand[layer]);
      ASSERT_EQ(counts.layers()[layer].total().seated, demand[layer]);
      (step == 0 ? at_first : at_last)[layer] = worst(layer);
    }
    update_selection_bias(model, counts, 5e-3);
  }
  EXPECT_GT(at_first[0], 1.4);
  EXPECT_GT(at_first[1], 1.4);
  EXPECT_LT(at_last[0], 1.15);
  EXPECT_LT(at_last[1], 1.15);
}

TEST(SelectionBias, RefusesWhatItCannotUpdate) {
  auto r = sigmoid_router(4, 1);
  test::expect_shape_error([&] { update_selection_bias(r, std::vector<double>(3), 1e-3); },
                           "asked has shape [3], expected [4]");
  test::expect_option_error([&] { update_selection_bias(r, std::vector<double>(4), -1); }, "rate is -1");
  TopKRouter<float> plain({.width = 6, .num_experts = 4, .num_selected = 2});
  test::expect_option_error([&] { update_selection_bias(plain, std::vector<double>(4), 1e-3); },
                            "expected the option selection_bias");
  TwoRouters model;
  RoutingReport counts(RoutingReport::Detail::counts);
  Context ctx;
  counts.record_pass(model.routers[0].forward(tokens(3, 1), ctx));
  test::expect_option_error([&] { update_selection_bias(model, counts, 1e-3); },
                            "the model has 2 selection biases, the report 1 sparse layers");
}

// No rule of decay and no moment moves it; without the buffer's type each of the three would.
TEST(SelectionBias, IsLeftAloneByOptimisers) {
  const auto check = [](auto make) {
    TwoRouters model;
    for (auto& r : model.routers) std::ranges::fill(r.selection_bias.flat(), 0.5f);
    const TwoRouters before = model;
    auto grad = zeros_like(model);
    for_each_param([](std::string_view, auto& g) { std::ranges::fill(g.flat(), 1.0f); }, grad);
    auto optimizer = make(model);
    for (int step = 0; step < 2; ++step) optimizer.step(model, grad);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(model.routers[i].selection_bias, before.routers[i].selection_bias);
      EXPECT_NE(model.routers[i].weight, before.routers[i].weight);
    }
  };
  const DecayRule all = [](std::string_view, std::size_t) { return true; };
  check([&](const TwoRouters& m) { return AdamW(m, {.weight_decay = 0.1, .decays = all}); });
  check([&](const TwoRouters& m) { return Sgd(m, {.momentum = 0.9, .weight_decay = 0.1, .decays = all}); });
  check([&](const TwoRouters& m) { return Adafactor(m, {.weight_decay = 0.1, .decays = all}); });
}

TEST(SelectionBias, ComesBackFromACheckpointToTheBitEvenOfBfloat16) {
  const test::TemporaryFolder folder;
  TwoRouters model, other;
  for (auto& r : model.routers) std::ranges::fill(r.selection_bias.flat(), 0.1f + 1e-4f);
  CheckpointWriter file;
  file.add("model", model, Dtype::bf16);
  file.write(folder / "model.safetensors");
  const CheckpointReader reader(folder / "model.safetensors");
  EXPECT_THAT(reader.names("model"), ElementsAre("model.routers.0.selection_bias", "model.routers.0.weight",
                                                 "model.routers.1.selection_bias", "model.routers.1.weight"));
  reader.read("model", other);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(other.routers[i].selection_bias, model.routers[i].selection_bias);
}

}  // namespace
}  // namespace gatefold::selection_bias_test
