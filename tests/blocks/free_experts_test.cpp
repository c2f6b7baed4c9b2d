#include "gatefold/blocks/free_experts.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/io/checkpoint.hpp"
#include "gatefold/losses/balance.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/one_of.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "tests/blocks/exact_gradient.hpp"
#include "tests/io/temporary_folder.hpp"
#include "tests/support/refused.hpp"
#include "tests/support/threads.hpp"

namespace gatefold {
namespace {

template <class T>
using NoNet = OneOf<CopyExpert<T>, OneOf<ZeroExpert<T>, ConstantExpert<T>>>;
template <class T>
using Layer = SparseMlp<TopKRouter<T>, Mlp<T>, AuxLosses<Balance>, NoNet<T>>;

/// Three nets, a copy, a zero and two constants, as MoE++ has them.
template <class T>
Layer<T> mixture(Index width = 6) {
  using Rest = OneOf<ZeroExpert<T>, ConstantExpert<T>>;
  const ConstantExpert<T> constant({.width = width});
  std::vector<NoNet<T>> free{NoNet<T>(CopyExpert<T>()), NoNet<T>(Rest(ZeroExpert<T>())), NoNet<T>(Rest(constant)),
                             NoNet<T>(Rest(constant))};
  return {TopKRouter<T>({.width = width, .num_experts = 7, .num_selected = 2}), Mlp<T>({.width = width, .hidden = 9}),
          std::move(free)};
}
template <class T>
const ConstantExpert<T>& constant_of(const NoNet<T>& free) {
  return std::get<1>(std::get<1>(free.layer).layer);
}

TEST(FreeExperts, GiveWhatTheySay) {
  auto layer = mixture<float>();
  disturb_params(layer, 1);
  const auto x = random_tensor<float>(Shape<2>{300, 6}, 2);
  Tensor<float, 2> y(x.shape()), net({1, 6});
  std::vector<float> first;
  for (const Index workers : {1, 2, 7}) {
    Context ctx;
    ctx.parallel_for = test::threads(workers);
    const auto saved = layer.forward(x, y, ctx);
    const auto& plan = saved.routing.plan;
    for (Index e = 0; e < 7; ++e) ASSERT_GT(plan.demand[e], 0);
    for (Index n = 0; n < plan.num_slots(); ++n) {
      const Index t = plan.token[n], e = plan.expert[n];
      if (e < 3) infer(layer.experts[static_cast<std::size_t>(e)], x.view().rows(t, t + 1), net.view(), ctx);
      double power[2] = {0, 0};
      for (const Index i : {0, 1})
        for (Index d = 0; d < 6 && e >= 5; ++d)
          power[i] +=
              double{constant_of(layer.free[static_cast<std::size_t>(e - 3)]).mix.view()(i, d)} * x.view()(t, d);
      const double share = 1 / (1 + std::exp(power[1] - power[0]));
      for (Index d = 0; d < 6; ++d) {
        const double v = e < 5 ? 0 : constant_of(layer.free[static_cast<std::size_t>(e - 3)]).value.view()(0, d);
        const double own = x.view()(t, d);
        const double out = e < 3 ? net.data()[d] : e == 3 ? own : e == 4 ? 0 : share * own + (1 - share) * v;
        ASSERT_NEAR(saved.ys(n, d), out, 2e-5) << "expert " << e;
      }
    }
    const std::vector<float> all(y.flat().begin(), y.flat().end());
    if (first.empty()) first = all;
    EXPECT_EQ(all, first) << workers;
  }
}

TEST(FreeExperts, HaveExactGradients) {
  auto layer = mixture<double>();
  auto lifted = mixture<Dual>();
  disturb_params(layer, 3);
  expect_exact_gradient(layer, lifted, random_tensor<double>(Shape<2>{17, 6}, 4));
  layer.weighed = lifted.weighed = Weighed::inputs;
  expect_exact_gradient(layer, lifted, random_tensor<double>(Shape<2>{9, 6}, 4));
  layer.weighed = lifted.weighed = Weighed::outputs;
  // The nets get nobody: of the copy and the zero alone.
  for (Index e = 0; e < 7; ++e)
    for (Index d = 0; d < 6; ++d) layer.router.weight.view()(e, d) = (e == 3 || e == 4) ? 1 : -1;
  expect_exact_gradient(layer, lifted, [] {
    auto x = random_tensor<double>(Shape<2>{5, 6}, 5);
    for (double& v : x.flat()) v = std::abs(v);
    return x;
  }());
}

TEST(FreeExperts, ArePackedAndSavedWithTheNets) {
  auto layer = mixture<float>(32), other = mixture<float>(32);
  disturb_params(layer, 6, 0.2);
  const testing::TemporaryFolder folder;
  save(layer, folder / "layer.safetensors");
  load(folder / "layer.safetensors", other);
  for_each_param([](std::string_view path, const auto& a, const auto& b) { EXPECT_EQ(a, b) << path; }, layer, other);
  EXPECT_THAT(CheckpointReader(folder / "layer.safetensors").names("free"),
              ::testing::ElementsAre("free.2.mix", "free.2.value", "free.3.mix", "free.3.value"));
  const auto packed = pack<float>(layer);
  const auto x = random_tensor<float>(Shape<2>{40, 32}, 7);
  Tensor<float, 2> y(x.shape()), z(x.shape());
  Context ctx;
  infer(layer, x, y, ctx);
  infer(packed, x, z, ctx);
  for (Index i = 0; i < y.size(); ++i) EXPECT_NEAR(y.data()[i], z.data()[i], 1e-5);
}

TEST(FreeExperts, AreCountedAmongTheExperts) {
  using Sparse = SparseMlp<TopKRouter<float>, Mlp<float>, NoAux, CopyExpert<float>>;
  const TopKRouter<float> router({.width = 4, .num_experts = 5, .num_selected = 2});
  const Mlp<float> net({.width = 4, .hidden = 3});
  EXPECT_EQ(Sparse(router, net, std::vector<CopyExpert<float>>(2)).experts.size(), 3u);
  const SparseMlp deduced(router, net, std::vector<CopyExpert<float>>(1));
  EXPECT_EQ(deduced.experts.size(), 4u);
  test::expect_option_error(
      [&] {
        Sparse(router, std::vector{net, net}, std::vector<CopyExpert<float>>(2));
      },
      "there are 4 experts, expected 5");
}

}  // namespace
}  // namespace gatefold
