#pragma once
#include <array>

#include "gatefold/simd/map.hpp"

/// Moving rows to the experts and back. Every kernel splits its output rows among workers and adds in a fixed order.
namespace gatefold::kernels {

/// For each row of one side the rows of the other that belong to it, in CSR form.
struct RowLists {
  View<const Index, 1> offset;  // [S+1]
  View<const Index, 1> row;     // [N]
};

/// to[n] = from[row[n]]. // from [S, D], row [N], to [N, D]
template <Real T>
void gather_rows(Rows<const T> from, View<const Index, 1> row, Rows<T> to, Context& ctx) {
  const Index width = from.extent(1);
  for_each_row(to.extent(0), width, ctx, [&](Index n) { std::copy_n(from[row[n]].data(), width, to[n].data()); });
}

/// to[n] = weight[n] from[row[n]]. // from [S, D], weight, row [N], to [N, D]
template <Real T>
void gather_scaled_rows(Rows<const T> from, View<const T, 1> weight, View<const Index, 1> row, Rows<T> to,
                        Context& ctx) {
  const Index width = from.extent(1);
  for_each_row(to.extent(0), width, ctx, [&](Index n) {
    simd::transform<T>(
        ctx.isa, width, [w = weight[n]](auto x) { return x * w; }, to[n].data(), from[row[n]].data());
  });
}

namespace detail {

/// Calls step(begin, constant count) for the entries [begin, end) of a list, four at a time: a pass over the output
/// costs as much as one over an input, and four rows read at once keep the memory busy.
template <class F>
void for_each_four(Index begin, Index end, F&& step) {
  for (; begin + 4 <= end; begin += 4) step(begin, std::make_index_sequence<4>());
  if (end - begin == 3) step(begin, std::make_index_sequence<3>());
  if (end - begin == 2) step(begin, std::make_index_sequence<2>());
  if (end - begin == 1) step(begin, std::make_index_sequence<1>());
}

}  // namespace detail

/// to[s] = sum over the list of s of weight * from; an empty list gives exactly 0, whatever the other rows hold.
/// // from [N, D], weight [N], to [S, D]
template <Real T>
void combine_rows(Rows<const T> from, View<const T, 1> weight, RowLists lists, Rows<T> to, Context& ctx) {
  const Index width = to.extent(1);
  for_each_row(to.extent(0), width, ctx, [&](Index s) {
    T* const out = to[s].data();
    const Index begin = lists.offset[s], end = lists.offset[s + 1];
    if (begin == end) std::fill_n(out, width, T(0));
    detail::for_each_four(
        begin, end, [&]<std::size_t... I>(Index i, std::index_sequence<I...>) {
          const std::array<Index, sizeof...(I)> row{lists.row[i + static_cast<Index>(I)]...};
          const std::array<T, sizeof...(I)> w{weight[row[I]]...};
          if (i == begin)
            simd::transform<T>(
                ctx.isa, width,
                [w](auto x, auto... more) {
                  std::size_t n = 0;
                  auto sum = x * w[0];
                  ((sum = sum + more * w[++n]), ...);
                  return sum;
                },
                out, from[row[I]].data()...);
          else
            simd::transform<T>(
                ctx.isa, width,
                [w](auto sum, auto... x) {
                  std::size_t n = 0;
                  ((sum = sum + x * w[n++]), ...);
                  return sum;
                },
                out, out, from[row[I]].data()...);
        });
  });
}

namespace detail {

/// scaled = w x, and returns <x, y>, both in one pass; the sum in the order of simd::sum.
template <class T, class Arch = simd::DefaultArch>
T scale_and_dot(Isa isa, Index n, T w, const T* x, const T* y, T* scaled) {
  if constexpr (simd::kVectorised<T>) {
    if (isa != Isa::portable) {
      using V = simd::Batch<T, Arch>;
      constexpr Index kWidth = simd::kLanes<T, Arch>;
      const V factor(w);
      V even(T(0)), odd(T(0));
      Index i = 0;
      const auto step = [&](Index at) {
        const V v = simd::load<T, Arch>(x + at);
        (v * factor).store_unaligned(scaled + at);
        return v * simd::load<T, Arch>(y + at);
      };
      for (; i + 2 * kWidth <= n; i += 2 * kWidth) {
        even = even + step(i);
        odd = odd + step(i + kWidth);
      }
      for (; i + kWidth <= n; i += kWidth) even = even + step(i);
      T total = simd::reduce_add(even + odd);
      for (; i < n; ++i) {
        scaled[i] = x[i] * w;
        total = total + x[i] * y[i];
      }
      return total;
    }
  }
  T total{};
  for (Index i = 0; i < n; ++i) {
    scaled[i] = x[i] * w;
    total = total + x[i] * y[i];
  }
  return total;
}

}  // namespace detail

/// Backward of combine_rows: dfrom[n] = weight[n] dto[row[n]] and dweight[n] = <dto[row[n]], from[n]>.
/// // from, dfrom [N, D], weight, row, dweight [N], dto [S, D]
template <Real T>
void combine_rows_grad(Rows<const T> from, View<const T, 1> weight, View<const Index, 1> row, Rows<const T> dto,
                       Rows<T> dfrom, View<T, 1> dweight, Context& ctx) {
  const Index width = dto.extent(1);
  for_each_row(dfrom.extent(0), width, ctx, [&](Index n) {
    dweight[n] =
        detail::scale_and_dot<T>(ctx.isa, width, weight[n], dto[row[n]].data(), from[n].data(), dfrom[n].data());
  });
}

/// Backward of gather_rows: dfrom[s] += the sum of dto over the list of s. // dto [N, D], dfrom [S, D]
template <Real T>
void add_gather_rows_grad(Rows<const T> dto, RowLists lists, Rows<T> dfrom, Context& ctx) {
  const Index width = dfrom.extent(1);
  for_each_row(dfrom.extent(0), width, ctx, [&](Index s) {
    T* const out = dfrom[s].data();
    detail::for_each_four(
        lists.offset[s], lists.offset[s + 1], [&]<std::size_t... I>(Index i, std::index_sequence<I...>) {
          simd::transform<T>(
              ctx.isa, width, [](auto sum, auto... x) { return (sum + ... + x); }, out, out,
              dto[lists.row[i + static_cast<Index>(I)]].data()...);
        });
  });
}

}  // namespace gatefold::kernels

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void gather_rows<float>(Rows<const float>, View<const Index, 1>, Rows<float>, Context&);
GATEFOLD_COMPILED void combine_rows<float>(Rows<const float>, View<const float, 1>, RowLists, Rows<float>, Context&);
GATEFOLD_COMPILED void combine_rows_grad<float>(Rows<const float>, View<const float, 1>, View<const Index, 1>,
                                                Rows<const float>, Rows<float>, View<float, 1>, Context&);
GATEFOLD_COMPILED void add_gather_rows_grad<float>(Rows<const float>, RowLists, Rows<float>, Context&);

}  // namespace gatefold::kernels
#endif
