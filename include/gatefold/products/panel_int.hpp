#pragma once
#include "gatefold/products/panel_strip.hpp"
#include "gatefold/products/quantise.hpp"

/// What the integer formats share: activations in 8 bits and the way to the kernels.
namespace gatefold::kernels {

/// How 8-bit activations lie: rows of bytes, rows of the same integers as floats (for the fp32 tiles), or AMX tiles.
enum class IntActivations { bytes, floats, tiles };

/// Activations in 8 bits, one scale for each group of a row. The integers are the same for every Isa.
struct IntRows {
  IntActivations form;
  Index rows, k;
  Index row_groups;         // scales of a row
  const float* scale;       // [rows, row_groups]
  const std::int32_t* sum;  // [rows, row_groups], of the integers
  const float* const* row;  // [rows], floats only
  const std::byte* data;    // bytes, tiles
  Index row_bytes;          // bytes
};

namespace detail {

struct IntRowsShape {
  Isa isa;
  IntActivations form;
  Index rows, k;
  Index group;  // k of a scale: kDepthGroup, or 0 for the whole row

  Index row_groups() const { return group ? std::max<Index>(1, padded_depth(k) / group) : 1; }
  Index row_bytes() const {
    // An odd number of cache lines, so that the same column of many rows falls into different sets of L1.
    return (padded_depth(k) * (form == IntActivations::floats ? 4 : 1) + 63) / 64 * 64 | 64;
  }
  Index data_bytes() const {
    return form == IntActivations::tiles ? (rows + 15) / 16 * 16 * padded_depth(k) : rows * row_bytes();
  }
  Index bytes() const {
    using Cut = ScratchCutter;
    return Cut::bytes<float>(rows * row_groups()) + Cut::bytes<std::int32_t>(rows * row_groups()) +
           Cut::bytes<const float*>(rows) + data_bytes();
  }
};

inline IntRows prepare_int_rows(const IntRowsShape& shape, const float* const* row, std::byte* scratch) {
  ScratchCutter cut(scratch);
  const Index groups = shape.row_groups(), group = shape.group ? shape.group : shape.k;
  float* const scale = cut.take<float>(shape.rows * groups);
  auto* const sum = cut.take<std::int32_t>(shape.rows * groups);
  auto** const pointer = cut.take<const float*>(shape.rows);
  std::byte* const data = cut.take<std::byte>(0);
  const Index block_bytes = padded_depth(shape.k) * 16;
  const bool tiles = shape.form == IntActivations::tiles;
  if (tiles && shape.rows % 16)  // the rows that fill the last tile
    std::fill_n(data + shape.rows / 16 * block_bytes, block_bytes, std::byte{0});
  for (Index i = 0; i < shape.rows; ++i) {
    std::byte* const to = tiles ? data + i / 16 * block_bytes + i % 16 * 64 : data + i * shape.row_bytes();
    if (shape.form == IntActivations::floats) pointer[i] = reinterpret_cast<float*>(to);
    for (Index g = 0; g < groups; ++g) {
      const Index k0 = g * group, count = std::min(group, shape.k - k0);
      const auto run = [&] {
        if (shape.form == IntActivations::floats)
          return quantise_run(row[i] + k0, count, reinterpret_cast<float*>(to) + k0);
#if defined(__x86_64__)
        if (shape.isa >= Isa::avx512)
          return quantise_run_avx512(row[i] + k0, count, {to + k0, tiles ? amx::kTileBytes : kDepthGroup});
#endif
        return quantise_run(row[i] + k0, count, reinterpret_cast<std::int8_t*>(to) + k0);
      }();
      scale[i * groups + g] = run.scale;
      sum[i * groups + g] = run.sum;
    }
  }
  return {shape.form, shape.rows, shape.k, groups, scale, sum, pointer, data, shape.row_bytes()};
}

#if defined(__x86_64__)
inline avx512::TileJob tile_job(const IntRows& a, const std::uint8_t* panel, const float* scale,
                                const PanelOutput& out) {
  return {.rows = a.data,
          .row_bytes = a.row_bytes,
          .panel = reinterpret_cast<const std::byte*>(panel),
          .chunks = 0,
          .row_scale = a.scale,
          .row_sum = a.sum,
          .row_groups = a.row_groups,
          .column_scale = scale,
          .out = out};
}
#endif

}  // namespace detail

template <class F>
concept IntFormat = std::same_as<F, int8> || std::same_as<F, int4>;

/// int8: one scale for each row; int4: one for each kDepthGroup values of a row.
template <IntFormat F>
struct PreparedRows<F> : IntRows {};

namespace detail {
template <IntFormat F>
IntRowsShape int_rows_shape(Isa isa, Index rows, Index k) {
  // A few rows would leave most of a tile empty. The sums are exact, so they are the same either way.
  const auto form = isa == Isa::amx && std::same_as<F, int8> && rows > kFewRows ? IntActivations::tiles
                    : isa == Isa::simd && GATEFOLD_HAS_SIMD != 0                ? IntActivations::floats
                                                                                : IntActivations::bytes;
  return {isa, form, rows, k, std::same_as<F, int4> ? kDepthGroup : 0};
}
}  // namespace detail

/// Bytes of scratch that prepare_rows needs.
template <IntFormat F>
Index prepared_bytes(Isa isa, Index rows, Index k) {
  return detail::int_rows_shape<F>(isa, rows, k).bytes();
}

template <IntFormat F>
constexpr bool refers_to_rows(Isa) {
  return false;
}

/// Activations for multiply_panel, rounded to 8 bits. A row with a NaN or an infinity becomes NaN as a whole. The
/// result refers to `scratch`, which is 64-byte aligned, and no longer to the activations.
template <IntFormat F>
PreparedRows<F> prepare_rows(Isa isa, const float* const* row, Index rows, Index k, std::byte* scratch) {
  return {detail::prepare_int_rows(detail::int_rows_shape<F>(isa, rows, k), row, scratch)};
}

/// See for_each_in_streams in panel.hpp.
template <IntFormat F>
Index multiply_few_rows([[maybe_unused]] Isa isa, [[maybe_unused]] std::span<const PreparedRows<F>> pieces,
                        [[maybe_unused]] const PanelRun<F>& run, [[maybe_unused]] const PanelOutput& out) {
#if defined(__x86_64__)
  if (pieces[0].form == IntActivations::bytes && isa >= Isa::avx512)
    return avx512::multiply_few_rows<avx512::DotInt<std::same_as<F, int8> ? 8 : 4>>(
        pieces, run, out, [](const auto& a, const auto& panel, const PanelOutput& to) {
          return detail::tile_job(a, panel.u, panel.scale, to);
        });
#endif
  return 0;
}

}  // namespace gatefold::kernels
