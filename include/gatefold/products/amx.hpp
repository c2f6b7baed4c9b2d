#pragma once
#include "gatefold/products/avx512.hpp"

#if defined(__x86_64__)
/// AMX tiles over packed panels: 32 rows x 32 outputs in four accumulator tiles, both operands plain streams.
namespace gatefold::kernels::amx {

inline constexpr Index kTileRows = 16, kTileRowBytes = 64, kTileBytes = kTileRows * kTileRowBytes;
/// Panel bytes of one step: two tiles side by side.
inline constexpr Index kStepBytes = 2 * kTileBytes;

/// Bytes of the prepared activations: blocks of 16 rows, each a run of tiles // [row blocks, steps, 16, 64 bytes].
constexpr Index rows_bytes(Index rows, Index steps) { return (rows + kTileRows - 1) / kTileRows * steps * kTileBytes; }

/// The layout that `ldtilecfg` reads (Intel SDM 1, 18.3): all eight tiles 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

/// Configures the tiles of this thread as long as the outermost one lives, and only if `wanted`. That costs as much as
/// a small panel, so a run of panels has one around it; between runs whoever else uses tiles in this thread may do so.
class TileScope {
 public:
  [[gnu::target("amx-tile")]] explicit TileScope(bool wanted = true) : wanted_(wanted) {
    if (!wanted_ || depth_++) return;
    static constexpr TileConfig kConfig;
    // g++ 12 believes that _tile_loadconfig reads eight bytes only and drops stores to the others.
    asm volatile("" ::"r"(&kConfig) : "memory");
    _tile_loadconfig(&kConfig);
  }
  [[gnu::target("amx-tile")]] ~TileScope() {
    if (wanted_ && --depth_ == 0) _tile_release();
  }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;

 private:
  static inline thread_local int depth_ = 0;
  bool wanted_;
};

/// What one block of up to 32 rows is told.
struct Block {
  const std::byte* rows;         // prepared: [steps, 16, 64 bytes]
  const std::byte* second_rows;  // the next 16 rows, or null
  const std::byte* panel;
  Index steps;
  const std::byte* prefetch = nullptr;  // where the next panel is, or null
  Index first_line = 0, last_line = 0;  // lines of each step of the next panel that this block fetches
};

/// sums [16 or 32, kPanel] = rows x panel; kBits 16: bf16 to float, 8: int8 times uint8 to int32.
template <int kBits>
[[gnu::target("amx-tile,amx-bf16,amx-int8")]] void multiply_block(const Block& t, void* sums) {
  constexpr Index kSumStride = kPanel * 4;
  std::byte* const out = static_cast<std::byte*>(sums);
  const std::byte* a = t.rows;
  const std::byte* b = t.panel;
  const std::byte* ahead = t.prefetch;
  // The tile loads name no memory: what was written to it before must be there.
  asm volatile("" ::: "memory");
  _tile_zero(0);
  _tile_zero(1);
  const auto fetch = [&] {
    for (Index line = t.first_line; line < t.last_line; ++line) __builtin_prefetch(ahead + line * 64, 0, 2);
    ahead += kStepBytes;
  };
  if (t.second_rows) {
    const std::byte* a2 = t.second_rows;
    _tile_zero(2);
    _tile_zero(3);
    for (Index step = 0; step < t.steps; ++step, a += kTileBytes, a2 += kTileBytes, b += kStepBytes) {
      _tile_loadd(4, a, kTileRowBytes);
      _tile_loadd(6, b, 2 * kTileRowBytes);
      _tile_loadd(7, b + kTileRowBytes, 2 * kTileRowBytes);
      _tile_loadd(5, a2, kTileRowBytes);
      if constexpr (kBits == 16) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      } else {
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        _tile_dpbsud(2, 5, 6);
        _tile_dpbsud(3, 5, 7);
      }
      fetch();
    }
    _tile_stored(2, out + 16 * kSumStride, kSumStride);
    _tile_stored(3, out + 16 * kSumStride + 64, kSumStride);
  } else {
    for (Index step = 0; step < t.steps; ++step, a += kTileBytes, b += kStepBytes) {
      _tile_loadd(4, a, kTileRowBytes);
      _tile_loadd(6, b, 2 * kTileRowBytes);
      _tile_loadd(7, b + kTileRowBytes, 2 * kTileRowBytes);
      if constexpr (kBits == 16) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
      } else {
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
      }
      fetch();
    }
  }
  _tile_stored(0, out, kSumStride);
  _tile_stored(1, out + 64, kSumStride);
  asm volatile("" ::: "memory");
}

/// Writes rows of sums to where they belong; the integer sums first lose the offset of the weights.
template <int kBits>
[[gnu::target("avx512f")]] inline void store_sums(const avx512::TileJob& job, Index begin, Index count,
                                                  const void* sums) {
  const auto* from = static_cast<const std::byte*>(sums);
  for (Index i = 0; i < count; ++i)
    for (Index j = 0; j < kPanel; j += 16, from += 64) {
      const Index row = begin + i;
      if constexpr (kBits == 16) {
        avx512::store_half(job.out, row, j, _mm512_loadu_ps(from));
      } else {
        const __m512i sum = _mm512_add_epi32(avx512::DotInt<8>::start(job, row, 0), _mm512_loadu_si512(from));
        avx512::store_half(job.out, row, j, avx512::DotInt<8>::finish(sum, job, row, j));
      }
    }
}

/// All rows against one panel, like avx512::multiply; job.row_bytes and job.chunks mean nothing here.
template <int kBits>
void multiply(const avx512::TileJob& job, Index rows, Index steps, const void* next_panel) {
  const TileScope tiles;
  alignas(64) std::byte sums[2 * kTileRows * kPanel * 4];
  const Index blocks = (rows + 2 * kTileRows - 1) / (2 * kTileRows), block_bytes = steps * kTileBytes;
  for (Index block = 0; block < blocks; ++block) {
    const Index begin = 2 * kTileRows * block, count = std::min(2 * kTileRows, rows - begin);
    const std::byte* const first = job.rows + 2 * block * block_bytes;
    Block t{.rows = first,
            .second_rows = count > kTileRows ? first + block_bytes : nullptr,
            .panel = job.panel,
            .steps = steps,
            .prefetch = static_cast<const std::byte*>(next_panel)};
    if (next_panel) {
      t.first_line = kStepBytes / 64 * block / blocks;
      t.last_line = kStepBytes / 64 * (block + 1) / blocks;
    }
    multiply_block<kBits>(t, sums);
    store_sums<kBits>(job, begin, count, sums);
  }
}

}  // namespace gatefold::kernels::amx
#endif
