#include "gatefold/products/grouped.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "tests/support/threads.hpp"

namespace gatefold::kernels::grouped_test {
namespace {

Tensor<float, 2> random_matrix(Shape<2> shape, std::uint64_t seed) {
  Rng rng(seed);
  Tensor<float, 2> m(shape);
  for (float& v : m.flat()) v = static_cast<float>(rng.normal());
  return m;
}
const Index kOffset[] = {0, 2, 2, 5};
const Index kToken[] = {3, 1, 1, 0, 3};
SlotRows with_tokens() { return {{kOffset, {4}}, {kToken, {5}}}; }
SlotRows in_order() { return {{kOffset, {4}}, {}}; }

TEST(Grouped, AnExpertReadsItsRowsWhereTheyLie) {
  const auto x = random_matrix({5, 3}, 1);
  for (const Index e : {0, 1, 2}) {
    const auto chosen = expert_rows<float>(x, with_tokens(), e), own = expert_rows<float>(x, in_order(), e);
    ASSERT_EQ(chosen.rows, kOffset[e + 1] - kOffset[e]);
    ASSERT_EQ(own.rows, chosen.rows);
    for (Index i = 0; i < chosen.rows; ++i) {
      EXPECT_EQ(chosen.row(i), &x.view()(kToken[kOffset[e] + i], 0));
      EXPECT_EQ(own.row(i), &x.view()(kOffset[e] + i, 0));
    }
  }
}

TEST(Grouped, SlotRowsCountTheirSlots) {
  EXPECT_EQ(with_tokens().num_experts(), 3);
  EXPECT_EQ(with_tokens().num_slots(), 5);
  EXPECT_EQ(with_tokens().count(1), 0);
  EXPECT_EQ(with_tokens().count(2), 3);
  Context ctx;
  const auto all = SlotRows::all(7, ctx.workspace);
  EXPECT_EQ(all.num_experts(), 1);
  EXPECT_EQ(all.count(0), 7);
  EXPECT_EQ(all.token.size(), 0);
}

TEST(Grouped, AListRunsAllItsProducts) {
  const auto a = random_matrix({9, 5}, 2), w = random_matrix({4, 5}, 3);
  Tensor<float, 2> c({9, 4}), expected({9, 4});
  Context ctx;
  for (const Index begin : {0, 3, 6})
    matmul<float>(a.view().rows(begin, begin + 3), w, expected.view().rows(begin, begin + 3), ctx);
  ProductList<float> list(3, ctx.workspace);
  list.run(ctx);  // of nothing
  for (const Index begin : {0, 3, 6})
    list.add(product<float>(a.view().rows(begin, begin + 3), w, c.view().rows(begin, begin + 3)));
  std::atomic<Index> rows = 0;  // blocks run side by side
  list.run(ctx, [&](const ProductBlock& block) {
    EXPECT_EQ(block_of(list[block.product].c, block).data(),
              &c.view()(3 * static_cast<Index>(block.product) + block.i0, block.j0));
    rows += block.i1 - block.i0;
  });
  EXPECT_EQ(rows, 9);
  EXPECT_EQ(c, expected);
}

TEST(Grouped, ColumnSumsGoToTheExpertOfTheRow) {
  for (const Index width : {0, 1, 63, 64, 65, 200}) {
    const auto dy = random_matrix({5, width}, 4);
    for (const Index workers : {1, 3, 7}) {
      Tensor<float, 2> sums({3, width});
      std::ranges::fill(sums.flat(), 1.0f);
      Context ctx;
      ctx.parallel_for = test::threads(workers);
      add_expert_column_sums<float>(
          3, [&](Index e) { return dy.view().rows(kOffset[e], kOffset[e + 1]); },
          [&](Index e) { return e == 2 ? View<float, 1>() : sums.view()[e]; }, ctx);
      for (Index j = 0; j < width; ++j) {
        const float both = dy.view()(0, j) + dy.view()(1, j);
        ASSERT_EQ(sums.view()(0, j), static_cast<float>(1.0 + double{both}));
        ASSERT_EQ(sums.view()(1, j), 1.0f);
        ASSERT_EQ(sums.view()(2, j), 1.0f) << "an expert without a bias";
      }
    }
  }
}

TEST(Grouped, ColumnSumsOfUnlikeWidths) {
  const Index width[] = {70, 3, 129};
  std::vector<Tensor<float, 2>> dy;
  for (std::size_t e = 0; e < 3; ++e) dy.push_back(random_matrix({static_cast<Index>(2 * e + 1), width[e]}, e));
  for (const Index workers : {1, 3, 7}) {
    std::vector<Tensor<float, 1>> sums;
    for (const Index w : width) sums.emplace_back(Shape<1>{w});
    Context ctx;
    ctx.parallel_for = test::threads(workers);
    add_expert_column_sums<float>(
        3, [&](Index e) { return std::as_const(dy[static_cast<std::size_t>(e)]).view(); },
        [&](Index e) { return sums[static_cast<std::size_t>(e)].view(); }, ctx);
    for (std::size_t e = 0; e < 3; ++e)
      for (Index j = 0; j < width[e]; ++j) {
        float sum = 0;
        for (Index i = 0; i < dy[e].extent(0); ++i) sum += dy[e].view()(i, j);
        ASSERT_EQ(sums[e].data()[j], sum) << e << " " << j;
      }
  }
}

TEST(Grouped, HiddenRowsOfUnlikeWidthsLieOneAfterTheOther) {
  const Index width[] = {3, 100, 20};  // the second expert has no rows
  Context ctx;
  const HiddenRows hidden(
      with_tokens(), [&](Index e) { return width[e]; }, ctx.workspace);
  EXPECT_EQ(hidden.num_experts(), 3);
  EXPECT_EQ(hidden.num_rows(), 5);
  EXPECT_EQ(hidden.num_units(), 2 * 3 + 3 * 20);
  std::vector<float> x(66), y(66);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  const View<const float, 1> from(x.data(), {66});
  const View<float, 1> to(y.data(), {66});
  EXPECT_EQ(hidden.of(from, 0).shape(), (Shape<2>{2, 3}));
  EXPECT_EQ(hidden.of(from, 1).shape(), (Shape<2>{0, 0}));
  EXPECT_EQ(hidden.of(from, 2).shape(), (Shape<2>{3, 20}));
  EXPECT_EQ(hidden.of(from, 0)(1, 2), 5);
  EXPECT_EQ(hidden.of(from, 2)(1, 4), 6 + 20 + 4);
  for (const Index workers : {1, 3}) {
    ctx.parallel_for = test::threads(workers);
    std::ranges::fill(y, 0.0f);
    hidden.map(
        to, ctx, [](auto a, auto b) { return a + b; }, from, from);
    for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], 2 * x[i]);
  }
}

TEST(Grouped, MapsManyHiddenRowsInParallelToTheSameBits) {
  const Index offset[] = {0, 700, 700, 701, 1500}, width[] = {65, 9, 1, 200};
  const SlotRows slots{{offset, {5}}, {}};
  Context ctx;
  const HiddenRows hidden(
      slots, [&](Index e) { return width[e]; }, ctx.workspace);
  const auto x = random_matrix({1, hidden.num_units()}, 5);
  const auto act = [&](Index workers) {
    ctx.parallel_for = test::threads(workers);
    Tensor<float, 1> y({hidden.num_units()});
    hidden.map(
        y.view(), ctx, [](auto v) { return v / (v * v + 1.0f); }, x.view()[0]);
    return y;
  };
  const auto serial = act(1);
  for (Index i = 0; i < serial.size(); ++i) {
    const float v = x.data()[i];
    ASSERT_NEAR(serial.data()[i], v / (v * v + 1.0f), 1e-6f);
  }
  for (const Index workers : {2, 7}) EXPECT_EQ(act(workers), serial);
}

}  // namespace
}  // namespace gatefold::kernels::grouped_test
