#pragma once
#include <array>
#include <utility>

#include "gatefold/products/panel.hpp"
#include "gatefold/products/product.hpp"
#include "gatefold/simd/simd.hpp"

#if GATEFOLD_HAS_SIMD
/// The register tiles of fp32 products: the only loops that multiply. Everything above them arranges memory.
namespace gatefold::kernels {

/// kMaxRows x 2 vectors of accumulators, two vectors of b and one broadcast of a fill 31 of 32 registers (AVX-512,
/// NEON), 6 x 2 fit into 16 (AVX2, SSE2). Other shapes that fill the registers are as fast: what counts is the feeding.
template <class Arch>
struct TileF32 {
  using Vector = simd::Batch<float, Arch>;
  static constexpr int kWidth = static_cast<int>(Vector::size);
  static constexpr int kCols = 2 * kWidth;
  static constexpr int kMaxRows = simd::kRegisters<Arch> >= 32 ? 14 : 6;
  static_assert(kPanel % kCols == 0);
};

/// Where the rows of a are: through pointers, which makes gathered rows free, or side by side, [depth, rows].
enum class TileRows { pointers, interleaved };

/// Steps of depth that are unrolled; memory to come is prefetched once in each such group of steps.
inline constexpr Index kUnroll = 4;

/// One product of a register tile: c[0..rows) x [0..cols) (+)= a b (+ bias).
struct TileTask {
  Index depth;
  const float* const* rows = nullptr;  // TileRows::pointers: [rows], each [depth]
  const float* interleaved = nullptr;  // TileRows::interleaved: [depth, rows], a step of depth apart:
  Index interleaved_step = 0;
  const float* b;  // [depth, b_step], of which kCols columns count
  Index b_step;
  float* c;
  Index c_stride, cols;
  Store store;
  const float* bias = nullptr;          // [cols] or null
  const std::byte* prefetch = nullptr;  // what is read next, fetched into L2 meanwhile
  Index prefetch_lines = 0;             // cache lines per kUnroll steps
};

namespace detail {

template <class Arch, int MR, TileRows kRows>
void tile_f32(const TileTask& t) {
  using Tile = TileF32<Arch>;
  using V = typename Tile::Vector;
  constexpr int kWidth = Tile::kWidth;
  V acc[MR][2];
  const float* row[MR] = {};
  // An accumulator array stays in registers only if every loop over it is unrolled (g++ 12: 2.3 times slower else).
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
    if constexpr (kRows == TileRows::pointers) row[i] = t.rows[i];
    acc[i][0] = acc[i][1] = V(0.0f);
  }
  const float* b = t.b;
  const float* side_by_side = t.interleaved;
  const auto step = [&](Index k) {
    const V b0 = V::load_unaligned(b), b1 = V::load_unaligned(b + kWidth);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const V x(kRows == TileRows::pointers ? row[i][k] : side_by_side[i]);
      acc[i][0] = simd::fma(x, b0, acc[i][0]);
      acc[i][1] = simd::fma(x, b1, acc[i][1]);
    }
    b += t.b_step;
    if constexpr (kRows == TileRows::interleaved) side_by_side += t.interleaved_step;
  };
  const std::byte* ahead = t.prefetch;
  Index k = 0;
  for (; k + kUnroll <= t.depth; k += kUnroll) {
    for (Index line = 0; line < t.prefetch_lines; ++line, ahead += 64) __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 4
    for (Index u = 0; u < kUnroll; ++u) step(k + u);
  }
  for (; k < t.depth; ++k) step(k);

  if (t.cols == Tile::kCols) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      float* const out = t.c + i * t.c_stride;
      V v0 = acc[i][0], v1 = acc[i][1];
      if (t.bias) {
        v0 = v0 + V::load_unaligned(t.bias);
        v1 = v1 + V::load_unaligned(t.bias + kWidth);
      }
      if (t.store == Store::add) {
        v0 = v0 + V::load_unaligned(out);
        v1 = v1 + V::load_unaligned(out + kWidth);
      }
      v0.store_unaligned(out);
      v1.store_unaligned(out + kWidth);
    }
  } else {  // the last columns of a width that is no multiple of kCols
    alignas(64) float rest[MR][Tile::kCols];
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      acc[i][0].store_aligned(rest[i]);
      acc[i][1].store_aligned(rest[i] + kWidth);
    }
    for (int i = 0; i < MR; ++i)
      for (Index j = 0; j < t.cols; ++j) {
        float v = rest[i][j];
        if (t.bias) v += t.bias[j];
        if (t.store == Store::add) v += t.c[i * t.c_stride + j];
        t.c[i * t.c_stride + j] = v;
      }
  }
}

template <class Arch, TileRows kRows>
inline constexpr auto kTilesF32 = []<int... I>(std::integer_sequence<int, I...>) {
  return std::array<void (*)(const TileTask&), sizeof...(I)>{&tile_f32<Arch, I + 1, kRows>...};
}
(std::make_integer_sequence<int, TileF32<Arch>::kMaxRows>{});

}  // namespace detail

/// Runs the tile for 1..kMaxRows rows.
template <class Arch, TileRows kRows>
void run_tile(Index rows, const TileTask& task) {
  detail::kTilesF32<Arch, kRows>[static_cast<std::size_t>(rows - 1)](task);
}

}  // namespace gatefold::kernels
#endif
