#pragma once
#include "gatefold/kernels/matmul_portable.hpp"
#include "gatefold/kernels/simd.hpp"

#if GATEFOLD_HAS_SIMD
namespace gatefold::kernels {

/// Register tile kMaxRows x kCols of fp32 accumulators. 14 x 2 vectors fill the 32 registers of AVX-512 (28
/// accumulators, two of b, one broadcast of a); 6 x 2 the 16 of AVX2 and SSE2.
template <class Arch>
struct TileF32 {
  using Vector = simd::Batch<float, Arch>;
  static constexpr int kWidth = static_cast<int>(Vector::size);
  static constexpr int kCols = 2 * kWidth;
  static constexpr int kMaxRows = kWidth >= 16 ? 14 : 6;
};

/// Depth of one pass over k: a panel of b (kDepth x kCols floats, 64 KiB at AVX-512) streams from L2 while the rows of
/// a that are in use stay in L1.
inline constexpr Index kDepth = 512;

namespace detail {

/// c[0..rows) x [0..kCols) (+)= a b. a[i] points to row i, whose elements are a_step apart; b is a packed panel
/// // [depth, kCols]. Reading rows through pointers makes gathered rows free.
template <class Arch, int MR>
void tile_f32(Index depth, const float* const* a, Index a_step, const float* b, float* c, Index c_stride, Index cols,
              Store store, const float* bias) {
  using Tile = TileF32<Arch>;
  using V = typename Tile::Vector;
  V acc[MR][2];
  const float* row[MR];
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
    row[i] = a[i];
    acc[i][0] = acc[i][1] = V(0.0f);
  }
  // An accumulator array stays in registers only if every loop over it is unrolled (g++ 12: 2.3 times slower else).
  Index at = 0;
  for (Index k = 0; k < depth; ++k, at += a_step, b += Tile::kCols) {
    const V b0 = V::load_unaligned(b), b1 = V::load_unaligned(b + Tile::kWidth);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const V x(row[i][at]);
      acc[i][0] = simd::fma(x, b0, acc[i][0]);
      acc[i][1] = simd::fma(x, b1, acc[i][1]);
    }
  }

  if (cols == Tile::kCols) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      float* const out = c + i * c_stride;
      V v0 = acc[i][0], v1 = acc[i][1];
      if (bias) {
        v0 = v0 + V::load_unaligned(bias);
        v1 = v1 + V::load_unaligned(bias + Tile::kWidth);
      }
      if (store == Store::add) {
        v0 = v0 + V::load_unaligned(out);
        v1 = v1 + V::load_unaligned(out + Tile::kWidth);
      }
      v0.store_unaligned(out);
      v1.store_unaligned(out + Tile::kWidth);
    }
  } else {  // the last panel of a width that is no multiple of kCols
    alignas(64) float rest[MR][Tile::kCols];
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      acc[i][0].store_aligned(rest[i]);
      acc[i][1].store_aligned(rest[i] + Tile::kWidth);
    }
    for (int i = 0; i < MR; ++i)
      for (Index j = 0; j < cols; ++j) {
        float v = rest[i][j];
        if (bias) v += bias[j];
        if (store == Store::add) v += c[i * c_stride + j];
        c[i * c_stride + j] = v;
      }
  }
}

template <class Arch>
using TileFn = void (*)(Index, const float* const*, Index, const float*, float*, Index, Index, Store, const float*);

template <class Arch>
inline constexpr auto kTilesF32 = []<int... I>(std::integer_sequence<int, I...>) {
  return std::array<TileFn<Arch>, sizeof...(I)>{&tile_f32<Arch, I + 1>...};
}
(std::make_integer_sequence<int, TileF32<Arch>::kMaxRows>{});

/// b[k0..k0+depth, j0..j0+cols) -> panel // [depth, kCols], zero-filled on the right.
template <class Arch>
void pack_panel(const Operand<float>& b, Index k0, Index depth, Index j0, float* panel) {
  constexpr Index kCols = TileF32<Arch>::kCols;
  const Index cols = std::min(kCols, b.cols - j0);
  const float* const from = b.data + k0 * b.row_stride + j0 * b.col_stride;
  if (b.col_stride == 1) {
    for (Index k = 0; k < depth; ++k) {
      float* const to = panel + k * kCols;
      std::memcpy(to, from + k * b.row_stride, static_cast<std::size_t>(cols) * sizeof(float));
      std::fill(to + cols, to + kCols, 0.0f);
    }
  } else {
    // Blocks of 16 rows keep both the read lines and the written lines in L1.
    for (Index k1 = 0; k1 < depth; k1 += 16) {
      const Index k2 = std::min(k1 + 16, depth);
      for (Index j = 0; j < cols; ++j)
        for (Index k = k1; k < k2; ++k) panel[k * kCols + j] = from[k * b.row_stride + j * b.col_stride];
      for (Index k = k1; k < k2; ++k) std::fill(panel + k * kCols + cols, panel + (k + 1) * kCols, 0.0f);
    }
  }
}

/// rows of a that are not contiguous in k (a transpose) -> // [depth, rows], so that a step reads neighbours.
inline void pack_rows(const Operand<float>& a, Index i0, Index rows, Index k0, Index depth, float* to) {
  const float* from = a.data + i0 * a.row_stride + k0 * a.col_stride;
  if (a.row_stride == 1) {
    for (Index k = 0; k < depth; ++k, from += a.col_stride, to += rows)
      for (Index i = 0; i < rows; ++i) to[i] = from[i];
  } else {
    for (Index k = 0; k < depth; ++k, from += a.col_stride, to += rows)
      for (Index i = 0; i < rows; ++i) to[i] = from[i * a.row_stride];
  }
}

