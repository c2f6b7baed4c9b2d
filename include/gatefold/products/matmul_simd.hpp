#pragma once
#include "gatefold/products/panel_f32.hpp"

#if GATEFOLD_HAS_SIMD
/// fp32 products of matrices as they lie in memory, with panels packed on the way. Weights that do not change are
/// better packed once: products/packed.hpp.
namespace gatefold::kernels {

/// Depth of one pass over k: a panel of b (kDepth x kPanel floats, 64 KiB) streams from L2 while the rows of a that are
/// in use stay in L1. Each element of c is one chain of fused multiply-adds per pass, whatever the blocks are: the
/// blocks may depend on the number of threads, the result does not.
inline constexpr Index kDepth = 512;
/// Columns that one task packs: 512 KiB of panels, half of an L2. The more there are, the less often rows are packed.
inline constexpr Index kTaskColumns = 8 * kPanel;
/// Rows of one task, unless there are too few tasks. A panel is packed once per task: at 512 rows that costs 1 %.
inline constexpr Index kTaskRows = 512;
/// Up to so many rows, packing the panel costs more than dot products along k, whose sums must be collected from the
/// lanes, but which read b as it lies: 0.2 to 0.9 of the time for 9 to 16 rows of 768 to 3,072 columns.
inline constexpr Index kDotRows = 16;

/// Tiles whose rows are packed together where rows do not lie along k, so that whole cache lines of them are read.
inline constexpr Index kTilesAtOnce = 8;

/// Floats of scratch of one worker: panels, and packed rows of some tiles.
inline constexpr Index kStripFloats = 16 * (kDepth + detail::kApart);
inline constexpr Index kProductScratch = kDepth * kTaskColumns + kTilesAtOnce * kStripFloats;

namespace detail {

/// 4 x 4 accumulators and 5 operands for 32 registers, 2 x 4 and 3 for 16: more columns are more streams from memory,
/// of which L1 takes only so many where they are a multiple of 4 KiB apart.
inline constexpr Index kDotColumns = 4;

/// sums // [MR, kDotColumns] of dot products along k: each is kLanes chains and a tree of their sums, whatever MR is.
/// a[i], b + j b_stride, ahead: [k], where the column `last` stands for those behind it and `ahead` is fetched
/// meanwhile
template <class Arch, int MR>
void dot_tile(Index k, const float* const* a, const float* b, Index b_stride, Index last, const float* ahead,
              float* sums) {
  using V = simd::Batch<float, Arch>;
  constexpr int kWidth = static_cast<int>(simd::kLanes<float, Arch>);
  constexpr int NR = int{kDotColumns}, kSums = MR * NR, kFilled = (kSums + kWidth - 1) / kWidth * kWidth;
  V acc[kFilled];
  const float *row[MR], *column[NR];
#pragma GCC unroll 4
  for (int i = 0; i < MR; ++i) row[i] = a[i];
#pragma GCC unroll 8
  for (Index j = 0; j < NR; ++j) column[j] = b + std::min(j, last) * b_stride;
#pragma GCC unroll 16
  for (int i = 0; i < kFilled; ++i) acc[i] = V(0.0f);
  const auto step = [&](const auto& load) {
    V x[MR];
#pragma GCC unroll 4
    for (int i = 0; i < MR; ++i) x[i] = load(row[i]);
#pragma GCC unroll 16
    for (int j = 0; j < NR; ++j) {
      const V y = load(column[j]);
#pragma GCC unroll 4
      for (int i = 0; i < MR; ++i) acc[i * NR + j] = simd::fma(x[i], y, acc[i * NR + j]);
    }
  };
  Index at = 0;
  for (; at + kWidth <= k; at += kWidth) {
    __builtin_prefetch(ahead + at, 0, 2);
    step([&](const float* from) { return simd::load_once<float, Arch>(from + at); });
  }
  if (at < k)
    step([&](const float* from) {
      alignas(64) float lanes[static_cast<std::size_t>(kWidth)] = {};
      std::memcpy(lanes, from + at, static_cast<std::size_t>(k - at) * sizeof(float));
      return V::load_aligned(lanes);
    });
#pragma GCC unroll 4
  for (int i = 0; i < kFilled; i += kWidth) simd::row_sums(acc + i).store_unaligned(sums + i);
}

template <class Arch>
inline constexpr int kDotTileRows = simd::kRegisters<Arch> >= 32 ? 4 : 2;

/// Rows i0.. of columns [j0, j1), which are kDotColumns at most: the last one stands for those that are not there.
/// a // [MR] rows of p.a
template <class Arch, int MR>
void dot_block(const Product<float>& p, const float* const* a, const float* ahead, Index i0, Index j0, Index j1) {
  constexpr Index NR = kDotColumns;
  alignas(64) float sums[std::max<Index>(MR * NR, simd::kLanes<float, Arch>)];
  dot_tile<Arch, MR>(p.a.cols, a, p.b.data + j0 * p.b.col_stride, p.b.col_stride, j1 - j0 - 1, ahead, sums);
  const auto store = [&](auto columns) {
    for (int i = 0; i < MR; ++i) {
      float* const out = p.c.data() + (i0 + i) * p.c.stride(0) + j0;
      for (Index j = 0; j < columns; ++j) {
        const float v = p.bias ? sums[i * NR + j] + p.bias[j0 + j] : sums[i * NR + j];
        out[j] = p.store == Store::add ? out[j] + v : v;
      }
    }
  };
  if (j1 - j0 == NR)
    store(std::integral_constant<Index, NR>{});
  else
    store(j1 - j0);
}

/// Rows that stay in the cache while all columns go by.
inline constexpr Index kDotPart = 16;

/// Rows i0.. of columns [j0, j1) by tiles of MR, and what is left by flatter ones. // a [rows] of p.a
/// ahead // [rows / MR] what the tiles fetch
template <class Arch, int MR = kDotTileRows<Arch>>
void dot_columns(const Product<float>& p, const float* const* a, const float* const* ahead, Index rows, Index i0,
                 Index j0, Index j1) {
  const Index whole = rows / MR * MR;
  for (Index i = 0; i < whole; i += MR) dot_block<Arch, MR>(p, a + i, ahead[i / MR], i0 + i, j0, j1);
  if constexpr (MR > 1) dot_columns<Arch, MR / 2>(p, a + whole, a + whole, rows - whole, i0 + whole, j0, j1);
}

/// Rows of a lie along k, columns of b too. An element does not depend on what else is computed. The tiles of the first
/// columns fetch the next rows, one each: 4,096 rows that are not in L2 would take a tenth to a fifth longer.
template <class Arch>
void multiply_by_dots(const Product<float>& p, const ProductBlock& block) {
  constexpr Index kTiles = kDotPart / kDotTileRows<Arch>;
  const BalancedSplit rows(block.i1 - block.i0, kDotPart);
  const float* a[2 * kDotPart];  // of this part and the next
  for (Index part = 0; part < rows.count; ++part) {
    const Index i0 = block.i0 + rows.begin(part), size = rows.size(part), there = std::min(2 * kDotPart, block.i1 - i0);
    // Not by p.a.row: g++ makes masked loads of its choice, which take a hundred cycles where there is no index.
    for (Index i = 0; i < there; ++i) a[i] = p.a.data + (i0 + i) * p.a.row_stride;
    for (Index i = 0; i < there && p.a.index; ++i) a[i] = p.a.data + p.a.index[i0 + i] * p.a.row_stride;
    std::fill(a + there, a + 2 * kDotPart, a[there - 1]);
    for (Index j = block.j0, tile = 0; j < block.j1; j += kDotColumns, tile += kTiles)
      dot_columns<Arch>(p, a, tile < kDotPart ? a + size + tile : a, size, i0, j, std::min(j + kDotColumns, block.j1));
  }
}

/// 4..14 neighbours, by two copies that overlap and whose size the compiler knows.
inline void copy_neighbours(const float* from, Index n, float* to) {
  constexpr std::size_t kHalf = 4 * sizeof(float), kWhole = 8 * sizeof(float);
  if (n >= 8) {
    std::memcpy(to, from, kWhole);
    std::memcpy(to + n - 8, from + n - 8, kWhole);
  } else if (n >= 4) {
    std::memcpy(to, from, kHalf);
    std::memcpy(to + n - 4, from + n - 4, kHalf);
  } else {
    for (Index i = 0; i < n; ++i) to[i] = from[i];
  }
}

/// Rows of a product, tile by tile, as the tiles read them: through pointers where rows lie along k; as they are where
/// they lie side by side, as those of a gradient of weights do; else, and where the steps of such would crowd one set
/// of a cache, packed into strips // [depth, rows], so that a step reads neighbours.
class RowTiles {
 public:
  static constexpr int kMaxRows = TileF32<simd::DefaultArch>::kMaxRows;
  static_assert(kMaxRows <= 16);

