#pragma once
#include <Eigen/Core>

#include "gatefold/kernels/matmul_portable.hpp"

namespace gatefold::kernels {

/// c (+)= a b by Eigen, on the calling thread: what `double` takes. Blocks of at most 32 rows, known to be so when
/// compiled, keep Eigen from starting threads of its own, whose number its sums would depend on.
template <class T>
void multiply_eigen(Operand<T> a, Operand<T> b, Rows<T> c, Store store) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  constexpr int kRows = 32;
  using Block = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor, kRows, Eigen::Dynamic>;
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  const Eigen::Map<const Matrix, Eigen::Unaligned, Strides> right(b.data, b.rows, b.cols,
                                                                  Strides(b.row_stride, b.col_stride));
  for (Index i = 0; i < c.extent(0); i += kRows) {
    const Index rows = std::min<Index>(kRows, c.extent(0) - i);
    const Eigen::Map<const Block, Eigen::Unaligned, Strides> left(a.data + i * a.row_stride, rows, a.cols,
                                                                  Strides(a.row_stride, a.col_stride));
    Eigen::Map<Block, Eigen::Unaligned, Eigen::OuterStride<>> out(c.data() + i * c.stride(0), rows, c.extent(1),
                                                                  Eigen::OuterStride<>(c.stride(0)));
    if (store == Store::overwrite)
      out.noalias() = left * right;
    else
      out.noalias() += left * right;
  }
}

}  // namespace gatefold::kernels
