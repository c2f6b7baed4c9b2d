#pragma once
#include "gatefold/kernels/map.hpp"

namespace gatefold::kernels {

/// y = (x − mean) / sqrt(var + eps) * gain + bias of each row; keeps mean and 1/sqrt(var + eps).
/// // x, y [R, D]; gain, bias [D]; stats [R, 2]. About 8 R D flops.
template <class T>
void layer_norm(Rows<const T> x, View<const T, 1> gain, View<const T, 1> bias, T eps, Rows<T> y, Rows<T> stats,
                Context& ctx) {
  using std::sqrt;
  const Index d = x.extent(1);
  const T inverse_d = T(1) / T(static_cast<double>(d));
  for_each_row(x.extent(0), d, ctx, [&](Index i) {
    const T* const in = x.data() + i * x.stride(0);
    const T mean = inverse_d * simd::sum<T>(
                                   ctx.isa, d, [](auto v) { return v; }, in);
    const T var = inverse_d * simd::sum<T>(
                                  ctx.isa, d, [=](auto v) { return (v - mean) * (v - mean); }, in);
    const T rstd = T(1) / sqrt(var + eps);
    stats(i, 0) = mean;
    stats(i, 1) = rstd;
    simd::transform<T>(
        ctx.isa, d, [=](auto v, auto g, auto b) { return (v - mean) * rstd * g + b; }, y.data() + i * y.stride(0), in,
        gain.data(), bias.data());
  });
}

/// With xhat = (x − mean) rstd and g = dy ⊙ gain: dx = rstd (g − mean(g) − xhat mean(g ⊙ xhat)).
/// // x, dy, dx [R, D]; dx may be dy
template <class T>
void layer_norm_grad(Rows<const T> x, View<const T, 1> gain, Rows<const T> stats, Rows<const T> dy, Rows<T> dx,
                     Context& ctx) {
  const Index d = x.extent(1);
  const T inverse_d = T(1) / T(static_cast<double>(d));
  for_each_row(x.extent(0), d, ctx, [&](Index i) {
    const T* const in = x.data() + i * x.stride(0);
    const T* const dout = dy.data() + i * dy.stride(0);
    const T mean = stats(i, 0), rstd = stats(i, 1);
    const T mean_g = inverse_d * simd::sum<T>(
                                     ctx.isa, d, [](auto g, auto b) { return g * b; }, dout, gain.data());
    const T mean_gx = inverse_d * simd::sum<T>(
                                      ctx.isa, d, [=](auto g, auto b, auto v) { return g * b * ((v - mean) * rstd); },
                                      dout, gain.data(), in);
    simd::transform<T>(
        ctx.isa, d, [=](auto g, auto b, auto v) { return rstd * (g * b - mean_g - (v - mean) * rstd * mean_gx); },
        dx.data() + i * dx.stride(0), dout, gain.data(), in);
  });
}

namespace detail {
/// One block of columns of add_layer_norm_grad_params, its sums in registers.
template <class V, std::size_t kVectors, class T>
void add_norm_grad_block(Rows<const T> x, Rows<const T> stats, Rows<const T> dy, Index column, T* dgain, T* dbias) {
  constexpr Index kWidth = static_cast<Index>(V::size);
  V gain[kVectors], bias[kVectors];
#pragma GCC unroll 4
  for (std::size_t c = 0; c < kVectors; ++c) {
    gain[c] = V::load_unaligned(dgain + static_cast<Index>(c) * kWidth);
    bias[c] = V::load_unaligned(dbias + static_cast<Index>(c) * kWidth);
  }
  for (Index i = 0; i < x.extent(0); ++i) {
    const V mean(stats(i, 0)), rstd(stats(i, 1));
    const T* const in = x.data() + i * x.stride(0) + column;
    const T* const dout = dy.data() + i * dy.stride(0) + column;
#pragma GCC unroll 4
    for (std::size_t c = 0; c < kVectors; ++c) {
      const V g = V::load_unaligned(dout + static_cast<Index>(c) * kWidth);
      gain[c] = simd::fma(g, (V::load_unaligned(in + static_cast<Index>(c) * kWidth) - mean) * rstd, gain[c]);
      bias[c] = bias[c] + g;
    }
  }
#pragma GCC unroll 4
  for (std::size_t c = 0; c < kVectors; ++c) {
    gain[c].store_unaligned(dgain + static_cast<Index>(c) * kWidth);
    bias[c].store_unaligned(dbias + static_cast<Index>(c) * kWidth);
  }
}
}  // namespace detail

/// dgain += Σ dy ⊙ xhat, dbias += Σ dy, in row order. // x, dy [R, D]; dgain, dbias [D]
template <class T>
void add_layer_norm_grad_params(Rows<const T> x, Rows<const T> stats, Rows<const T> dy, View<T, 1> dgain,
                                View<T, 1> dbias, Context& ctx) {
  constexpr Index kColumns = 64;
  ctx.parallel_for((x.extent(1) + kColumns - 1) / kColumns, [&](Index begin, Index end, Index) {
    for (Index block = begin; block < end; ++block) {
      Index j = block * kColumns;
      const Index last = std::min(j + kColumns, x.extent(1));
#if GATEFOLD_HAS_SIMD
      if constexpr (simd::kVectorised<T>) {
        using V = simd::Batch<T>;
        constexpr Index kWidth = simd::kLanes<T>;
        if (ctx.isa != Isa::portable) {
          for (; j + 4 * kWidth <= last; j += 4 * kWidth)
            detail::add_norm_grad_block<V, 4>(x, stats, dy, j, &dgain[j], &dbias[j]);
          for (; j + kWidth <= last; j += kWidth)
            detail::add_norm_grad_block<V, 1>(x, stats, dy, j, &dgain[j], &dbias[j]);
        }
      }
#endif
      for (; j < last; ++j)
        for (Index i = 0; i < x.extent(0); ++i) {
          dgain[j] = dgain[j] + dy(i, j) * ((x(i, j) - stats(i, 0)) * stats(i, 1));
          dbias[j] = dbias[j] + dy(i, j);
        }
    }
  });
}

}  // namespace gatefold::kernels