  /// scratch // [kTilesAtOnce, kStripFloats]
  RowTiles(const Operand<float>& a, Index begin, Index end, float* scratch)
      : a_(a), begin_(begin), split_(end - begin, kMaxRows), scratch_(scratch) {}

  bool interleaved() const { return a_.col_stride != 1; }
  Index count() const { return split_.count; }
  Index begin(Index tile) const { return begin_ + split_.begin(tile); }
  Index rows(Index tile) const { return split_.size(tile); }
  const float* const* pointers() const { return row_; }
  const float* strip(Index tile) const {
    return in_place() ? a_.data + k0_ * a_.col_stride + begin(tile) : strip_of(tile);
  }
  Index strip_step(Index tile) const { return in_place() ? a_.col_stride : rows(tile); }

  /// To be called for tile after tile: makes its part k0..k0+depth of the rows readable.
  void prepare(Index tile, Index k0, Index depth) {
    k0_ = k0;
    if (in_place()) return;
    if (interleaved()) {
      if (tile % kTilesAtOnce == 0) interleave(tile, std::min(tile + kTilesAtOnce, count()), k0, depth);
      return;
    }
    // Rows that would crowd one set of L1 are copied apart.
    const bool copies = crowds_cache(rows(tile), a_.row_stride);
    for (Index i = 0; i < rows(tile); ++i) {
      row_[i] = a_.row(begin(tile) + i) + k0;
      if (copies) row_[i] = std::copy_n(row_[i], depth, scratch_ + i * (depth + kApart)) - depth;
    }
  }

