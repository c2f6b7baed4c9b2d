#pragma once
#include "gatefold/module/frozen.hpp"
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// y[i] = table[ids[i]]. Not a Layer, since its input is no number: it begins a model.
template <Real T>
struct Embedding {
  using Scalar = T;
  struct Options {
    Index vocabulary, width;  // V, D
  };
  struct Saved {
    View<const Index, 1> ids;  // [R] the caller's
  };

  Tensor<T, 2> table;  // [V, D]

  /// Throws OptionError for a size below 1.
  explicit Embedding(Options o) : table(shape_of(o)) {}
  static void visit(auto& v, auto&... self) { v("table", self.table...); }

  Saved forward(View<const Index, 1> ids, Rows<T> y, Context& ctx) const {
    expect_shape(y, {ids.extent(0), table.extent(1)}, "Embedding::forward: y");
    for (Index i = 0; i < ids.extent(0); ++i)
      if (ids[i] < 0 || ids[i] >= table.extent(0))
        throw ShapeError("Embedding::forward: ids[" + std::to_string(i) + "] is " + std::to_string(ids[i]) +
                         ", expected 0.." + std::to_string(table.extent(0) - 1));
    kernels::for_each_row(ids.extent(0), table.extent(1), ctx, [&](Index i) {
      std::copy_n(table.data() + ids[i] * table.extent(1), table.extent(1), y.data() + i * y.stride(0));
    });
    return {ids};
  }

  /// Serial: rows of the same id meet in one sum, whose order must not depend on threads.
  void backward(const Saved& saved, Rows<const T> dy, Embedding& grad, Context& ctx) const {
    expect_shape(dy, {saved.ids.extent(0), table.extent(1)}, "Embedding::backward: dy");
    expect_shape(grad.table.view(), table.shape(), "Embedding::backward: grad.table");
    if (!wants_gradient(table, ctx)) return;
    for (Index i = 0; i < saved.ids.extent(0); ++i) {
      T* const row = grad.table.data() + saved.ids[i] * table.extent(1);
      kernels::simd::transform<T>(
          ctx.isa, table.extent(1), [](auto a, auto b) { return a + b; }, row, row, dy.data() + i * dy.stride(0));
    }
  }

 private:
  static Shape<2> shape_of(const Options& o) {
    expect_size("Embedding", "vocabulary", o.vocabulary);
    expect_size("Embedding", "width", o.width);
    return {o.vocabulary, o.width};
  }
};

}  // namespace gatefold
