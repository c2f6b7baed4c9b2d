#pragma once
#include "gatefold/kernels/matmul_portable.hpp"
#include "gatefold/kernels/matmul_simd.hpp"
// After simd.hpp, which silences false warnings of the intrinsic headers that both include.
#include "gatefold/kernels/matmul_eigen.hpp"

/// The one door to matrix products: float goes to the vector kernel, double to Eigen, any other number to plain loops
/// (Isa::portable sends everything there). Arguments may be strided rows of larger matrices; empty ones are fine.
namespace gatefold::kernels {

/// c (+)= a b (+ bias to each row of c). // a [m, k], b [k, n], c [m, n]
template <Real T>
void multiply(Operand<T> a, Operand<T> b, Rows<T> c, Store store, Context& ctx, const T* bias = nullptr) {
#if GATEFOLD_HAS_SIMD
  if constexpr (std::is_same_v<T, float>)
    if (ctx.isa != Isa::portable) return multiply_f32(a, b, c, store, bias, ctx);
#endif
  // Every block is a whole product over k, so the split does not change a digit.
  constexpr Index kRows = 64;
  ctx.parallel_for((c.extent(0) + kRows - 1) / kRows, [&](Index begin, Index end, Index) {
    for (Index block = begin; block < end; ++block) {
      const Index i0 = block * kRows, i1 = std::min(i0 + kRows, c.extent(0));
      Operand<T> rows = a;
      rows.data += i0 * a.row_stride;
      rows.rows = i1 - i0;
      const auto out = c.rows(i0, i1);
      if constexpr (std::is_same_v<T, double>) {
        if (ctx.isa != Isa::portable)
          multiply_eigen(rows, b, out, store);
        else
          multiply_portable(rows, b, out, store);
      } else {
        multiply_portable(rows, b, out, store);
      }
      if (bias)
        for (Index i = 0; i < out.extent(0); ++i)
          for (Index j = 0; j < out.extent(1); ++j) out(i, j) = out(i, j) + bias[j];
    }
  });
}

/// Elements of scratch that one call of multiply_serial needs.
template <Real T>
Index serial_scratch(Index n, Index k) {
#if GATEFOLD_HAS_SIMD
  if constexpr (std::is_same_v<T, float>) return serial_scratch_f32(n, k);
#endif
  return 0 * (n + k);
}

/// The same on the calling thread, for many small products at once.
template <Real T>
void multiply_serial(Operand<T> a, Operand<T> b, Rows<T> c, Store store, Isa isa, T* scratch) {
#if GATEFOLD_HAS_SIMD
  if constexpr (std::is_same_v<T, float>)
    if (isa != Isa::portable) return multiply_f32_serial(a, b, c, store, scratch);
#endif
  if constexpr (std::is_same_v<T, double>)
    if (isa != Isa::portable) return multiply_eigen(a, b, c, store);
  multiply_portable(a, b, c, store);
}

/// y = x wᵀ (+ bias). // x [R, K], w [N, K], bias [N], y [R, N]; 2 R N K flops
template <Real T>
void matmul(Rows<const T> x, Rows<const T> w, Rows<T> y, Context& ctx, const T* bias = nullptr) {
  multiply<T>(Operand<T>(x), transpose(Operand<T>(w)), y, Store::overwrite, ctx, bias);
}

/// dx = dy w. // dy [R, N], w [N, K], dx [R, K]
template <Real T>
void matmul_grad_input(Rows<const T> dy, Rows<const T> w, Rows<T> dx, Context& ctx) {
  multiply<T>(Operand<T>(dy), Operand<T>(w), dx, Store::overwrite, ctx);
}

/// dw += dyᵀ x. // dy [R, N], x [R, K], dw [N, K]
template <Real T>
void add_matmul_grad_weight(Rows<const T> dy, Rows<const T> x, Rows<T> dw, Context& ctx) {
  multiply<T>(transpose(Operand<T>(dy)), Operand<T>(x), dw, Store::add, ctx);
}

/// db += the sum of the rows of dy. // dy [R, N], db [N]
template <Real T>
void add_column_sums(Rows<const T> dy, View<T, 1> db, Context& ctx) {
  constexpr Index kColumns = 64;  // a cache line or four; each column is summed in row order by one worker
  ctx.parallel_for((db.extent(0) + kColumns - 1) / kColumns, [&](Index begin, Index end, Index) {
    for (Index block = begin; block < end; ++block) {
      const Index j0 = block * kColumns, n = std::min(kColumns, db.extent(0) - j0);
      for (Index i = 0; i < dy.extent(0); ++i)
        simd::transform<T>(
            ctx.isa, n, [](auto sum, auto x) { return sum + x; }, db.data() + j0, db.data() + j0,
            dy.data() + i * dy.stride(0) + j0);
    }
  });
}

}  // namespace gatefold::kernels
