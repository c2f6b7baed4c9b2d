#include "gatefold/core/tensor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>

namespace gatefold {
namespace {

TEST(Tensor, BeginsWithZerosOnACacheLine) {
  for (const Index n : {1, 3, 17, 1000}) {
    const Tensor<float, 2> t({n, 3});
    EXPECT_EQ(t.size(), 3 * n);
    EXPECT_THAT(t.flat(), testing::Each(0));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.data()) % kAlignment, 0u);
  }
}

TEST(Tensor, OfAHugePageOrMoreBeginsAtOne) {
  constexpr std::uintptr_t kHugePage = 1 << 21;
  for (const Index bytes : {1 << 21, (1 << 21) + 1, 5 << 20}) {
    const Tensor<std::byte, 1> t({bytes});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.data()) % kHugePage, 0u) << bytes;
  }
}

TEST(Tensor, IsAValue) {
  Tensor<int, 2> a({2, 2});
  a.view()(1, 0) = 5;
  auto b = a;
  EXPECT_EQ(a, b);
  b.view()(0, 0) = 1;
  EXPECT_EQ(a.view()(0, 0), 0);
  EXPECT_NE(a, b);
  EXPECT_NE((Tensor<int, 2>({1, 4})), (Tensor<int, 2>({4, 1})));
  const auto moved = std::move(b);
  EXPECT_EQ(moved.view()(1, 0), 5);
}

TEST(Tensor, IsViewedAsItIsDeclared) {
  Tensor<int, 2> t({2, 3});
  const View<int, 2> view = t;
  view(1, 2) = 7;
  EXPECT_EQ(t.flat()[5], 7);
  const auto& constant = t;
  const View<const int, 2> shown = constant;
  EXPECT_EQ(shown(1, 2), 7);
  EXPECT_EQ(t.extent(1), 3);
  EXPECT_EQ(t.shape(), (Shape<2>{2, 3}));
  static_assert(!std::convertible_to<const Tensor<int, 2>&, View<int, 2>>);
}

TEST(Tensor, MayBeEmpty) {
  const Tensor<float, 1> none;
  EXPECT_EQ(none.size(), 0);
  const Tensor<float, 2> flat({0, 5});
  EXPECT_EQ(flat.size(), 0);
  EXPECT_EQ(flat.view().extent(1), 5);
}

TEST(Tensor, IsToldFromOtherTypes) {
  static_assert(is_tensor<Tensor<float, 3>> && !is_tensor<int> && !is_tensor<View<float, 3>>);
}

TEST(Tensor, MovedFromHasNeitherElementsNorAShapeOfSome) {
  Tensor<float, 2> a({8, 32}), b = std::move(a);
  const auto expect_empty = [](const Tensor<float, 2>& t) {
    EXPECT_EQ(t.size(), element_count(t.shape()));
    EXPECT_EQ(t.shape(), (Shape<2>{0, 0}));
    EXPECT_EQ(t.view().extent(1), 0);
    EXPECT_EQ(t, (Tensor<float, 2>{}));
  };
  expect_empty(a);
  EXPECT_EQ(b.shape(), (Shape<2>{8, 32}));
  a = std::move(b);
  expect_empty(b);
  EXPECT_EQ(a.size(), 256);
  auto& itself = a;
  a = std::move(itself);
  EXPECT_EQ(a.size(), element_count(a.shape()));
  a = Tensor<float, 2>({1, 2});
  std::swap(a, b);
  expect_empty(a);
  EXPECT_EQ(b.shape(), (Shape<2>{1, 2}));
  std::vector<Tensor<float, 2>> many(3, Tensor<float, 2>({2, 2}));
  many.erase(many.begin());
  for (const auto& t : many) EXPECT_EQ(t.size(), element_count(t.shape()));
}

}  // namespace
}  // namespace gatefold
