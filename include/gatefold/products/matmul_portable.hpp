#pragma once
#include <array>

#include "gatefold/products/product.hpp"

namespace gatefold::kernels {

/// c (+)= a b with plain loops: for any number type, and the oracle of the faster ones. The sum over k is taken in
/// parts, as the vector kernel takes it.
template <Real T>
void multiply_portable(const Product<T>& p) {
  constexpr Index kColumns = 64, kPart = 512;
  const Index n = p.c.extent(1);
  for (Index i = 0; i < p.c.extent(0); ++i)
    for (Index j0 = 0; j0 < n; j0 += kColumns) {
      const Index columns = std::min(kColumns, n - j0);
      T* const out = p.c.data() + i * p.c.stride(0) + j0;
      if (p.store == Store::overwrite) std::fill_n(out, columns, T(0));
      for (Index k0 = 0; k0 < p.a.cols; k0 += kPart) {
        std::array<T, static_cast<std::size_t>(kColumns)> part{};
        T* const sum = k0 ? part.data() : out;
        for (Index k = k0; k < std::min(p.a.cols, k0 + kPart); ++k) {
          const T x = p.a.row(i)[k * p.a.col_stride];
          const T* const y = p.b.row(k) + j0 * p.b.col_stride;
          for (Index j = 0; j < columns; ++j) sum[j] = sum[j] + x * y[j * p.b.col_stride];
        }
        if (k0)
          for (Index j = 0; j < columns; ++j) out[j] = out[j] + sum[j];
      }
      if (p.bias)
        for (Index j = 0; j < columns; ++j) out[j] = out[j] + p.bias[j0 + j];
    }
}

}  // namespace gatefold::kernels
