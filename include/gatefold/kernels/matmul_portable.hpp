#pragma once
#include "gatefold/kernels/product.hpp"

namespace gatefold::kernels {

/// c (+)= a b with plain loops: for any number type, and the oracle of the faster ones.
template <Real T>
void multiply_portable(const Product<T>& p) {
  const Index n = p.c.extent(1);
  for (Index i = 0; i < p.c.extent(0); ++i) {
    T* const row = p.c.data() + i * p.c.stride(0);
    if (p.store == Store::overwrite) std::fill_n(row, n, T(0));
    for (Index k = 0; k < p.a.cols; ++k) {
      const T x = p.a.row(i)[k * p.a.col_stride];
      const T* const y = p.b.row(k);
      for (Index j = 0; j < n; ++j) row[j] = row[j] + x * y[j * p.b.col_stride];
    }
    if (p.bias)
      for (Index j = 0; j < n; ++j) row[j] = row[j] + p.bias[j];
  }
}

}  // namespace gatefold::kernels
