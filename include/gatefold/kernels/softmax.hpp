#pragma once
#include <limits>

#include "gatefold/simd/map.hpp"
#include "gatefold/simd/math.hpp"

namespace gatefold::kernels {

/// p = softmax(scale * x) of one row; -inf entries get exactly 0, a row of nothing but -inf gets zeros. p may be x.
template <class T>
void softmax_row(Isa isa, Index n, T scale, const T* x, T* p) {
  if (n == 0) return;
  const T most = simd::maximum<T>(isa, n, x);
  if (most == T(-std::numeric_limits<double>::infinity())) {
    for (Index i = 0; i < n; ++i) p[i] = x[i] == x[i] ? T(0) : x[i];  // NaN stays NaN
    return;
  }
  simd::transform<T>(
      isa, n, [=](auto v) { return kernels::exp((v - most) * scale); }, p, x);
  const T total = simd::sum<T>(
      isa, n, [](auto v) { return v; }, p);
  const T inverse = T(1) / total;
  simd::transform<T>(
      isa, n, [=](auto v) { return v * inverse; }, p, p);
}

/// dx = scale * p ⊙ (dp − ⟨p, dp⟩); dx may be dp.
template <class T>
void softmax_row_grad(Isa isa, Index n, T scale, const T* p, const T* dp, T* dx) {
  const T dot = simd::sum<T>(
      isa, n, [](auto a, auto b) { return a * b; }, p, dp);
  simd::transform<T>(
      isa, n, [=](auto a, auto b) { return a * (b - dot) * scale; }, dx, p, dp);
}

/// y = softmax over the columns of each row. // [R, N]
template <class T>
void softmax_rows(Rows<const T> x, Rows<T> y, Context& ctx) {
  for_each_row(x.extent(0), x.extent(1), ctx, [&](Index i) {
    softmax_row<T>(ctx.isa, x.extent(1), T(1), x.data() + i * x.stride(0), y.data() + i * y.stride(0));
  });
}

/// dx = softmax backward of each row. // [R, N]
template <class T>
void softmax_rows_grad(Rows<const T> p, Rows<const T> dp, Rows<T> dx, Context& ctx) {
  for_each_row(p.extent(0), p.extent(1), ctx, [&](Index i) {
    softmax_row_grad<T>(ctx.isa, p.extent(1), T(1), p.data() + i * p.stride(0), dp.data() + i * dp.stride(0),
                        dx.data() + i * dx.stride(0));
  });
}

/// log_p = log softmax of one row, as (x - largest) - log sum: a common shift of x, however large, costs no digits.
/// Must not overlap.
template <class T>
void log_softmax_row(Isa isa, Index n, const T* x, T* log_p) {
  if (n == 0) return;
  const T most = simd::maximum<T>(isa, n, x);
  simd::transform<T>(
      isa, n, [=](auto v) { return kernels::exp(v - most); }, log_p, x);
  const T log_sum = kernels::log(T(simd::sum<T>(
      isa, n, [](auto v) { return v; }, log_p)));
  simd::transform<T>(
      isa, n, [=](auto v) { return (v - most) - log_sum; }, log_p, x);
}

/// y = log softmax of each row; must not overlap. // [R, N]
template <class T>
void log_softmax_rows(Rows<const T> x, Rows<T> y, Context& ctx) {
  for_each_row(x.extent(0), x.extent(1), ctx, [&](Index i) {
    log_softmax_row<T>(ctx.isa, x.extent(1), x.data() + i * x.stride(0), y.data() + i * y.stride(0));
  });
}

}  // namespace gatefold::kernels

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void softmax_rows<float>(Rows<const float>, Rows<float>, Context&);
GATEFOLD_COMPILED void softmax_rows_grad<float>(Rows<const float>, Rows<const float>, Rows<float>, Context&);
GATEFOLD_COMPILED void log_softmax_rows<float>(Rows<const float>, Rows<float>, Context&);

}  // namespace gatefold::kernels
#endif
