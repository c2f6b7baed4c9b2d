#pragma once
#include <span>

#include "gatefold/module/module.hpp"

/// What is multiplied, and how a list of products is cut into tasks.
namespace gatefold::kernels {

/// A matrix to be multiplied: any strides, so a transpose is a view, and maybe a choice of rows, so that a token's row
/// is read where it lies.
template <class T>
struct Operand {
  const T* data = nullptr;
  Index rows = 0, cols = 0;
  Index row_stride = 0, col_stride = 1;  // elements
  const Index* index = nullptr;          // [rows] which rows of the data these are; null means all in their order

  Operand() = default;
  Operand(View<const T, 2> v) : data(v.data()), rows(v.extent(0)), cols(v.extent(1)), row_stride(v.stride(0)) {}
  Operand(View<T, 2> v) requires(!std::is_const_v<T>) : Operand(View<const T, 2>(v)) {}
  /// Rows index[0..) of v.
  Operand(View<const T, 2> v, View<const Index, 1> chosen) : Operand(v) {
    rows = chosen.extent(0);
    index = chosen.data();
  }

  const T* row(Index i) const { return data + (index ? index[i] : i) * row_stride; }

  friend Operand transpose(Operand a) {
    assert(!a.index);
    std::swap(a.rows, a.cols);
    std::swap(a.row_stride, a.col_stride);
    return a;
  }
};

enum class Store { overwrite, add };

/// In which order the terms of an element are added. `fastest` may depend on how many rows there are, so that a row's
/// last bits depend on whether others are beside it; `alike` does not.
enum class SumOrder { fastest, alike };

/// c (+)= a b (+ bias to each row of c). // a [m, k], b [k, n], c [m, n], bias [n] or null
template <class T>
struct Product {
  Operand<T> a, b;
  Rows<T> c;
  Store store;
  const T* bias = nullptr;
  SumOrder order = SumOrder::fastest;

  /// The part that computes rows [begin, end) of c.
  Product rows(Index begin, Index end) const {
    Product part = *this;
    part.a.rows = end - begin;
    if (a.index)
      part.a.index = a.index + begin;
    else
      part.a.data = a.data + begin * a.row_stride;
    part.c = c.rows(begin, end);
    return part;
  }
};

/// y = x wᵀ (+ bias). // x [R, K], w [N, K], y [R, N]
template <class T>
Product<T> product(Operand<T> x, Rows<const T> w, Rows<T> y, const T* bias = nullptr) {
  return {.a = x, .b = transpose(Operand<T>(w)), .c = y, .store = Store::overwrite, .bias = bias};
}
/// dx (+)= dy w. // dy [R, N], w [N, K], dx [R, K]
template <class T>
Product<T> product_grad_input(Rows<const T> dy, Rows<const T> w, Rows<T> dx, Store store = Store::overwrite) {
  return {.a = dy, .b = w, .c = dx, .store = store};
}
/// dw += dyᵀ x. // dy [R, N], x [R, K], dw [N, K]
template <class T>
Product<T> product_grad_weight(Rows<const T> dy, Operand<T> x, Rows<T> dw) {
  return {.a = transpose(Operand<T>(dy)), .b = x, .c = dw, .store = Store::add};
}

/// Heights that differ by one at most (8, 8 rather than 14, 2): a short tile costs almost as much as a full one.
struct BalancedSplit {
  Index count, base, extra;
  BalancedSplit(Index n, Index limit)
      : count((n + limit - 1) / limit), base(count ? n / count : 0), extra(count ? n % count : 0) {}
  Index begin(Index i) const { return i * base + std::min(i, extra); }
  Index size(Index i) const { return base + (i < extra); }
};

/// A block of c that one worker computes from beginning to end.
struct ProductBlock {
  std::size_t product;
  Index i0, i1, j0, j1;
};

/// The part of c that a block covers.
template <class T>
Rows<T> block_of(const Rows<T>& c, const ProductBlock& block) {
  return c.rows(block.i0, block.i1).columns(block.j0, block.j1);
}

/// Told of each block of c as soon as it is complete: what is done to it now finds it in the cache.
using Epilogue = FunctionRef<void(const ProductBlock&)>;

/// Blocks of at most `rows` x `columns`, of balanced heights. Counts them if `to` is null.
template <class T>
Index cut_blocks(std::span<const Product<T>> products, Index rows, Index columns, ProductBlock* to) {
  Index count = 0;
  for (std::size_t p = 0; p < products.size(); ++p) {
    const BalancedSplit heights(products[p].c.extent(0), rows);
    const Index n = products[p].c.extent(1);
    for (Index j = 0; j < n; j += columns)
      for (Index h = 0; h < heights.count; ++h, ++count)
        if (to) to[count] = {p, heights.begin(h), heights.begin(h + 1), j, std::min(j + columns, n)};
  }
  return count;
}

}  // namespace gatefold::kernels