/// Heights that differ by one at most (8, 8 rather than 14, 2): a short tile costs almost as much as a full one.
struct BalancedSplit {
  Index count, base, extra;
  BalancedSplit(Index n, Index limit)
      : count((n + limit - 1) / limit), base(count ? n / count : 0), extra(count ? n % count : 0) {}
  Index begin(Index i) const { return i * base + std::min(i, extra); }
};

/// One row block of c against all panels of one depth block.
template <class Arch>
void multiply_rows(const Operand<float>& a, Index i0, Index i1, Index k0, Index depth, const float* panels,
                   Rows<float> c, Store store, const float* bias, float* row_scratch) {
  using Tile = TileF32<Arch>;
  const BalancedSplit split(i1 - i0, Tile::kMaxRows);
  const bool pack = a.col_stride != 1;
  for (Index p = 0; p < split.count; ++p) {
    const Index begin = i0 + split.begin(p), rows = i0 + split.begin(p + 1) - begin;
    const float* row[Tile::kMaxRows];
    if (pack) pack_rows(a, begin, rows, k0, depth, row_scratch);
    for (Index i = 0; i < rows; ++i) row[i] = pack ? row_scratch + i : a.data + (begin + i) * a.row_stride + k0;
    const auto tile = kTilesF32<Arch>[static_cast<std::size_t>(rows - 1)];
    for (Index j = 0; j < c.extent(1); j += Tile::kCols)
      tile(depth, row, pack ? rows : 1, panels + j * depth, c.data() + begin * c.stride(0) + j, c.stride(0),
           std::min<Index>(Tile::kCols, c.extent(1) - j), store, bias ? bias + j : nullptr);
  }
}

template <class Arch>
Index padded_cols(Index cols) {
  constexpr Index kCols = TileF32<Arch>::kCols;
  return (cols + kCols - 1) / kCols * kCols;
}

}  // namespace detail

/// Floats of scratch that multiply_f32_serial needs for c // [m, n], depth k.
template <class Arch = simd::DefaultArch>
Index serial_scratch_f32(Index n, Index k) {
  return std::min(k, kDepth) * (detail::padded_cols<Arch>(n) + TileF32<Arch>::kMaxRows);
}

/// c (+)= a b on the calling thread: for the many small products of attention.
template <class Arch = simd::DefaultArch>
void multiply_f32_serial(Operand<float> a, Operand<float> b, Rows<float> c, Store store, float* scratch) {
  const Index n = c.extent(1);
  if (a.cols == 0 && store == Store::overwrite)
    for (Index i = 0; i < c.extent(0); ++i) std::fill_n(c.data() + i * c.stride(0), n, 0.0f);
  for (Index k0 = 0; k0 < a.cols; k0 += kDepth) {
    const Index depth = std::min(kDepth, a.cols - k0);
    for (Index j = 0; j < n; j += TileF32<Arch>::kCols) detail::pack_panel<Arch>(b, k0, depth, j, scratch + j * depth);
    detail::multiply_rows<Arch>(a, 0, c.extent(0), k0, depth, scratch, c, k0 ? Store::add : store, nullptr,
                                scratch + detail::padded_cols<Arch>(n) * depth);
  }
}

/// c (+)= a b (+ bias to each row). Work is split over rows of c only, so the result is bitwise the
/// same for any number of threads: each element is one chain of fused multiply-adds over k (per kDepth).
template <class Arch = simd::DefaultArch>
void multiply_f32(Operand<float> a, Operand<float> b, Rows<float> c, Store store, const float* bias, Context& ctx) {
  using Tile = TileF32<Arch>;
  const Index m = c.extent(0), n = c.extent(1);
  if (m == 0 || n == 0) return;
  if (a.cols == 0) {
    for (Index i = 0; i < m && store == Store::overwrite; ++i)
      for (Index j = 0; j < n; ++j) c(i, j) = bias ? bias[j] : 0.0f;
    return;
  }
  const auto scope = ctx.workspace.scope();
  const Index depth_max = std::min(kDepth, a.cols), workers = ctx.parallel_for.workers();
  auto panels = ctx.workspace.take<float>(depth_max * detail::padded_cols<Arch>(n));
  // One cache line of slack between the workers' slices.
  auto row_scratch = ctx.workspace.take<float>(workers, depth_max * Tile::kMaxRows + 16);
  // Four tiles high: 56 rows x 512 are 112 KiB of a. Short outputs (dw of a small layer) are cut finer, or two workers
  // would share three blocks.
  const detail::BalancedSplit blocks(m, m >= 64 * Tile::kMaxRows ? 4 * Tile::kMaxRows : Tile::kMaxRows);
  for (Index k0 = 0; k0 < a.cols; k0 += kDepth) {
    const Index depth = std::min(kDepth, a.cols - k0);
    const Index num_panels = (n + Tile::kCols - 1) / Tile::kCols;
    ctx.parallel_for(num_panels, [&](Index begin, Index end, Index) {
      for (Index p = begin; p < end; ++p)
        detail::pack_panel<Arch>(b, k0, depth, p * Tile::kCols, panels.data() + p * Tile::kCols * depth);
    });
    ctx.parallel_for(blocks.count, [&](Index begin, Index end, Index worker) {
      for (Index i = begin; i < end; ++i)
        detail::multiply_rows<Arch>(a, blocks.begin(i), blocks.begin(i + 1), k0, depth, panels.data(), c,
                                    k0 ? Store::add : store, k0 ? nullptr : bias, &row_scratch(worker, 0));
    });
  }
}

}  // namespace gatefold::kernels
#endif
