#include "gatefold/routing/routing_tape.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/module/ops.hpp"
#include "gatefold/routing/expert_table.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "tests/support/alloc_guard.hpp"
#include "tests/support/dual.hpp"
#include "tests/support/refused.hpp"

namespace gatefold::routing_tape_test {
namespace {

template <class T>
TopKRouter<T> router(std::uint64_t seed, bool by_sequence = false) {
  TopKRouter<T> r({.width = 4,
                   .num_experts = 6,
                   .num_selected = 2,
                   .score = RouterScore::sigmoid,
                   .by_sequence = by_sequence,
                   .renormalise = Renormalise::before_dropping});
  Rng rng(seed);
  for (T& w : r.weight.flat()) w = T(rng.normal());
  return r;
}
template <class T>
Tensor<T, 2> tokens(Index rows) {
  Tensor<T, 2> x({rows, 4});
  Rng rng(3);
  for (T& v : x.flat()) v = T(rng.normal());
  return x;
}
template <class T, std::size_t Rank>
std::vector<T> list(View<const T, Rank> v) {
  return {v.data(), v.data() + v.size()};
}

TEST(RoutingTape, ReplaysChoicesUnderOtherWeights) {
  const auto first = router<double>(1), second = router<double>(2), later = router<double>(9);
  const auto x = tokens<double>(30);
  RoutingTape tape;
  Context ctx;
  ctx.tape = &tape;
  tape.record();
  const auto a = first.forward(x, ctx), b = second.forward(x, ctx);
  ASSERT_EQ(tape.layers.size(), 2u);
  EXPECT_EQ(list(a.scores.choice), list(std::as_const(tape.layers[0]).view()));

  tape.replay();
  const auto again = first.forward(x, ctx);
  EXPECT_EQ(list(again.weight), list(a.weight));
  const auto other = later.forward(x, ctx);  // in the second one's place
  ctx.tape = nullptr;
  const auto free = later.forward(x, ctx);
  EXPECT_EQ(list(other.scores.choice), list(b.scores.choice));
  EXPECT_NE(list(free.scores.choice), list(b.scores.choice));
  EXPECT_EQ(list(other.gates), list(free.gates));
  for (Index t = 0; t < 30; ++t) {
    const auto slots = other.plan.slots_of_token(t);
    const double s = other.gates(t, b.scores.choice(t, 0)), u = other.gates(t, b.scores.choice(t, 1));
    EXPECT_NEAR(other.weight[slots[0]], s / (s + u), 1e-15);
    EXPECT_NEAR(other.weight[slots[1]], u / (s + u), 1e-15);
  }
}

TEST(RoutingTape, AllocatesOnlyForNewShapes) {
  const auto r = router<float>(1);
  const auto x = tokens<float>(30);
  RoutingTape tape;
  Context ctx;
  ctx.parallel_for = ParallelFor();
  ctx.tape = &tape;
  const auto pass = [&] {
    const auto scope = ctx.workspace.scope();
    (void)r.forward(x, ctx);
  };
  pass();
  const test::AllocGuard guard;
  tape.record(), pass();
  tape.replay(), pass();
  EXPECT_EQ(guard.count(), 0);
}

TEST(RoutingTape, RefusesWhatIsNoChoice) {
  const auto r = router<float>(1);
  const auto x = tokens<float>(2);
  RoutingTape tape(1);
  Context ctx;
  ctx.tape = &tape;
  const auto refused = [&](std::vector<Index> choices, std::string_view why) {
    tape.layers[0] = Tensor<Index, 2>({2, 2});
    std::ranges::copy(choices, tape.layers[0].data());
    tape.replay();
    test::expect_option_error([&] { (void)r.forward(x, ctx); }, why);
  };
  refused({0, 1, 2, 6}, "sparse layer 0 gives token 1 the expert 6, expected different ones of 0..5");
  refused({0, 0, 2, 3}, "token 0 the expert 0");
  refused({-1, 4, 2, 3}, "token 0 the expert 4");
  tape.layers[0] = Tensor<Index, 2>({3, 2});
  tape.replay();
  test::expect_shape_error([&] { (void)r.forward(x, ctx); }, "sparse layer 0 has shape [3, 2], expected [2, 2]");
  tape.layers[0] = {};
  tape.replay();
  (void)r.forward(x, ctx);  // chooses by itself
  test::expect_option_error([&] { (void)r.forward(x, ctx); }, "call replay() before each pass");
}

TEST(ExpertTable, GivesTokensOfOneIdTheSameExperts) {
  Rng rng(5);
  const auto table = random_expert_table({.num_ids = 400, .num_experts = 6, .num_selected = 2}, rng);
  std::array<Index, 6> often{};
  for (Index v = 0; v < 400; ++v) {
    EXPECT_NE(table.view()(v, 0), table.view()(v, 1));
    for (Index k = 0; k < 2; ++k) ++often[static_cast<std::size_t>(table.view()(v, k))];
  }
  for (const Index n : often) EXPECT_NEAR(static_cast<double>(n), 400. * 2 / 6, 5 * std::sqrt(400. * 2 / 6));

  const std::array<Index, 5> id{7, 399, 7, -1, 0};
  RoutingTape tape(1);
  tape.layers[0] = choose_by_table(table, {id.data(), {5}});
  tape.replay();
  Context ctx;
  ctx.tape = &tape;
  const auto saved = router<float>(1).forward(tokens<float>(5), ctx);
  for (const Index t : {0, 1, 2, 4})
    for (Index k = 0; k < 2; ++k)
      EXPECT_EQ(saved.scores.choice(t, k), table.view()(id[static_cast<std::size_t>(t)], k));
  EXPECT_EQ(saved.plan.requested[3], 0);
  const std::array<Index, 1> beyond{400};
  test::expect_option_error([&] { (void)choose_by_table(table, {beyond.data(), {1}}); }, "id is 400");
  test::expect_option_error(
      [&] { (void)random_expert_table({.num_ids = 3, .num_experts = 1, .num_selected = 2}, rng); },
      "num_selected is 2");
}

// Two sequences with padding and an empty one between them.
const std::array<Index, 4> kOffset{0, 4, 4, 7};
const std::array<std::uint8_t, 7> kModality{0, kPadding, 0, 0, kPadding, 0, 0};
const TokenLayout kLayout{.offset = {kOffset.data(), {4}}, .modality = {kModality.data(), {7}}};

TEST(TopKRouterBySequence, ChoosesForTheMeanToken) {
  const auto r = router<double>(1, true), plain = router<double>(1);
  auto x = tokens<double>(7);
  for (double& v : std::span(x.view()[1].data(), 4)) v = std::numeric_limits<double>::quiet_NaN();
  Tensor<double, 2> mean({2, 4});
  for (Index d = 0; d < 4; ++d) {
    mean.view()(0, d) = (x.view()(0, d) + x.view()(2, d) + x.view()(3, d)) / 3;
    mean.view()(1, d) = (x.view()(5, d) + x.view()(6, d)) / 2;
  }
  Context ctx;
  const auto wanted = plain.forward(mean, ctx);
  ctx.layout = &kLayout;
  const auto saved = r.forward(x, ctx);
  for (Index t = 0; t < 7; ++t) {
    const auto slots = saved.plan.slots_of_token(t);
    if (t == 1 || t == 4) {
      EXPECT_EQ(slots.extent(0), 0);
      continue;
    }
    const Index b = t < 4 ? 0 : 1;
    EXPECT_EQ(list(saved.scores.choice[t]), list(wanted.scores.choice[b]));
    for (Index k = 0; k < 2; ++k)
      EXPECT_NEAR(saved.weight[slots[k]], wanted.weight[wanted.plan.slots_of_token(b)[k]], 1e-14);
  }
  test::expect_option_error([] { TopKRouter<float>({.width = 4, .num_experts = 6, .by_sequence = true, .noise = 1}); },
                            "noise is 1");
}

TEST(TopKRouterBySequence, HasExactGradients) {
  const auto r = router<double>(1, true);
  const auto x = tokens<double>(7);
  Context ctx;
  ctx.layout = &kLayout;
  const auto saved = r.forward(x, ctx);
  auto dweight = ctx.workspace.take<double>(saved.plan.num_slots());
  Rng rng(4);
  for (Index n = 0; n < dweight.size(); ++n) dweight[n] = rng.normal();
  Tensor<double, 2> dx(x.shape());
  auto grad = zeros_like(r);
  r.backward(saved, dweight, {}, dx, grad, ctx);
  auto lifted = router<Dual>(1, true);
  auto lifted_x = tokens<Dual>(7);
  const auto derivative = [&](Dual& variable) {
    variable.d = 1;
    const auto pass = lifted.forward(lifted_x, ctx);
    variable.d = 0;
    double sum = 0;
    for (Index n = 0; n < dweight.size(); ++n) sum += dweight[n] * pass.weight[n].d;
    return sum;
  };
  for (std::size_t i = 0; i < dx.flat().size(); ++i)
    EXPECT_NEAR(dx.flat()[i], derivative(lifted_x.flat()[i]), 1e-13) << i;
  for (std::size_t i = 0; i < grad.weight.flat().size(); ++i)
    EXPECT_NEAR(grad.weight.flat()[i], derivative(lifted.weight.flat()[i]), 1e-13) << i;
}

}  // namespace
}  // namespace gatefold::routing_tape_test
