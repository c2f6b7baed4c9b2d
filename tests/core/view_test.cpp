#include "gatefold/core/view.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace gatefold {
namespace {

std::vector<int> counting(std::size_t n) {
  std::vector<int> v(n);
  std::iota(v.begin(), v.end(), 0);
  return v;
}

TEST(View, IsRowMajor) {
  auto data = counting(24);
  const View<int, 3> v(data.data(), {2, 3, 4});
  EXPECT_EQ(v.size(), 24);
  EXPECT_EQ(v.stride(0), 12);
  EXPECT_EQ(v.stride(1), 4);
  EXPECT_EQ(v.stride(2), 1);
  EXPECT_EQ(v(1, 2, 3), 23);
  EXPECT_EQ(v[1][0][2], 14);
  EXPECT_TRUE(v.contiguous());
  v(0, 1, 1) = -1;
  EXPECT_EQ(data[5], -1);
}

TEST(View, RowsAndColumnsBorrow) {
  auto data = counting(20);
  const View<int, 2> v(data.data(), {4, 5});
  const auto part = v.rows(1, 3).columns(2, 4);
  EXPECT_EQ(part.shape(), (Shape<2>{2, 2}));
  EXPECT_EQ(part(0, 0), 7);
  EXPECT_EQ(part(1, 1), 13);
  EXPECT_EQ(part[1][0], 12);
  EXPECT_FALSE(part.contiguous());
  EXPECT_TRUE(v.rows(1, 3).contiguous());
  EXPECT_TRUE(v.rows(2, 3).columns(1, 3).contiguous());  // one row
  EXPECT_EQ(v.rows(4, 4).size(), 0);
  EXPECT_EQ(v.columns(5, 5).shape(), (Shape<2>{4, 0}));
  const View<int, 1> line(data.data(), {20});
  EXPECT_EQ(line.rows(3, 6)[0], 3);
}

TEST(View, NoRowsOfNothing) {
  const View<float, 2> v;
  EXPECT_EQ(v.size(), 0);
  EXPECT_EQ(v.data(), nullptr);
  EXPECT_EQ(v.rows(0, 0).data(), nullptr);
  EXPECT_TRUE(v.contiguous());
}

TEST(View, BecomesConstButNotBack) {
  static_assert(std::convertible_to<View<int, 2>, View<const int, 2>>);
  static_assert(!std::convertible_to<View<const int, 2>, View<int, 2>>);
  auto data = counting(6);
  const View<const int, 2> v = View<int, 2>(data.data(), {2, 3}).columns(1, 3);
  EXPECT_EQ(v(1, 1), 5);
}

TEST(View, WorksInConstantExpressions) {
  static constexpr int kData[] = {1, 2, 3, 4, 5, 6};
  static_assert(View<const int, 2>(kData, {2, 3})(1, 0) == 4);
  static_assert(View<const int, 2>(kData, {2, 3}).rows(1, 2).columns(1, 3)(0, 1) == 6);
}

}  // namespace
}  // namespace gatefold
