#pragma once
#include "gatefold/module/module.hpp"
#include "gatefold/simd/simd.hpp"

/// Element-wise kernels over rows. `f` is one generic formula for scalars and vectors.
namespace gatefold::kernels {

/// Rows that one task takes: about 16 Ki elements, so that a task is worth its hand-off and stays in L2.
inline Index rows_per_task(Index columns) { return std::max<Index>(1, 16384 / std::max<Index>(1, columns)); }

/// Calls body(row) for all rows, in parallel; the split never depends on the number of workers.
template <class F>
void for_each_row(Index rows, Index columns, Context& ctx, F&& body) {
  const Index step = rows_per_task(columns);
  ctx.parallel_for((rows + step - 1) / step, [&](Index begin, Index end, Index) {
    for (Index i = begin * step; i < std::min(rows, end * step); ++i) body(i);
  });
}

/// y = f(x...), element by element, on the calling thread. // all [R, D]
template <class T, class F, class... X>
void map_block(Rows<T> y, Isa isa, F&& f, const X&... x) {
  for (Index i = 0; i < y.extent(0); ++i)
    simd::transform<T>(isa, y.extent(1), f, y.data() + i * y.stride(0), (x.data() + i * x.stride(0))...);
}

/// y = f(x...), element by element. // all [R, D]
template <class T, class F, class... X>
void map_rows(Rows<T> y, Context& ctx, F&& f, const X&... x) {
  for_each_row(y.extent(0), y.extent(1), ctx, [&](Index i) {
    simd::transform<T>(ctx.isa, y.extent(1), f, y.data() + i * y.stride(0), (x.data() + i * x.stride(0))...);
  });
}

/// y += x. // [R, D]
template <class T>
void add_rows(Rows<const T> x, Rows<T> y, Context& ctx) {
  map_rows<T>(
      y, ctx, [](auto a, auto b) { return a + b; }, y, x);
}

template <class T>
void copy_rows(Rows<const T> x, Rows<T> y, Context& ctx) {
  for_each_row(y.extent(0), y.extent(1), ctx,
               [&](Index i) { std::copy_n(x.data() + i * x.stride(0), y.extent(1), y.data() + i * y.stride(0)); });
}

template <class T>
void fill_rows(Rows<T> y, T value, Context& ctx) {
  for_each_row(y.extent(0), y.extent(1), ctx,
               [&](Index i) { std::fill_n(y.data() + i * y.stride(0), y.extent(1), value); });
}

/// y = Act(x). // [R, H]
template <class Act, class T>
void activate(Rows<const T> x, Rows<T> y, Context& ctx) {
  map_rows<T>(
      y, ctx, [](auto v) { return Act::value(v); }, x);
}

/// dx = dy * Act'(x); dx may be dy. // [R, H]
template <class Act, class T>
void activate_grad(Rows<const T> x, Rows<const T> dy, Rows<T> dx, Context& ctx) {
  map_rows<T>(
      dx, ctx, [](auto v, auto d) { return d * Act::slope(v); }, x, dy);
}

}  // namespace gatefold::kernels

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void add_rows<float>(Rows<const float>, Rows<float>, Context&);

}  // namespace gatefold::kernels
#endif
