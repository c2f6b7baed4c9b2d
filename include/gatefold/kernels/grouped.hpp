#pragma once
#include "gatefold/kernels/matmul.hpp"
#include "gatefold/module/grouped_expert.hpp"

/// Products of many experts at once, each on its own rows: lists for multiply_all. An expert without rows has no entry.
namespace gatefold::kernels {

/// Rows of x that expert e reads. // [rows of e, D]
template <Real T>
Operand<T> expert_rows(Rows<const T> x, const SlotRows& slots, Index e) {
  const Index begin = slots.offset[e], end = slots.offset[e + 1];
  return slots.token.size() ? Operand<T>(x, slots.token.rows(begin, end)) : Operand<T>(x.rows(begin, end));
}

/// A list of products that is filled and then run.
template <Real T>
class ProductList {
 public:
  ProductList(Index most, Workspace& workspace) : products_(workspace.take<Product<T>>(most)) {}

  void add(const Product<T>& product) { products_[size_++] = product; }
  /// Epilogue: done(product number in the order of `add`, its rows i0..i1 and columns j0..j1).
  template <class Done>
  void run(Context& ctx, Done&& done) const {
    multiply_all<T>({products_.data(), static_cast<std::size_t>(size_)}, ctx, done);
  }
  void run(Context& ctx) const {
    run(ctx, [](const ProductBlock&) {});
  }
  const Product<T>& operator[](std::size_t i) const { return products_.data()[i]; }

 private:
  View<Product<T>, 1> products_;
  Index size_ = 0;
};

/// db_e += the sum of the rows of dy that belong to expert e; `bias_of(e)` is db_e // [N], maybe empty. // dy [slots,
/// N]
template <Real T, class BiasOf>
void add_expert_column_sums(Rows<const T> dy, const SlotRows& slots, BiasOf&& bias_of, Context& ctx) {
  constexpr Index kColumns = 64;  // a cache line or four; each column is summed in row order by one worker
  const Index width = dy.extent(1), parts = (width + kColumns - 1) / kColumns;
  ctx.parallel_for(slots.num_experts() * parts, [&](Index begin, Index end, Index) {
    for (Index task = begin; task < end; ++task) {
      const Index e = task / parts, j0 = task % parts * kColumns, n = std::min(kColumns, width - j0);
      const View<T, 1> db = bias_of(e);
      for (Index i = slots.offset[e]; db.size() && i < slots.offset[e + 1]; ++i)
        simd::transform<T>(
            ctx.isa, n, [](auto sum, auto x) { return sum + x; }, db.data() + j0, db.data() + j0,
            dy.data() + i * dy.stride(0) + j0);
    }
  });
}

}  // namespace gatefold::kernels
