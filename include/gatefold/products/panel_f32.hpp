#pragma once
#include "gatefold/products/panel.hpp"
#include "gatefold/products/tile_f32.hpp"

/// Panels of fp32 weights, one row of kPanel columns after the other, so that a tile reads them as one stream.
namespace gatefold::kernels {

template <>
struct PanelView<float> {
  const float* w;  // [k, kPanel]
  Index k;

  PanelView depth(Index k0, Index k1) const { return {w + k0 * kPanel, k1 - k0}; }
  PanelView shifted(Index values, Index) const { return {w + values, k}; }
};

/// Values of a packed panel.
template <class F>
requires std::is_same_v<F, float>
constexpr Index panel_values(Index k) { return k * kPanel; }

/// b[k0..k0+depth) x [j0..j0+kPanel) -> panel // [depth, kPanel], zero on the right of the last column.
inline void pack_panel_f32(const Operand<float>& b, Index k0, Index depth, Index j0, float* panel) {
  const Index cols = std::min(kPanel, b.cols - j0);
  if (b.col_stride == 1) {  // rows of b go as they are
    for (Index k = 0; k < depth; ++k) {
      float* const to = panel + k * kPanel;
      if (cols == kPanel) {
        std::memcpy(to, b.row(k0 + k) + j0, kPanel * sizeof(float));
        continue;
      }
      std::memcpy(to, b.row(k0 + k) + j0, static_cast<std::size_t>(cols) * sizeof(float));
      std::fill(to + cols, to + kPanel, 0.0f);
    }
    return;
  }
  Index packed = 0;  // steps of depth that went through square blocks
#if GATEFOLD_HAS_SIMD
  using Arch = simd::DefaultArch;
  constexpr Index kWidth = simd::kLanes<float, Arch>;
  if (b.row_stride == 1 && !b.index && cols == kPanel) {
    packed = depth / kWidth * kWidth;
    // Down kWidth columns at a time: as many streams as the prefetcher follows.
    for (Index j = 0; j < kPanel; j += kWidth)
      for (Index k = 0; k < packed; k += kWidth)
        simd::transpose_square<Arch>(b.data + k0 + k + (j0 + j) * b.col_stride, b.col_stride, panel + k * kPanel + j,
                                     kPanel);
  }
#endif
  for (Index k = packed; k < depth; ++k) {
    const float* const from = b.row(k0 + k) + j0 * b.col_stride;
    float* const to = panel + k * kPanel;
    for (Index j = 0; j < cols; ++j) to[j] = from[j * b.col_stride];
    std::fill(to + cols, to + kPanel, 0.0f);
  }
}

/// The panels of columns j0..j1, one after the other. Rows of b that lie along its columns are read once for all of
/// them.
inline void pack_panels_f32(const Operand<float>& b, Index k0, Index depth, Index j0, Index j1, float* panels) {
  if (b.col_stride != 1 || j1 - j0 < kPanel) {
    for (Index j = j0; j < j1; j += kPanel) pack_panel_f32(b, k0, depth, j, panels + (j - j0) * depth);
    return;
  }
  constexpr Index kRowsAhead = 8, kLine = 16;
  const Index whole = (j1 - j0) / kPanel * kPanel;
  for (Index k = 0; k < depth; ++k) {
    const float* const from = b.row(k0 + k) + j0;
    if (k + kRowsAhead < depth) {
      const float* const later = b.row(k0 + k + kRowsAhead) + j0;
      for (Index j = 0; j < whole; j += kLine) __builtin_prefetch(later + j);
    }
    float* to = panels + k * kPanel;
    for (Index j = 0; j < whole; j += kPanel, to += depth * kPanel) std::memcpy(to, from + j, kPanel * sizeof(float));
  }
  if (j0 + whole < j1) pack_panel_f32(b, k0, depth, j0 + whole, panels + whole * depth);
}

/// The values of a panel. // w [<= kPanel, K]
inline void unpack_panel(const PanelView<float>& panel, Rows<float> w) {
  for (Index j = 0; j < w.extent(0); ++j)
    for (Index i = 0; i < w.extent(1); ++i) w(j, i) = panel.w[i * kPanel + j];
}

/// Activations as they are, or copied apart.
template <>
struct PreparedRows<float> {
  Index rows, k;
  const float* const* row;  ///< The caller's pointers, which must live as long as this, or copies in the scratch.
};

namespace detail {
/// Rows whose length is a multiple of 4 KiB fall into one set of L1, which has 8 or 12 ways, while a tile reads 14:
/// with copies that are a cache line longer, 196 rows of 1024 inputs take 2 % less time.
constexpr bool crowds_cache(Index rows, Index k) { return rows > 8 && k > 0 && k % 1024 == 0; }
inline constexpr Index kApart = 16;
}  // namespace detail

template <class F>
requires std::is_same_v<F, float> Index prepared_bytes(Isa, Index rows, Index k) {
  using Cut = detail::ScratchCutter;
  return detail::crowds_cache(rows, k) ? Cut::bytes<const float*>(rows) + Cut::bytes<float>(rows * (k + detail::kApart))
                                       : 0;
}

template <class F>
requires std::is_same_v<F, float>
constexpr bool refers_to_rows(Isa) { return true; }

template <class F>
requires std::is_same_v<F, float> PreparedRows<float> prepare_rows(Isa, const float* const* row, Index rows, Index k,
                                                                   std::byte* scratch) {
  if (!detail::crowds_cache(rows, k)) return {rows, k, row};
  detail::ScratchCutter cut(scratch);
  auto** const copies = cut.take<const float*>(rows);
  auto* const data = cut.take<float>(0);
  for (Index i = 0; i < rows; ++i) copies[i] = std::copy_n(row[i], k, data + i * (k + detail::kApart)) - k;
  return {rows, k, copies};
}

/// c [rows, columns] (+)= a wᵀ (+ bias) for the outputs of one panel. Each element is one chain of fused multiply-adds
/// over k, whatever the other rows. 2 rows k columns flops.
inline void multiply_panel(Isa isa, const PreparedRows<float>& a, const PanelView<float>& panel, float* c,
                           Index c_stride, Index columns, Store store, const float* bias,
                           const void* prefetch = nullptr) {
  assert(a.k == panel.k && columns <= kPanel);
#if GATEFOLD_HAS_SIMD
  if (isa != Isa::portable) {
    using Arch = simd::DefaultArch;
    using Tile = TileF32<Arch>;
    const BalancedSplit tiles(a.rows, Tile::kMaxRows);
    // The lines of the next panel are fetched evenly over all tiles of this one: at once, they would stall it.
    constexpr Index kLinesPerGroup = kUnroll * kPanel * static_cast<Index>(sizeof(float)) / 64;
    const Index parts = std::max<Index>(1, tiles.count) * (kPanel / Tile::kCols);
    const Index lines = (kLinesPerGroup + parts - 1) / parts;
    const auto* ahead = static_cast<const std::byte*>(prefetch);
    for (Index tile = 0; tile < tiles.count; ++tile)
      for (Index j = 0; j < columns; j += Tile::kCols) {
        run_tile<Arch, TileRows::pointers>(tiles.size(tile), {.depth = a.k,
                                                              .rows = a.row + tiles.begin(tile),
                                                              .b = panel.w + j,
                                                              .b_step = kPanel,
                                                              .c = c + tiles.begin(tile) * c_stride + j,
                                                              .c_stride = c_stride,
                                                              .cols = std::min<Index>(Tile::kCols, columns - j),
                                                              .store = store,
                                                              .bias = bias ? bias + j : nullptr,
                                                              .prefetch = ahead,
                                                              .prefetch_lines = ahead ? lines : 0});
        if (ahead) ahead += a.k / kUnroll * lines * 64;
      }
    return;
  }
#endif
  for (Index i = 0; i < a.rows; ++i) {
    float sum[kPanel] = {};
    for (Index k = 0; k < a.k; ++k)
      for (Index j = 0; j < kPanel; ++j) sum[j] += a.row[i][k] * panel.w[k * kPanel + j];
    store_row({c, c_stride, columns, store, bias}, i, sum);
  }
}

#if GATEFOLD_HAS_SIMD
namespace detail {

/// kRows rows against kPanels panels. Each element is the same chain as in multiply_panel.
template <class Arch, int kRows, int kPanels, bool kPrefetch>
void few_rows_f32(const PreparedRows<float>& a, const PanelView<float>& panel, const StreamStride& stride,
                  const PanelOutput& out) {
  using V = simd::Batch<float, Arch>;
  constexpr int kWidth = static_cast<int>(V::size), kInPanel = static_cast<int>(kPanel) / kWidth,
                kVectors = kInPanel * kPanels;
  V acc[kRows][kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) acc[i][v] = V(0.0f);
  const float* from = panel.w;
#pragma GCC unroll 4  // g++ 12 would else load the weights again for each row
  for (Index k = 0; k < a.k; ++k, from += kPanel) {
    V w[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const float* const line = from + v / kInPanel * stride.values + v % kInPanel * kWidth;
      w[v] = V::load_unaligned(line);
      if constexpr (kPrefetch) prefetch_in_stream(line);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
      const V x(a.row[i][k]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[i][v] = simd::fma(x, w[v], acc[i][v]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const Index column = v / kInPanel * stride.columns + v % kInPanel * kWidth;
      float* const c = out.c + i * out.stride + column;
      V sum = acc[i][v];
      if (out.bias) sum = sum + V::load_unaligned(out.bias + column);
      if (out.store == Store::add) sum = sum + V::load_unaligned(c);
      sum.store_unaligned(c);
    }
}

/// Panels that are multiplied at once: 8 to 16 accumulators of AVX-512, 8 of AVX2; narrower vectors have enough in one.
template <class Arch, int kRows>
inline constexpr int kPanelsAtOnce = simd::kLanes<float, Arch> >= 16  ? (kRows <= 2 ? 4 : 2)
                                     : simd::kLanes<float, Arch> >= 8 ? (kRows == 1 ? 2 : 1)
                                                                      : 1;

}  // namespace detail
#endif

/// See for_each_in_streams in panel.hpp.
inline Index multiply_few_rows([[maybe_unused]] Isa isa, [[maybe_unused]] std::span<const PreparedRows<float>> pieces,
                               [[maybe_unused]] const PanelRun<float>& run, [[maybe_unused]] const PanelOutput& out) {
#if GATEFOLD_HAS_SIMD
  const auto multiply = [&]<int kRows>(std::integral_constant<int, kRows>) -> Index {
    using Arch = simd::DefaultArch;
    constexpr int kPanels = detail::kPanelsAtOnce<Arch, kRows>;
    if (kPanels == 1) return 0;
    const bool fetch = kRows > 2 && !cpu().prefetches_streams;
    return for_each_in_streams(kPanels, pieces, run, out,
                               fetch ? &detail::few_rows_f32<Arch, kRows, kPanels, (kRows > 2)>
                                     : &detail::few_rows_f32<Arch, kRows, kPanels, false>);
  };
  if (isa != Isa::portable) {
    const Index rows = pieces[0].rows;
    if (rows == 1) return multiply(std::integral_constant<int, 1>());
    if (rows == 2) return multiply(std::integral_constant<int, 2>());
    if (rows == 3) return multiply(std::integral_constant<int, 3>());
    if (rows == 4) return multiply(std::integral_constant<int, 4>());
  }
#endif
  return 0;
}

}  // namespace gatefold::kernels
