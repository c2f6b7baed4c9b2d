#pragma once
#include "gatefold/simd/long_sum.hpp"

namespace gatefold {

/// One row from each sequence. Padding rows count for nothing; a sequence without tokens gives zeros.
enum class Pooling { mean, first, last };

/// y[b] = the pooled rows of sequence b. // x [R, D], y [B, D]
template <Real T>
void pool(Pooling pooling, Rows<const T> x, const TokenLayout& layout, Rows<T> y, Context& ctx) {
  expect_shape(y, {layout.num_sequences(), x.extent(1)}, "pool: y");
  kernels::for_each_row(y.extent(0), x.extent(1), ctx, [&](Index b) {
    T* const out = y.data() + b * y.stride(0);
    const Index begin = layout.offset[b], end = layout.offset[b + 1];
    const auto row = [&](Index i) { return x.data() + i * x.stride(0); };
    Index count = 0, chosen = -1;
    for (Index i = begin; i < end; ++i) {
      if (layout.modality[i] == kPadding) continue;
      if (pooling == Pooling::last || count == 0) chosen = i;
      ++count;
    }
    if (pooling == Pooling::mean && count > 1)
      kernels::detail::sum_rows<T>(ctx.isa, begin, end, x.extent(1), out, [&](Index i) {
        return [in = row(i), padding = layout.modality[i] == kPadding](auto&& load) {
          using V = decltype(load(in));
          return std::array{padding ? V(T(0)) : load(in)};
        };
      });
    else if (count > 0)
      std::copy_n(row(chosen), x.extent(1), out);
    else
      std::fill_n(out, x.extent(1), T(0));
    if (pooling == Pooling::mean && count > 1) {
      const T inverse = T(1.0 / static_cast<double>(count));
      kernels::simd::transform<T>(
          ctx.isa, x.extent(1), [=](auto v) { return v * inverse; }, out, out);
    }
  });
}

/// dx = the gradient of pool; rows that were not pooled get 0. // dy [B, D], dx [R, D]
template <Real T>
void pool_grad(Pooling pooling, Rows<const T> dy, const TokenLayout& layout, Rows<T> dx, Context& ctx) {
  ctx.parallel_for(layout.num_sequences(), [&](Index begin, Index end, Index) {
    for (Index b = begin; b < end; ++b) {
      Index count = 0, first = -1, last = -1;
      for (Index i = layout.offset[b]; i < layout.offset[b + 1]; ++i)
        if (layout.modality[i] != kPadding) {
          if (count++ == 0) first = i;
          last = i;
        }
      const T share = T(pooling == Pooling::mean && count ? 1.0 / static_cast<double>(count) : 1.0);
      for (Index i = layout.offset[b]; i < layout.offset[b + 1]; ++i) {
        const bool pooled = layout.modality[i] != kPadding &&
                            (pooling == Pooling::mean || i == (pooling == Pooling::first ? first : last));
        T* const out = dx.data() + i * dx.stride(0);
        if (pooled)
          kernels::simd::transform<T>(
              ctx.isa, dx.extent(1), [=](auto v) { return v * share; }, out, dy.data() + b * dy.stride(0));
        else
          std::fill_n(out, dx.extent(1), T(0));
      }
    }
  });
}

/// y[b] = x[row[b]]: pooling at a chosen token, such as the end of text (CLIP takes the first maximum of the ids).
/// // x [R, D], row [B], y [B, D]
template <Real T>
void pool_at(Rows<const T> x, View<const Index, 1> row, Rows<T> y, Context& ctx) {
  expect_shape(y, {row.extent(0), x.extent(1)}, "pool_at: y");
  kernels::for_each_row(y.extent(0), x.extent(1), ctx, [&](Index b) {
    std::copy_n(x.data() + row[b] * x.stride(0), x.extent(1), y.data() + b * y.stride(0));
  });
}

/// dx = 0 but for the chosen rows, which must differ. // dy [B, D], dx [R, D]
template <Real T>
void pool_at_grad(Rows<const T> dy, View<const Index, 1> row, Rows<T> dx, Context& ctx) {
  kernels::fill_rows<T>(dx, T(0), ctx);
  kernels::for_each_row(dy.extent(0), dy.extent(1), ctx, [&](Index b) {
    std::copy_n(dy.data() + b * dy.stride(0), dy.extent(1), dx.data() + row[b] * dx.stride(0));
  });
}

}  // namespace gatefold
