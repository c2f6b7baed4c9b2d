#pragma once
#include "gatefold/kernels/map.hpp"

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

/// to[s] = sum over the list of s of weight * from; an empty list gives exactly 0, whatever the other rows hold.
/// // from [N, D], weight [N], to [S, D]
template <Real T>
void combine_rows(Rows<const T> from, View<const T, 1> weight, RowLists lists, Rows<T> to, Context& ctx) {
  const Index width = to.extent(1);
  for_each_row(to.extent(0), width, ctx, [&](Index s) {
    T* const out = to[s].data();
    const Index begin = lists.offset[s], end = lists.offset[s + 1];
    if (begin == end) std::fill_n(out, width, T(0));
    for (Index i = begin; i < end; ++i) {
      const Index n = lists.row[i];
      const T w = weight[n];
      if (i == begin)
        simd::transform<T>(
            ctx.isa, width, [w](auto x) { return x * w; }, out, from[n].data());
      else
        simd::transform<T>(
            ctx.isa, width, [w](auto sum, auto x) { return sum + x * w; }, out, out, from[n].data());
    }
  });
}

/// Backward of combine_rows: dfrom[n] = weight[n] dto[row[n]] and dweight[n] = <dto[row[n]], from[n]>.
/// // from, dfrom [N, D], weight, row, dweight [N], dto [S, D]
template <Real T>
void combine_rows_grad(Rows<const T> from, View<const T, 1> weight, View<const Index, 1> row, Rows<const T> dto,
                       Rows<T> dfrom, View<T, 1> dweight, Context& ctx) {
  const Index width = dto.extent(1);
  for_each_row(dfrom.extent(0), width, ctx, [&](Index n) {
    const T w = weight[n];
    const T* const in = dto[row[n]].data();
    simd::transform<T>(
        ctx.isa, width, [w](auto x) { return x * w; }, dfrom[n].data(), in);
    dweight[n] = simd::sum<T>(
        ctx.isa, width, [](auto a, auto b) { return a * b; }, in, from[n].data());
  });
}

/// Backward of gather_rows: dfrom[s] += the sum of dto over the list of s. // dto [N, D], dfrom [S, D]
template <Real T>
void add_gather_rows_grad(Rows<const T> dto, RowLists lists, Rows<T> dfrom, Context& ctx) {
  const Index width = dfrom.extent(1);
  for_each_row(dfrom.extent(0), width, ctx, [&](Index s) {
    for (Index i = lists.offset[s]; i < lists.offset[s + 1]; ++i)
      simd::transform<T>(
          ctx.isa, width, [](auto sum, auto x) { return sum + x; }, dfrom[s].data(), dfrom[s].data(),
          dto[lists.row[i]].data());
  });
}

}  // namespace gatefold::kernels
