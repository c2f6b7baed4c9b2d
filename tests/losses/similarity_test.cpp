#include "gatefold/losses/similarity.hpp"

#include <gtest/gtest.h>

#include "tests/losses/contrastive_case.hpp"

namespace gatefold {
namespace {

using namespace test;

TEST(CosineSimilarity, IsTheCosineAndForgetsLengths) {
  Context ctx;
  auto p = random_pairs({.batch = 3, .extra = 1, .width = 4}, 1);
  const auto before = CosineSimilarity::forward<double>(p.a, p.b, ctx);
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 4; ++j) {
      double dot = 0, aa = 0, bb = 0;
      for (Index k = 0; k < 4; ++k) {
        dot += p.a.view()(i, k) * p.b.view()(j, k);
        aa += p.a.view()(i, k) * p.a.view()(i, k);
        bb += p.b.view()(j, k) * p.b.view()(j, k);
      }
      // eps = 1e-8 shortens vectors of length about 1 by as much.
      EXPECT_NEAR(before.similarity(i, j), dot / std::sqrt(aa * bb), 1e-7);
    }
  for (auto& x : p.a.flat()) x *= 64;
  const auto after = CosineSimilarity::forward<double>(p.a, p.b, ctx);
  for (Index i = 0; i < 3; ++i) EXPECT_NEAR(after.similarity(i, 0), before.similarity(i, 0), 1e-7);
}

TEST(CosineSimilarity, ZerosHaveSimilarityAndGradientZero) {
  Context ctx;
  auto p = random_pairs({.batch = 2, .width = 3}, 2);
  for (Index k = 0; k < 3; ++k) p.a.view()(0, k) = 0;
  const auto saved = CosineSimilarity::forward<double>(p.a, p.b, ctx);
  EXPECT_EQ(saved.similarity(0, 0), 0);
  EXPECT_NE(saved.similarity(1, 0), 0);
  Tensor<double, 2> d({2, 2}), da({2, 3}), db({2, 3});
  std::ranges::fill(d.flat(), 1);
  CosineSimilarity::backward<double>(saved, d, da, db, ctx);
  for (Index k = 0; k < 3; ++k) EXPECT_EQ(da.view()(0, k), 0);
  EXPECT_NE(da.view()(1, 0), 0);
  for (const double x : db.flat()) EXPECT_TRUE(std::isfinite(x));
}

TEST(CosineSimilarity, FloatLengthsBeyondTheRangeOfTheirSquares) {
  Context ctx;
  Tensor<float, 2> a({1, 2}), b({1, 2});
  std::ranges::copy(std::array{3e25f, 4e25f}, a.data());
  std::ranges::copy(std::array{1.f, 0.f}, b.data());
  EXPECT_NEAR(CosineSimilarity::forward<float>(a, b, ctx).similarity(0, 0), .6f, 1e-6f);
}

TEST(CosineSimilarity, RefusesWhatDoesNotFit) {
  Context ctx;
  const Tensor<double, 2> none({0, 3}), two({2, 3}), three({3, 3}), wide({3, 4});
  EXPECT_THROW(CosineSimilarity::forward<double>(none, two, ctx), ShapeError);
  EXPECT_THROW(CosineSimilarity::forward<double>(three, two, ctx), ShapeError);
  EXPECT_THROW(CosineSimilarity::forward<double>(three, wide, ctx), ShapeError);
  const auto saved = CosineSimilarity::forward<double>(two, three, ctx);
  Tensor<double, 2> d({2, 3}), da({2, 3}), db({2, 3});
  EXPECT_THROW(CosineSimilarity::backward<double>(saved, d, da, db, ctx), ShapeError);
}

}  // namespace
}  // namespace gatefold