 private:
  bool in_place() const { return a_.row_stride == 1 && interleaved() && !crowds_cache(kDepth, a_.col_stride); }
  float* strip_of(Index tile) const { return scratch_ + tile % kTilesAtOnce * kStripFloats; }
  void interleave(Index first, Index last, Index k0, Index depth) const {
    const float* from = a_.row(begin(first)) + k0 * a_.col_stride;
    for (Index k = 0; k < depth; ++k, from += a_.col_stride) {
      const float* at = from;
      for (Index tile = first; tile < last; ++tile) {
        const Index n = rows(tile);
        float* const to = strip_of(tile) + k * n;
        if (a_.row_stride == 1)
          copy_neighbours(at, n, to);
        else
          for (Index i = 0; i < n; ++i) to[i] = at[i * a_.row_stride];
        at += n * a_.row_stride;
      }
    }
  }

  Operand<float> a_;
  Index begin_, k0_ = 0;
  BalancedSplit split_;
  float* scratch_;
  const float* row_[kMaxRows];
};

/// Where column j is in panels of this depth.
inline Index panel_at(Index j, Index depth) { return j / kPanel * kPanel * depth + j % kPanel; }

/// Whether tiles read b as it lies, [k, n]: where each panel would serve few tiles, or its rows are as near to one
/// another as those of a panel. Only whole tiles, which read no further than a row.
template <class Arch>
bool reads_in_place(const Product<float>& p, const ProductBlock& block, Index tiles) {
  constexpr Index kFewTiles = 8, kNear = 8 * kPanel;
  return p.a.col_stride != 1 && p.b.col_stride == 1 && !p.b.index &&
         (block.j1 - block.j0) % TileF32<Arch>::kCols == 0 && (tiles <= kFewTiles || p.b.row_stride <= kNear) &&
         !crowds_cache(kDepth, p.b.row_stride);
}

template <class Arch>
void multiply_by_panels(const Product<float>& p, const ProductBlock& block, float* scratch) {
  using Tile = TileF32<Arch>;
  RowTiles tiles(p.a, block.i0, block.i1, scratch + kDepth * kTaskColumns);
  const bool in_place = reads_in_place<Arch>(p, block, tiles.count());
  for (Index k0 = 0; k0 < p.a.cols; k0 += kDepth) {
    const Index depth = std::min(kDepth, p.a.cols - k0);
    if (!in_place) pack_panels_f32(p.b, k0, depth, block.j0, block.j1, scratch);
    for (Index tile = 0; tile < tiles.count(); ++tile) {
      tiles.prepare(tile, k0, depth);
      for (Index j = block.j0; j < block.j1; j += Tile::kCols) {
        const TileTask task{.depth = depth,
                            .rows = tiles.pointers(),
                            .interleaved = tiles.strip(tile),
                            .interleaved_step = tiles.strip_step(tile),
                            .b = in_place ? p.b.row(k0) + j : scratch + panel_at(j - block.j0, depth),
                            .b_step = in_place ? p.b.row_stride : kPanel,
                            .c = p.c.data() + tiles.begin(tile) * p.c.stride(0) + j,
                            .c_stride = p.c.stride(0),
                            .cols = std::min<Index>(Tile::kCols, block.j1 - j),
                            .store = k0 ? Store::add : p.store,
                            .bias = p.bias && k0 == 0 ? p.bias + j : nullptr};
        if (tiles.interleaved())
          run_tile<Arch, TileRows::interleaved>(tiles.rows(tile), task);
        else
          run_tile<Arch, TileRows::pointers>(tiles.rows(tile), task);
      }
    }
  }
}

/// SumOrder::alike takes the way of few rows for all: the other one, whose panels must be packed, would make one row of
/// 32 x 768 weights take 3 times as long (128 x 2880: 4 times). Against the other way, with 768 or 1,024 inputs, 9 to
/// 64 rows take 0.2 to 1.0 of the time and more of them 0.3 (8 columns), 0.5 (16) to 1.12 (32 to 256; AVX-512 of Zen
/// 4).
inline bool suits_dots(const Product<float>& p) {
  return (p.c.extent(0) <= kDotRows || p.order == SumOrder::alike) && p.a.col_stride == 1 && p.b.row_stride == 1 &&
         !p.b.index && p.a.cols > 0;
}

template <class Arch>
void multiply_block(const Product<float>& p, const ProductBlock& block, float* scratch) {
  if (suits_dots(p)) return multiply_by_dots<Arch>(p, block);
  if (p.a.cols > 0) return multiply_by_panels<Arch>(p, block, scratch);
  for (Index i = block.i0; i < block.i1; ++i)
    for (Index j = block.j0; j < block.j1; ++j)
      p.c(i, j) = (p.store == Store::add ? p.c(i, j) : 0.0f) + (p.bias ? p.bias[j] : 0.0f);
}

}  // namespace detail

/// All products as one list of tasks, the largest first, so that many small or uneven ones keep every worker busy.
template <class Arch = simd::DefaultArch>
void multiply_f32(std::span<const Product<float>> products, Context& ctx, Epilogue done) {
  const auto scope = ctx.workspace.scope();
  const Index workers = ctx.parallel_for.workers();
  Index rows = kTaskRows, columns = kTaskColumns, count = cut_blocks(products, rows, columns, nullptr);
  // Two tasks a worker are few enough to pack little twice, and can be shared evenly.
  while (workers > 1 && count < 2 * workers && columns > kPanel) {
    (rows > 64 ? rows : columns) /= 2;
    count = cut_blocks(products, rows, columns, nullptr);
  }
  auto blocks = ctx.workspace.take<ProductBlock>(count);
  cut_blocks(products, rows, columns, blocks.data());
  const auto flops = [&](const ProductBlock& b) { return (b.i1 - b.i0) * (b.j1 - b.j0) * products[b.product].a.cols; };
  std::sort(blocks.data(), blocks.data() + count, [&](const ProductBlock& a, const ProductBlock& b) {
    return flops(a) > flops(b) ||
           (flops(a) == flops(b) && std::tie(a.product, a.j0, a.i0) < std::tie(b.product, b.j0, b.i0));
  });
  auto scratch = ctx.workspace.take<float>(workers, kProductScratch);
  ctx.parallel_for(count, [&](Index begin, Index end, Index worker) {
    for (Index i = begin; i < end; ++i) {
      detail::multiply_block<Arch>(products[blocks[i].product], blocks[i], &scratch(worker, 0));
      done(blocks[i]);
    }
  });
}

}  // namespace gatefold::kernels
#endif
