#pragma once
#include "gatefold/products/panel.hpp"
#include "gatefold/products/tile_f32.hpp"

#if GATEFOLD_HAS_SIMD
namespace gatefold::kernels {

/// k of a strip: 16 KiB of fp32, half of the smallest L1. Sums of 128 products of 8-bit numbers stay below 2^24, so an
/// fp32 tile adds them without rounding.
inline constexpr Index kStripDepth = 128;

/// What multiply_strips is told.
struct StripTask {
  const float* const* rows;  // [row_count], each [k]
  Index row_count;
  Index k;
  Index strip_depth;  // <= kStripDepth
  PanelOutput out;
};

/// Activations times a panel of any format on the program's own vector unit: strips of the panel are unpacked to fp32
/// in L1 and go through the fp32 tiles. unpack(k0, depth, strip) writes // [depth, kPanel]; scale(row, k0, product)
/// turns the product of a strip // [kPanel] into its share of the result.
template <class Arch, class Unpack, class Scale>
void multiply_strips(const StripTask& t, Unpack&& unpack, Scale&& scale) {
  using Tile = TileF32<Arch>;
  alignas(64) float strip[kStripDepth * kPanel];
  alignas(64) float product[Tile::kMaxRows * kPanel];
  const BalancedSplit split(t.row_count, Tile::kMaxRows);
  PanelOutput out = t.out;
  Index k0 = 0;
  do {
    const Index depth = std::min(t.strip_depth, t.k - k0);
    unpack(k0, depth, strip);
    for (Index block = 0; block < split.count; ++block) {
      const Index begin = split.begin(block), count = split.size(block);
      const float* row[Tile::kMaxRows];
      for (Index i = 0; i < count; ++i) row[i] = t.rows[begin + i] + k0;
      for (Index j = 0; j < out.columns; j += Tile::kCols)
        run_tile<Arch, TileRows::pointers>(count, {.depth = depth,
                                                   .rows = row,
                                                   .b = strip + j,
                                                   .b_step = kPanel,
                                                   .c = product + j,
                                                   .c_stride = kPanel,
                                                   .cols = Tile::kCols,
                                                   .store = Store::overwrite});
      for (Index i = 0; i < count; ++i) {
        if (depth) scale(begin + i, k0, product + i * kPanel);
        float* const c = out.c + (begin + i) * out.stride;
        const auto add = [](auto a, auto b) { return a + b; };
        if (out.bias)
          simd::transform<float, Arch>(Isa::simd, out.columns, add, product + i * kPanel, product + i * kPanel,
                                       out.bias);
        if (out.store == Store::add)
          simd::transform<float, Arch>(Isa::simd, out.columns, add, c, c, product + i * kPanel);
        else
          std::copy_n(product + i * kPanel, out.columns, c);
      }
    }
    out.store = Store::add;
    out.bias = nullptr;
    k0 += depth;
  } while (k0 < t.k);
}

}  // namespace gatefold::kernels
#endif
