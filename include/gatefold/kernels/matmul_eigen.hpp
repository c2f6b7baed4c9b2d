#pragma once
#include <Eigen/Core>

#include "gatefold/kernels/matmul_portable.hpp"

namespace gatefold::kernels {

/// c (+)= a b by Eigen, serial: what `double` takes.
template <class T>
void multiply_eigen(Operand<T> a, Operand<T> b, Rows<T> c, Store store) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  const auto map = [](const Operand<T>& m) {
    return Eigen::Map<const Matrix, Eigen::Unaligned, Strides>(m.data, m.rows, m.cols,
                                                               Strides(m.row_stride, m.col_stride));
  };
  Eigen::Map<Matrix, Eigen::Unaligned, Eigen::OuterStride<>> out(c.data(), c.extent(0), c.extent(1),
                                                                 Eigen::OuterStride<>(c.stride(0)));
  if (store == Store::overwrite)
    out.noalias() = map(a) * map(b);
  else
    out.noalias() += map(a) * map(b);
}

}  // namespace gatefold::kernels
