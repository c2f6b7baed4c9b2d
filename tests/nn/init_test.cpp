#include "gatefold/nn/init.hpp"

#include <gtest/gtest.h>

#include <set>
#include <thread>
#include <vector>

namespace gatefold {
namespace {

struct InitLayer {
  using Scalar = float;
  Tensor<float, 2> weight{{120, 200}};  // [out, in]
  Tensor<float, 1> bias{Shape<1>{120}};
  static void visit(auto& v, auto&... self) {
    v("weight", self.weight...);
    v("bias", self.bias...);
  }
};

struct InitModel {
  using Scalar = float;
  InitLayer router;
  std::vector<InitLayer> experts = std::vector<InitLayer>(2);
  Tensor<float, 3> stack{{2, 30, 50}};
  static void visit(auto& v, auto&... self) {
    v("router", self.router...);
    v("experts", self.experts...);
    v("stack", self.stack...);
  }
};

struct Moments {
  double mean = 0, variance = 0, largest = 0;
};
Moments moments(std::span<const float> x) {
  Moments m;
  const auto n = static_cast<double>(x.size());
  for (const float v : x) m.mean += v / n;
  for (const float v : x) m.variance += (v - m.mean) * (v - m.mean) / n;
  for (const float v : x) m.largest = std::max(m.largest, std::abs(static_cast<double>(v)));
  return m;
}

constexpr double kCount = 120 * 200;

TEST(Init, TruncatedNormalSetsMatricesAndLeavesVectors) {
  InitModel model;
  for (auto& x : model.router.bias.flat()) x = 7;
  Rng rng(1);
  init::truncated_normal(model, rng);
  const auto m = moments(model.router.weight.flat());
  // Five standard errors of 24000 samples; the truncation leaves 0.7737 of the variance (1 - 4 pdf(2)/(2 cdf(2) - 1)).
  EXPECT_NEAR(m.mean, 0, 5 * 0.02 / std::sqrt(kCount));
  EXPECT_NEAR(m.variance / (0.02 * 0.02), 0.7737, 5 * std::sqrt(2 / kCount));
  EXPECT_LE(m.largest, 0.04f);
  EXPECT_GT(m.largest, 0.039);
  for (const float x : model.router.bias.flat()) EXPECT_EQ(x, 7);
  EXPECT_GT(moments(model.stack.flat()).largest, 0.03);
}

TEST(Init, LecunNormalHasVarianceOneOverFanIn) {
  InitModel model;
  Rng rng(1);
  init::lecun_normal(model, rng);
  EXPECT_NEAR(moments(model.router.weight.flat()).variance * 200, 1, 5 * std::sqrt(2 / kCount));
  EXPECT_NEAR(moments(model.stack.flat()).variance * 50, 1, 5 * std::sqrt(2 / 3000.0));
}

TEST(Init, XavierUniformFillsItsInterval) {
  InitModel model;
  Rng rng(1);
  init::xavier_uniform(model, rng);
  const double limit = std::sqrt(6.0 / 320);
  const auto m = moments(model.router.weight.flat());
  EXPECT_LE(m.largest, limit * (1 + 1e-7));
  EXPECT_GT(m.largest, 0.999 * limit);
  EXPECT_NEAR(m.variance, limit * limit / 3, 5 * limit * limit / 3 * std::sqrt(0.8 / kCount));
}

TEST(Init, EveryElementHasItsOwnDraw) {
  InitModel model;
  Rng rng(1);
  init::truncated_normal(model, rng);
  std::set<float> distinct;
  for (const auto& layer : {model.router, model.experts[0], model.experts[1]})
    distinct.insert(layer.weight.flat().begin(), layer.weight.flat().end());
  EXPECT_GT(static_cast<double>(distinct.size()), 0.99 * 3 * kCount);  // some floats meet by chance
  const InitModel first = model;
  init::truncated_normal(model, rng);
  EXPECT_NE(model.stack, first.stack);  // a second call draws anew
}

TEST(Init, AnotherLayerShiftsNothing) {
  InitModel small, large;
  large.experts.resize(5);
  Rng a(9), b(9);
  init::truncated_normal(small, a);
  init::truncated_normal(large, b);
  EXPECT_EQ(small.router.weight, large.router.weight);
  EXPECT_EQ(small.experts[1].weight, large.experts[1].weight);
  EXPECT_EQ(small.stack, large.stack);
  Rng c(10);
  init::truncated_normal(large, c);
  EXPECT_NE(small.stack, large.stack);
}

TEST(Init, ThreadsChangeNothing) {
  const auto all = [](Index count) {
    Context ctx;
    ctx.parallel_for = ParallelFor({.workers = count, .run = [count](Index n, ParallelFor::Body body) {
                                      std::vector<std::jthread> pool;
                                      for (Index w = 0; w < count; ++w)
                                        pool.emplace_back([=] { body(n * w / count, n * (w + 1) / count, w); });
                                    }});
    std::vector<Tensor<float, 2>> drawn;
    Rng rng(4);
    InitModel model;
    init::truncated_normal(model, rng, 0.1, ctx);
    drawn.push_back(model.router.weight);
    init::lecun_normal(model, rng, ctx);
    drawn.push_back(model.router.weight);
    init::xavier_uniform(model, rng, ctx);
    drawn.push_back(model.router.weight);
    return drawn;
  };
  const auto serial = all(1);
  EXPECT_EQ(all(2), serial);
  EXPECT_EQ(all(7), serial);
}

TEST(Init, ZerosAndOnesByName) {
  InitModel model;
  Rng rng(1);
  init::truncated_normal(model, rng);
  const InitModel before = model;
  init::zeros(model, "router.*");
  init::ones(model, "experts.*.bias");
  EXPECT_EQ(moments(model.router.weight.flat()).largest, 0);
  for (const float x : model.experts[1].bias.flat()) EXPECT_EQ(x, 1);
  EXPECT_EQ(model.experts[0].weight, before.experts[0].weight);
  EXPECT_THROW(init::zeros(model, "routers.*"), OptionError);
}

}  // namespace
}  // namespace gatefold
