#include "gatefold/module/ops.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/dual.hpp"

namespace gatefold {
namespace {

template <class T>
struct Pair {
  using Scalar = T;
  Tensor<T, 2> matrix;
  Tensor<T, 1> vector;
  explicit Pair(Index n = 3) : matrix({2, n}), vector({n}) {}
  static void visit(auto& v, auto&... self) {
    v("matrix", self.matrix...);
    v("vector", self.vector...);
  }
};

Pair<float> filled() {
  Pair<float> pair;
  std::ranges::fill(pair.matrix.flat(), 2.0f);
  std::ranges::fill(pair.vector.flat(), -1.0f);
  return pair;
}

TEST(Ops, ZerosLikeLeavesTheOriginal) {
  const auto pair = filled();
  const auto zeros = zeros_like(pair);
  EXPECT_EQ(zeros.matrix.shape(), pair.matrix.shape());
  EXPECT_THAT(zeros.matrix.flat(), testing::Each(0));
  EXPECT_THAT(zeros.vector.flat(), testing::Each(0));
  EXPECT_THAT(pair.matrix.flat(), testing::Each(2));
  auto other = pair;
  set_zero(other);
  EXPECT_EQ(other.matrix, zeros.matrix);
}

TEST(Ops, CountsAndMeasures) {
  EXPECT_EQ(count_params(filled()), 9);
  EXPECT_DOUBLE_EQ(norm(filled()), std::sqrt(6 * 4 + 3 * 1));
  EXPECT_EQ(norm(Pair<Dual>()), 0);
}

TEST(Ops, ConvertsBetweenScalars) {
  Pair<double> wide;
  convert(filled(), wide);
  EXPECT_THAT(wide.matrix.flat(), testing::Each(2.0));
  Pair<Dual> lifted;
  convert(wide, lifted);
  EXPECT_EQ(lifted.vector.flat()[1].v, -1);
  Pair<float> back;
  convert(wide, back);
  EXPECT_EQ(back.vector, filled().vector);
}

TEST(Ops, ConvertRefusesOtherShapes) {
  Pair<double> longer(4);
  try {
    convert(filled(), longer);
    FAIL();
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "convert: matrix has shape [2, 3], expected [2, 4]");
  }
}

}  // namespace
}  // namespace gatefold
