#pragma once
#include "gatefold/products/matmul_portable.hpp"
#include "gatefold/products/matmul_simd.hpp"
// After simd.hpp, which silences false warnings of the intrinsic headers that both include.
#include "gatefold/products/matmul_eigen.hpp"

/// The one door to matrix products: float goes to the vector kernel, double to Eigen, any other number to plain loops
/// (Isa::portable sends everything there). Eigen's double knows SumOrder::fastest only. Arguments may be strided rows
/// of larger matrices; empty ones are fine.
namespace gatefold::kernels {

/// All products as one list of tasks that the workers share; `done` is told of each block of c as soon as it is
/// complete. The products may not overlap in what they write.
template <Real T>
void multiply_all(std::type_identity_t<std::span<const Product<T>>> products, Context& ctx, Epilogue done) {
#if GATEFOLD_HAS_SIMD
  if constexpr (std::is_same_v<T, float>)
    if (ctx.isa != Isa::portable) return multiply_f32(products, ctx, done);
#endif
  // Every block is a whole product over k, so the split does not change a digit.
  constexpr Index kRows = 64, kAllColumns = std::numeric_limits<Index>::max() / 2;
  const auto scope = ctx.workspace.scope();
  const Index count = cut_blocks(products, kRows, kAllColumns, nullptr);
  auto blocks = ctx.workspace.take<ProductBlock>(count);
  cut_blocks(products, kRows, kAllColumns, blocks.data());
  ctx.parallel_for(count, [&](Index begin, Index end, Index) {
    for (Index i = begin; i < end; ++i) {
      const auto part = products[blocks[i].product].rows(blocks[i].i0, blocks[i].i1);
      if constexpr (std::is_same_v<T, double>) {
        ctx.isa == Isa::portable ? multiply_portable(part) : multiply_eigen(part);
      } else {
        multiply_portable(part);
      }
      done(blocks[i]);
    }
  });
}

/// The same for one product.
template <Real T>
void multiply(const Product<T>& product, Context& ctx) {
  multiply_all<T>({&product, 1}, ctx, [](const ProductBlock&) {});
}

/// y = x wᵀ (+ bias). // x [R, K], w [N, K], bias [N], y [R, N]; 2 R N K flops
template <Real T>
void matmul(Rows<const T> x, Rows<const T> w, Rows<T> y, Context& ctx, const T* bias = nullptr,
            SumOrder order = SumOrder::fastest) {
  auto one = product<T>(x, w, y, bias);
  one.order = order;
  multiply<T>(one, ctx);
}

/// dx = dy w. // dy [R, N], w [N, K], dx [R, K]
template <Real T>
void matmul_grad_input(Rows<const T> dy, Rows<const T> w, Rows<T> dx, Context& ctx) {
  multiply<T>(product_grad_input<T>(dy, w, dx), ctx);
}

/// dw += dyᵀ x. // dy [R, N], x [R, K], dw [N, K]
template <Real T>
void add_matmul_grad_weight(Rows<const T> dy, Rows<const T> x, Rows<T> dw, Context& ctx) {
  multiply<T>(product_grad_weight<T>(dy, x, dw), ctx);
}

}  // namespace gatefold::kernels

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void multiply_all<float>(std::span<const Product<float>>, Context&, Epilogue);

}  // namespace gatefold::kernels
#endif
