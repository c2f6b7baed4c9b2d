#include "gatefold/interop/eigen.hpp"

#include <gtest/gtest.h>

namespace gatefold {
namespace {

TEST(AsEigen, SharesMemoryAndStrides) {
  Tensor<float, 2> wide({3, 5});
  for (Index i = 0; i < wide.size(); ++i) wide.data()[i] = static_cast<float>(i);
  const auto middle = wide.view().columns(1, 4);
  auto matrix = as_eigen(middle);
  ASSERT_EQ(matrix.rows(), 3);
  ASSERT_EQ(matrix.cols(), 3);
  EXPECT_EQ(matrix(2, 1), 12);
  matrix(2, 1) = -1;
  EXPECT_EQ(wide.view()(2, 2), -1);
  EXPECT_EQ(as_eigen(std::as_const(wide)).sum(), 105 - 13);
}

TEST(AsView, SharesMemory) {
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> matrix(2, 3);
  matrix << 1, 2, 3, 4, 5, 6;
  const auto view = as_view(matrix);
  EXPECT_EQ(view.shape(), (Shape<2>{2, 3}));
  view(1, 2) = 7;
  EXPECT_EQ(matrix(1, 2), 7);
  EXPECT_EQ(as_view(std::as_const(matrix))(1, 0), 4);
}

}  // namespace
}  // namespace gatefold
