#pragma once
#include <Eigen/Core>

#include "gatefold/products/matmul_portable.hpp"

namespace gatefold::kernels {

/// c (+)= a b by Eigen, on the calling thread: what `double` takes. Blocks of at most 32 rows, known to be so when
/// compiled, keep Eigen from starting threads of its own, whose number its sums would depend on.
/// Gathered rows are not for it, and left to plain loops.
template <class T>
void multiply_eigen(const Product<T>& p) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  constexpr int kRows = 32;
  using Block = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor, kRows, Eigen::Dynamic>;
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  if (p.a.index || p.b.index) return multiply_portable(p);
  const Eigen::Map<const Matrix, Eigen::Unaligned, Strides> right(p.b.data, p.b.rows, p.b.cols,
                                                                  Strides(p.b.row_stride, p.b.col_stride));
  for (Index i = 0; i < p.c.extent(0); i += kRows) {
    const Index rows = std::min<Index>(kRows, p.c.extent(0) - i);
    const Eigen::Map<const Block, Eigen::Unaligned, Strides> left(p.a.row(i), rows, p.a.cols,
                                                                  Strides(p.a.row_stride, p.a.col_stride));
    Eigen::Map<Block, Eigen::Unaligned, Eigen::OuterStride<>> out(p.c.data() + i * p.c.stride(0), rows, p.c.extent(1),
                                                                  Eigen::OuterStride<>(p.c.stride(0)));
    if (p.store == Store::overwrite)
      out.noalias() = left * right;
    else
      out.noalias() += left * right;
    if (p.bias) out.rowwise() += Eigen::Map<const Eigen::Matrix<T, 1, Eigen::Dynamic>>(p.bias, p.c.extent(1));
  }
}

}  // namespace gatefold::kernels
