#include "gatefold/simd/map.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "gatefold/nn/activation.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::kernels {
namespace {

Tensor<float, 2> counting(Shape<2> shape, float start = 0) {
  Tensor<float, 2> t(shape);
  std::iota(t.flat().begin(), t.flat().end(), start);
  return t;
}

TEST(Map, EveryRowOnceForAnyNumberOfThreads) {
  for (const Index workers : {1, 2, 7})
    for (const Index rows : {0, 1, 5, 1000})
      for (const Index columns : {0, 1, 100, 40000}) {
        Context ctx;
        ctx.parallel_for = test::threads(workers);
        std::vector<int> seen(static_cast<std::size_t>(rows));
        for_each_row(rows, columns, ctx, [&](Index row) { ++seen[static_cast<std::size_t>(row)]; });
        EXPECT_THAT(seen, testing::Each(1)) << rows << " " << columns;
      }
}

TEST(Map, RowsOfWiderMatrices) {
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    Context ctx;
    ctx.isa = isa;
    const auto a = counting({4, 50}), b = counting({4, 60}, 1000);
    auto y = counting({4, 70}, -5000);
    const auto before = y;
    map_rows<float>(
        y.view().columns(3, 40), ctx, [](auto u, auto v) { return u * v; }, a.view().columns(1, 38),
        b.view().columns(20, 57));
    for (Index i = 0; i < 4; ++i)
      for (Index j = 0; j < 70; ++j)
        EXPECT_EQ(y.view()(i, j), j < 3 || j >= 40 ? before.view()(i, j) : a.view()(i, j - 2) * b.view()(i, j + 17));
  }
}

TEST(Map, AddCopyFill) {
  Context ctx;
  const auto x = counting({3, 9});
  auto y = counting({3, 20}, 100);
  const auto middle = y.view().columns(5, 14);
  add_rows<float>(x, middle, ctx);
  EXPECT_EQ(middle(2, 1), 19 + 146);
  copy_rows<float>(x, middle, ctx);
  EXPECT_EQ(middle(2, 8), 26);
  fill_rows<float>(middle, 7.0f, ctx);
  EXPECT_EQ(middle(0, 0), 7);
  EXPECT_EQ(middle(2, 8), 7);
  EXPECT_EQ(y.view()(1, 4), 124);
  EXPECT_EQ(y.view()(1, 14), 134);
}

TEST(Map, ActivateAndItsGradient) {
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    Context ctx;
    ctx.isa = isa;
    Tensor<float, 2> x({1, 21}), y({1, 21}), dy({1, 21});
    std::iota(x.flat().begin(), x.flat().end(), -10.0f);
    std::iota(dy.flat().begin(), dy.flat().end(), 1.0f);
    activate<Relu, float>(x, y, ctx);
    activate_grad<Relu, float>(x, dy, dy, ctx);  // in place
    for (Index j = 0; j < 21; ++j) {
      EXPECT_EQ(y.view()(0, j), j > 10 ? static_cast<float>(j - 10) : 0);
      EXPECT_EQ(dy.view()(0, j), j > 10 ? static_cast<float>(j + 1) : 0);
    }
  }
}

}  // namespace
}  // namespace gatefold::kernels
