#pragma once
#include <Eigen/Core>

#include "gatefold/core/tensor.hpp"

namespace gatefold {

template <class T>
using EigenRows = Eigen::Map<
    std::conditional_t<std::is_const_v<T>,
                       const Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>,
                       Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>,
    Eigen::Unaligned, Eigen::OuterStride<>>;

/// The rows as an Eigen matrix, without a copy: as_eigen(y) = as_eigen(x) * as_eigen(w).transpose(). // [R, D]
template <class T>
EigenRows<T> as_eigen(View<T, 2> rows) {
  return {rows.data(), rows.extent(0), rows.extent(1), Eigen::OuterStride<>(rows.stride(0))};
}
template <class T>
EigenRows<T> as_eigen(Tensor<T, 2>& tensor) {
  return as_eigen(tensor.view());
}
template <class T>
EigenRows<const T> as_eigen(const Tensor<T, 2>& tensor) {
  return as_eigen(tensor.view());
}

/// Rows of an Eigen matrix as a view, without a copy; the matrix must be row-major. // [R, D]
template <class Derived>
auto as_view(Eigen::PlainObjectBase<Derived>& matrix) {
  static_assert(Derived::IsRowMajor, "gatefold::as_view: the matrix is column-major, expected Eigen::RowMajor");
  return View<typename Derived::Scalar, 2>(matrix.data(), {matrix.rows(), matrix.cols()}, {matrix.outerStride()});
}
template <class Derived>
auto as_view(const Eigen::PlainObjectBase<Derived>& matrix) {
  static_assert(Derived::IsRowMajor, "gatefold::as_view: the matrix is column-major, expected Eigen::RowMajor");
  return View<const typename Derived::Scalar, 2>(matrix.data(), {matrix.rows(), matrix.cols()}, {matrix.outerStride()});
}

}  // namespace gatefold
