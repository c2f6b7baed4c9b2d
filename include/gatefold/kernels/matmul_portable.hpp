#pragma once
#include "gatefold/module/module.hpp"

namespace gatefold::kernels {

/// A matrix to be multiplied: any strides, so a transpose is a view.
template <class T>
struct Operand {
  const T* data = nullptr;
  Index rows = 0, cols = 0;
  Index row_stride = 0, col_stride = 1;  // elements

  Operand() = default;
  Operand(View<const T, 2> v) : data(v.data()), rows(v.extent(0)), cols(v.extent(1)), row_stride(v.stride(0)) {}
  Operand(View<T, 2> v) requires(!std::is_const_v<T>) : Operand(View<const T, 2>(v)) {}

  friend Operand transpose(Operand a) {
    std::swap(a.rows, a.cols);
    std::swap(a.row_stride, a.col_stride);
    return a;
  }
};

enum class Store { overwrite, add };

/// c (+)= a b with plain loops: for any number type, and the oracle of the faster ones.
template <Real T>
void multiply_portable(Operand<T> a, Operand<T> b, Rows<T> c, Store store) {
  for (Index i = 0; i < c.extent(0); ++i) {
    T* const row = c.data() + i * c.stride(0);
    if (store == Store::overwrite) std::fill_n(row, c.extent(1), T(0));
    for (Index k = 0; k < a.cols; ++k) {
      const T x = a.data[i * a.row_stride + k * a.col_stride];
      const T* const y = b.data + k * b.row_stride;
      for (Index j = 0; j < c.extent(1); ++j) row[j] = row[j] + x * y[j * b.col_stride];
    }
  }
}

}  // namespace gatefold::kernels
