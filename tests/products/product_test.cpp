#include "gatefold/products/product.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gatefold::kernels::product_test {
namespace {

TEST(Product, AnOperandReadsRowsTransposesAndChoices) {
  Tensor<float, 2> memory({3, 4});
  for (Index i = 0; i < 12; ++i) memory.data()[i] = static_cast<float>(i);
  const auto at = [](const Operand<float>& a, Index i, Index j) { return a.row(i)[j * a.col_stride]; };
  const Operand<float> plain(memory.view()), part(memory.view().columns(1, 3));
  EXPECT_EQ(at(plain, 2, 3), 11);
  EXPECT_EQ(at(part, 2, 1), 10);
  const auto turned = transpose(part);
  EXPECT_EQ(turned.rows, 2);
  EXPECT_EQ(turned.cols, 3);
  EXPECT_EQ(at(turned, 1, 2), 10);
  const Index index[] = {2, 0, 2, 1};
  const Operand<float> chosen(memory.view(), View<const Index, 1>(index, {4}));
  EXPECT_EQ(chosen.rows, 4);
  EXPECT_EQ(chosen.cols, 4);
  EXPECT_EQ(at(chosen, 2, 3), 11);
  EXPECT_EQ(at(chosen, 3, 0), 4);
}

TEST(Product, SomeRowsOfItAreTheSameNumbers) {
  Tensor<float, 2> memory({5, 5}), c({5, 2});
  for (Index i = 0; i < 25; ++i) memory.data()[i] = static_cast<float>(i);
  const Index index[] = {4, 1, 3, 0, 2};
  const Operand<float> plain(memory.view());
  for (const auto& a : {plain, transpose(plain), Operand<float>(memory.view(), View<const Index, 1>(index, {5}))}) {
    const Product<float> whole{.a = a, .b = Operand<float>(memory.view()), .c = c, .store = Store::add};
    const auto part = whole.rows(1, 4);
    EXPECT_EQ(part.a.rows, 3);
    EXPECT_EQ(part.a.cols, 5);
    EXPECT_EQ(part.c.data(), &c.view()(1, 0));
    EXPECT_EQ(part.c.extent(0), 3);
    EXPECT_EQ(part.store, Store::add);
    for (Index i = 0; i < 3; ++i)
      for (Index k = 0; k < 5; ++k)
        EXPECT_EQ(part.a.row(i)[k * part.a.col_stride], a.row(i + 1)[k * a.col_stride]) << i << " " << k;
  }
}

TEST(Product, ABalancedSplitCoversEverythingWithHeightsThatDifferByOne) {
  for (Index limit = 1; limit <= 20; ++limit)
    for (Index n = 0; n <= 100; ++n) {
      const BalancedSplit split(n, limit);
      ASSERT_EQ(split.count, (n + limit - 1) / limit);  // no more parts than needed
      Index at = 0, least = n, most = 0;
      for (Index i = 0; i < split.count; ++i) {
        ASSERT_EQ(split.begin(i), at);
        at += split.size(i);
        least = std::min(least, split.size(i)), most = std::max(most, split.size(i));
      }
      ASSERT_EQ(at, n);
      ASSERT_EQ(split.begin(split.count), n);
      if (n) {
        ASSERT_GE(least, 1);
        ASSERT_LE(most, limit);
        ASSERT_LE(most - least, 1);
      }
    }
}

TEST(Product, BlocksCoverEachElementOnce) {
  for (const Index rows : {1, 3, 64})
    for (const Index columns : {1, 5, 1000}) {
      std::vector<Tensor<int, 2>> counts;
      std::vector<Product<float>> products;
      for (const Shape<2> shape : {Shape<2>{7, 11}, {0, 4}, {4, 0}, {1, 1}, {65, 2}}) {
        counts.emplace_back(shape);
        products.push_back({.a = {}, .b = {}, .c = {nullptr, shape}, .store = Store::add});
      }
      const Index count = cut_blocks<float>(products, rows, columns, nullptr);
      std::vector<ProductBlock> blocks(static_cast<std::size_t>(count));
      EXPECT_EQ(cut_blocks<float>(products, rows, columns, blocks.data()), count);
      for (const auto& block : blocks) {
        EXPECT_TRUE(0 < block.i1 - block.i0 && block.i1 - block.i0 <= rows);
        EXPECT_TRUE(0 < block.j1 - block.j0 && block.j1 - block.j0 <= columns);
        const auto part = block_of(counts[block.product].view(), block);
        for (Index i = 0; i < part.extent(0); ++i)
          for (Index j = 0; j < part.extent(1); ++j) ++part(i, j);
      }
      for (const auto& each : counts) EXPECT_THAT(each.flat(), testing::Each(1));
    }
}

TEST(Product, TheThreeProductsOfALinearLayerHaveTheRightSizes) {
  Tensor<float, 2> x({5, 3}), w({4, 3}), y({5, 4});
  const auto expect = [](const Product<float>& p, Index m, Index k, Index n, Store store) {
    EXPECT_EQ(p.a.rows, m);
    EXPECT_EQ(p.a.cols, k);
    EXPECT_EQ(p.b.rows, k);
    EXPECT_EQ(p.b.cols, n);
    EXPECT_EQ(p.c.shape(), (Shape<2>{m, n}));
    EXPECT_EQ(p.store, store);
  };
  expect(product<float>(x.view(), w, y), 5, 3, 4, Store::overwrite);
  expect(product_grad_input<float>(y, w, x), 5, 4, 3, Store::overwrite);
  expect(product_grad_weight<float>(y, x.view(), w), 4, 5, 3, Store::add);
}

}  // namespace
}  // namespace gatefold::kernels::product_test
