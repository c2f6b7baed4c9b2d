#include "gatefold/nn/pool.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/layer_contract.hpp"

namespace gatefold {
namespace {

using testing::ElementsAre;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Rows of two: sequences of 3, 0, 2 (the first padding) and 1 (padding). Padding holds NaN, which must not show.
const test::OwnedLayout kLayout{.offset = {0, 3, 3, 5, 6}, .modality = {0, 1, 0, kPadding, 1, kPadding}};
Tensor<float, 2> rows() {
  Tensor<float, 2> x({6, 2});
  const float values[] = {1, 10, 2, 20, 6, 60, kNan, kNan, 7, 70, kNan, kNan};
  std::ranges::copy(values, x.flat().begin());
  return x;
}

Tensor<float, 2> pooled(Pooling pooling, Isa isa) {
  Tensor<float, 2> y({4, 2});
  std::ranges::fill(y.flat(), kNan);
  Context ctx;
  ctx.isa = isa;
  pool<float>(pooling, rows(), kLayout.view(), y, ctx);
  return y;
}

TEST(Pool, MeanFirstLast) {
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    EXPECT_THAT(pooled(Pooling::mean, isa).flat(), ElementsAre(3, 30, 0, 0, 7, 70, 0, 0));
    EXPECT_THAT(pooled(Pooling::first, isa).flat(), ElementsAre(1, 10, 0, 0, 7, 70, 0, 0));
    EXPECT_THAT(pooled(Pooling::last, isa).flat(), ElementsAre(6, 60, 0, 0, 7, 70, 0, 0));
  }
}

TEST(Pool, Gradients) {
  Tensor<float, 2> dy({4, 2}), dx({6, 2});
  for (std::size_t i = 0; i < 8; ++i) dy.flat()[i] = static_cast<float>(3 * (i + 1));
  const auto grad = [&](Pooling pooling) {
    std::ranges::fill(dx.flat(), kNan);
    Context ctx;
    pool_grad<float>(pooling, dy, kLayout.view(), dx, ctx);
    return dx;
  };
  EXPECT_THAT(grad(Pooling::mean).flat(), ElementsAre(1, 2, 1, 2, 1, 2, 0, 0, 15, 18, 0, 0));
  EXPECT_THAT(grad(Pooling::first).flat(), ElementsAre(3, 6, 0, 0, 0, 0, 0, 0, 15, 18, 0, 0));
  EXPECT_THAT(grad(Pooling::last).flat(), ElementsAre(0, 0, 0, 0, 3, 6, 0, 0, 15, 18, 0, 0));
}

TEST(Pool, AtChosenRows) {
  Tensor<float, 2> y({2, 2}), dy({2, 2}), dx({6, 2});
  const Index row[] = {4, 0};
  const View<const Index, 1> chosen(row, {2});
  Context ctx;
  pool_at<float>(rows(), chosen, y, ctx);
  EXPECT_THAT(y.flat(), ElementsAre(7, 70, 1, 10));
  for (std::size_t i = 0; i < 4; ++i) dy.flat()[i] = static_cast<float>(i + 1);
  std::ranges::fill(dx.flat(), kNan);
  pool_at_grad<float>(dy, chosen, dx, ctx);
  EXPECT_THAT(dx.flat(), ElementsAre(3, 4, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0));
}

TEST(Pool, SameBitsForAnyNumberOfThreads) {
  const auto layout = kLayout.repeated(2000);
  const auto x = test::random_matrix<float>({12000, 20}, 1);
  const auto run = [&](ParallelFor parallel_for) {
    Context ctx;
    ctx.parallel_for = std::move(parallel_for);
    Tensor<float, 2> y({8000, 20}), dx({12000, 20});
    pool<float>(Pooling::mean, x, layout.view(), y, ctx);
    pool_grad<float>(Pooling::mean, y, layout.view(), dx, ctx);
    return std::pair(y, dx);
  };
  const auto serial = run(ParallelFor());
  EXPECT_EQ(run(test::threads(2)), serial);
  EXPECT_EQ(run(test::threads(7)), serial);
}

TEST(Pool, RefusesAnotherShape) {
  Context ctx;
  Tensor<float, 2> y({3, 2});
  EXPECT_THROW(pool<float>(Pooling::mean, rows(), kLayout.view(), y, ctx), ShapeError);
}

}  // namespace
}  // namespace gatefold
