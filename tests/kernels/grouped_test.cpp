#include "gatefold/kernels/grouped.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/threads.hpp"

namespace gatefold::kernels {
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
  Index rows = 0;
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
          dy, in_order(), [&](Index e) { return e == 2 ? View<float, 1>() : sums.view()[e]; }, ctx);
      for (Index j = 0; j < width; ++j) {
        ASSERT_EQ(sums.view()(0, j), 1.0f + dy.view()(0, j) + dy.view()(1, j));
        ASSERT_EQ(sums.view()(1, j), 1.0f);
        ASSERT_EQ(sums.view()(2, j), 1.0f) << "an expert without a bias";
      }
    }
  }
}

}  // namespace
}  // namespace gatefold::kernels
