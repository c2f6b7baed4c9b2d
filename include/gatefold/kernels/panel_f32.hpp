#pragma once
#include "gatefold/kernels/panel.hpp"
#include "gatefold/kernels/tile_f32.hpp"

/// Panels of fp32 weights, one row of kPanel columns after the other, so that a tile reads them as one stream.
namespace gatefold::kernels {

template <>
struct PanelView<float> {
  const float* w;  // [k, kPanel]
  Index k;

  PanelView depth(Index k0, Index k1) const { return {w + k0 * kPanel, k1 - k0}; }
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

/// The values of a panel. // w [<= kPanel, K]
inline void unpack_panel(const PanelView<float>& panel, Rows<float> w) {
  for (Index j = 0; j < w.extent(0); ++j)
    for (Index i = 0; i < w.extent(1); ++i) w(j, i) = panel.w[i * kPanel + j];
}

/// Activations as they are.
template <>
struct PreparedRows<float> {
  Index rows, k;
  const float* const* row;  ///< The caller's pointers, which must live as long as this.
};

template <class F>
requires std::is_same_v<F, float> Index prepared_bytes(Isa, Index, Index) { return 0; }

template <class F>
requires std::is_same_v<F, float> PreparedRows<float> prepare_rows(Isa, const float* const* row, Index rows, Index k,
                                                                   std::byte*) {
  return {rows, k, row};
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

/// kRows rows against kPanels panels, panel_stride apart. Each element is the same chain as in multiply_panel.
template <class Arch, int kRows, int kPanels>
void few_rows_f32(const float* const* rows, Index depth, const float* panels, Index panel_stride, float* c,
                  Index c_stride, Store store, const float* bias) {
  using V = simd::Batch<float, Arch>;
  constexpr int kWidth = static_cast<int>(V::size), kVectors = static_cast<int>(kPanel) / kWidth * kPanels;
  constexpr auto column = [](int v) { return v * kWidth; };
  V acc[kRows][kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) acc[i][v] = V(0.0f);
  for (Index k = 0; k < depth; ++k) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const float* const from = panels + column(v) / kPanel * panel_stride + k * kPanel + column(v) % kPanel;
      const V w = V::load_unaligned(from);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) acc[i][v] = simd::fma(V(rows[i][k]), w, acc[i][v]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      float* const out = c + i * c_stride + column(v);
      V sum = acc[i][v];
      if (bias) sum = sum + V::load_unaligned(bias + column(v));
      if (store == Store::add) sum = sum + V::load_unaligned(out);
      sum.store_unaligned(out);
    }
}

/// Panels that are multiplied at once: 8 to 16 accumulators of AVX-512, 8 of AVX2; narrower vectors have enough in one.
template <class Arch, int kRows>
inline constexpr int kPanelsAtOnce = simd::kLanes<float, Arch> >= 16  ? (kRows <= 2 ? 4 : 2)
                                     : simd::kLanes<float, Arch> >= 8 ? (kRows == 1 ? 2 : 1)
                                                                      : 1;

}  // namespace detail
#endif

/// See multiply_few_rows in panel.hpp.
inline Index multiply_few_rows([[maybe_unused]] Isa isa, [[maybe_unused]] const PreparedRows<float>& a,
                               [[maybe_unused]] const PanelRun<float>& w, [[maybe_unused]] const PanelOutput& out) {
#if GATEFOLD_HAS_SIMD
  const auto run = [&]<int kRows>(std::integral_constant<int, kRows>) -> Index {
    using Arch = simd::DefaultArch;
    constexpr int kPanels = detail::kPanelsAtOnce<Arch, kRows>;
    if (kPanels == 1 || w.count < kPanels) return 0;
    detail::few_rows_f32<Arch, kRows, kPanels>(a.row, a.k, w.first.w, w.stride, out.c, out.stride, out.store, out.bias);
    return kPanels;
  };
  if (isa != Isa::portable) {
    if (a.rows == 1) return run(std::integral_constant<int, 1>());
    if (a.rows == 2) return run(std::integral_constant<int, 2>());
    if (a.rows == 3) return run(std::integral_constant<int, 3>());
    if (a.rows == 4) return run(std::integral_constant<int, 4>());
  }
#endif
  return 0;
}

}  // namespace gatefold::kernels
