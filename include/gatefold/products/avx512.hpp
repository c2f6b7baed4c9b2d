#pragma once
#include "gatefold/products/panel.hpp"
#include "gatefold/products/tile_f32.hpp"

// Raw intrinsics in target functions: they work in a program compiled for the first x86-64, where xsimd has no AVX-512.
#if defined(__x86_64__)
// g++ 12 takes the deliberately undefined registers of its own AVX-512 headers for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

/// Register tiles over packed panels with the dot instructions of AVX-512. One loop serves all formats; a policy `Dot`
/// says how a step of 128 panel bytes (32 bits or more of each output) meets the activations of a row.
namespace gatefold::kernels::avx512 {

/// Steps of a chunk, the piece of a panel that is unrolled and by which prefetching is dealt out: 8 cache lines.
inline constexpr int kChunkSteps = 4;
inline constexpr Index kStepBytes = 4 * kPanel, kChunkBytes = kChunkSteps * kStepBytes;

/// What one register tile is told.
struct TileJob {
  const std::byte* rows;  // first row of the tile, prepared
  Index row_bytes;        // from row to row
  const std::byte* panel;
  StreamStride stride = {};               // where a tile takes several panels; values in bytes
  Index chunks;                           // of the panel
  std::uintptr_t prefetch = 0;            // address of what is fetched meanwhile
  Index first_line = 0, last_line = 0;    // of each 8 lines there, those that this tile fetches
  const float* row_scale = nullptr;       // of the tile's first row; integers only
  const std::int32_t* row_sum = nullptr;  // of the tile's first row; integers only
  Index row_groups = 1;                   // scales and sums of a row
  const float* column_scale = nullptr;    // [kPanel], or [groups, kPanel], or [groups] for all columns
  PanelOutput out;                        // from the tile's first row on
};

/// bf16 pairs of weights and of activations.
struct DotBf16 {
  using Sum = __m512;
  using Weight = __m512i;
  static constexpr int kMaxRows = 14;
  static constexpr Index kRowBytes = 4, kStepDepth = 2;
  static constexpr bool kGrouped = false, kStreamsPrefetch = true;

  [[gnu::always_inline, gnu::target("avx512f")]] static inline Sum start(const TileJob&, Index, Index) {
    return _mm512_setzero_ps();
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static inline Weight weight(__m512i line) { return line; }
  [[gnu::always_inline, gnu::target("avx512f,avx512bf16")]] static inline Sum dot(Sum sum, const Weight& w,
                                                                                  const std::byte* x) {
    std::int32_t pair;
    std::memcpy(&pair, x, sizeof pair);
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)_mm512_set1_epi32(pair));
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static inline __m512 finish(Sum sum, const TileJob&, Index, Index) {
    return sum;
  }
};

/// bf16 pairs of weights, widened, and fp32 activations.
struct WidenBf16 {
  using Sum = __m512;
  struct Weight {
    __m512 even, odd;
  };
  static constexpr int kMaxRows = 12;
  static constexpr Index kRowBytes = 8, kStepDepth = 2;
  static constexpr bool kGrouped = false, kStreamsPrefetch = true;

  [[gnu::always_inline, gnu::target("avx512f")]] static inline Sum start(const TileJob&, Index, Index) {
    return _mm512_setzero_ps();
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static inline Weight weight(__m512i line) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(line, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(line, _mm512_set1_epi32(-0x10000)))};
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static inline Sum dot(Sum sum, const Weight& w, const std::byte* x) {
    float pair[2];
    std::memcpy(pair, x, sizeof pair);
    return _mm512_fmadd_ps(w.odd, _mm512_set1_ps(pair[1]), _mm512_fmadd_ps(w.even, _mm512_set1_ps(pair[0]), sum));
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static inline __m512 finish(Sum sum, const TileJob&, Index, Index) {
    return sum;
  }
};

/// Weights of kBits bits, stored with an offset as unsigned bytes or nibbles, and 8-bit activations. The offset times
/// the sum of the activations is taken off at the start.
template <int kBits>
struct DotInt {
  using Sum = __m512i;
  struct Weight {
    __m512i part[8 / kBits];
  };
  // int8: 14 rows would need 28 registers; g++ 12 then spills sums, and 8 rows are 15 % faster. int4: two sums of each.
  static constexpr int kMaxRows = kBits == 8 ? 8 : 6;
  static constexpr Index kRowBytes = 32 / kBits, kStepDepth = 32 / kBits;
  static constexpr Index kGroupScales = kPanel;
  static constexpr bool kGrouped = kBits == 4, kStreamsPrefetch = kBits == 4;

  [[gnu::always_inline, gnu::target("avx512f")]] static inline Sum start(const TileJob& job, Index row, Index group) {
    constexpr std::uint32_t kOffset = kBits == 8 ? 128 : 8;
    const auto sum = static_cast<std::uint32_t>(job.row_sum[row * job.row_groups + group]);
    return _mm512_set1_epi32(static_cast<std::int32_t>(0u - kOffset * sum));
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static inline Weight weight(__m512i line) {
    if constexpr (kBits == 8) {
      return {{line}};
    } else {
      const __m512i nibble = _mm512_set1_epi32(0x0f0f0f0f);
      return {{_mm512_and_si512(line, nibble), _mm512_and_si512(_mm512_srli_epi32(line, 4), nibble)}};
    }
  }
  [[gnu::always_inline, gnu::target("avx512f,avx512vnni")]] static inline Sum dot(Sum sum, const Weight& w,
                                                                                  const std::byte* x) {
    std::int32_t four[8 / kBits];
    std::memcpy(four, x, sizeof four);
    sum = dot(sum, w.part[0], _mm512_set1_epi32(four[0]));
    if constexpr (kBits == 4) sum = dot(sum, w.part[1], _mm512_set1_epi32(four[1]));
    return sum;
  }
  /// The intrinsic, but g++ 12 would copy and spill its sums.
  [[gnu::always_inline, gnu::target("avx512f,avx512vnni")]] static inline Sum dot(Sum sum, __m512i w, __m512i x) {
    asm("vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static inline __m512 finish(Sum sum, const TileJob& job, Index row,
                                                                             Index column) {
    const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(job.row_scale[row]), _mm512_loadu_ps(job.column_scale + column));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
  }
  /// total + the sum of a group; `scale` of the columns.
  [[gnu::always_inline, gnu::target("avx512f")]] static inline __m512 add_group(__m512 total, Sum sum,
                                                                                const TileJob& job, Index row,
                                                                                Index group, const float* scale) {
    const __m512 x = _mm512_set1_ps(job.row_scale[row * job.row_groups + group]);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(x, _mm512_loadu_ps(scale)), total);
  }
};

/// The bytes of bf16 for the magnitudes of E4M3, each of which is a bf16: no arithmetic, no case for NaN or for what is
/// no normal number in E4M3.
struct E4m3Table {
  alignas(64) std::uint8_t high[128] = {}, low[128] = {};
  constexpr E4m3Table() {
    for (unsigned code = 0; code < 128; ++code) {
      unsigned bits = (code << 4) + (120u << 7);  // the exponent's bias is 7 there and 127 here
      if (code < 8) {                             // code 2^-9
        const unsigned top = code < 2 ? 0 : code < 4 ? 1 : 2;
        bits = code ? ((127 - 9 + top) << 7) | (((code << (7 - top)) & 127)) : 0;
      }
      if (code == 127) bits = 0x7fc0;
      high[code] = static_cast<std::uint8_t>(bits >> 8), low[code] = static_cast<std::uint8_t>(bits & 255);
    }
  }
};
inline constexpr E4m3Table kE4m3Table;

/// E4M3 weights, four k of an output in 32 bits, and fp32 activations; one scale for all columns and each group.
struct WidenE4m3 {
  using Sum = __m512;
  struct Weight {
    __m512 part[4];
  };
  static constexpr int kMaxRows = 8;
  static constexpr Index kRowBytes = 16, kStepDepth = 4, kGroupScales = 1;
  static constexpr bool kGrouped = true, kStreamsPrefetch = true;

  [[gnu::always_inline, gnu::target("avx512f")]] static inline Sum start(const TileJob&, Index, Index) {
    return _mm512_setzero_ps();
  }
  [[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512vbmi")]] static inline Weight weight(__m512i w) {
    const auto& t = kE4m3Table;
    const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(t.low), w, _mm512_load_si512(t.low + 64));
    const __m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(t.high), w, _mm512_load_si512(t.high + 64));
    const __m512i sign = _mm512_set1_epi8(-128);
    // Both bytes of an element to the top of 32 bits: high's are behind low's 64.
    const __m512i all = _mm512_ternarylogic_epi32(high, w, sign, 0xf8);  // high | (w & sign)
    Weight weight;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512i first = _mm512_set_epi32(60, 56, 52, 48, 44, 40, 36, 32, 28, 24, 20, 16, 12, 8, 4, 0);
      const __m512i byte = _mm512_add_epi32(first, _mm512_set1_epi32(i));
      const __m512i from = _mm512_or_si512(_mm512_slli_epi32(byte, 16),
                                           _mm512_slli_epi32(_mm512_or_si512(byte, _mm512_set1_epi32(64)), 24));
      weight.part[i] = _mm512_castsi512_ps(_mm512_maskz_permutex2var_epi8(0xccccccccccccccccu, low, from, all));
    }
    return weight;
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static inline Sum dot(Sum sum, const Weight& w, const std::byte* x) {
    float four[4];
    std::memcpy(four, x, sizeof four);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sum = _mm512_fmadd_ps(w.part[i], _mm512_set1_ps(four[i]), sum);
    return sum;
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static inline __m512 add_group(__m512 total, Sum sum, const TileJob&,
                                                                                Index, Index, const float* scale) {
    return _mm512_fmadd_ps(sum, _mm512_set1_ps(*scale), total);
  }
};

[[gnu::always_inline, gnu::target("avx512f")]] inline void store_half(const PanelOutput& out, Index row, Index column,
                                                                      __m512 v) {
  const Index left = out.columns - column;
  if (left <= 0) return;
  const auto mask = static_cast<__mmask16>(left >= 16 ? 0xffff : (1 << left) - 1);
  float* const c = out.c + row * out.stride + column;
  if (out.bias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, out.bias + column));
  if (out.store == Store::add) v = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), v);
  _mm512_mask_storeu_ps(c, mask, v);
}

/// The lines that a tile multiplies, two of each of its panels in a step: as they lie there. (expand_nm.hpp has
/// others.)
struct DenseLines {
  const std::byte* at;
  Index stride;

  [[gnu::always_inline]] explicit DenseLines(const TileJob& job) : at(job.panel), stride(job.stride.values) {}
  [[gnu::always_inline]] void begin_chunk(Index) {}
  [[gnu::always_inline, gnu::target("avx512f")]] __m512i line(int step, int v, bool prefetch) const {
    const std::byte* const from = at + step * kStepBytes + v / 2 * stride + v % 2 * 64;
    if (prefetch) prefetch_in_stream(from);
    return _mm512_loadu_si512(from);
  }
  [[gnu::always_inline]] void end_chunk() { at += kChunkBytes; }
};

// avx512vnni, avx512bf16 and avx512vbmi are named for the policies that use them; nothing else here makes a compiler
// emit them.
template <class Dot, int kRows, int kPanels = 1, bool kPrefetch = false, class Lines = DenseLines>
[[gnu::target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx512vbmi")]] void run_tile(
    const TileJob& job) {
  constexpr int kVectors = 2 * kPanels;
  typename Dot::Sum sum[kRows][kVectors];
  [[maybe_unused]] __m512 total[kRows][kVectors];
  // Three rows share a pointer, so that all have room in registers: an address may have once or twice the stride in it.
  const std::byte* rows[(kRows + 2) / 3];
  const Index stride = job.row_bytes;
#pragma GCC unroll 8
  for (int i = 0; i < kRows; i += 3) rows[i / 3] = job.rows + i * stride;
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sum[i][v] = Dot::start(job, i, 0);
      total[i][v] = _mm512_setzero_ps();
    }
  }
  constexpr Index kGroupChunks = kDepthGroup / (kChunkSteps * Dot::kStepDepth);
  Lines lines(job);
  std::uintptr_t ahead = job.prefetch;
  for (Index chunk = 0; chunk < job.chunks; ++chunk) {
    for (Index line = job.first_line; line < job.last_line; ++line)
      _mm_prefetch(reinterpret_cast<const char*>(ahead + static_cast<std::uintptr_t>(line) * 64), _MM_HINT_T1);
    ahead += static_cast<std::uintptr_t>(kChunkBytes);
    lines.begin_chunk(chunk);
#pragma GCC unroll 4
    for (int step = 0; step < kChunkSteps; ++step) {
      typename Dot::Weight w[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) w[v] = Dot::weight(lines.line(step, v, kPrefetch));
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v)
          sum[i][v] = Dot::dot(sum[i][v], w[v], rows[i / 3] + i % 3 * stride + step * Dot::kRowBytes);
    }
    lines.end_chunk();
#pragma GCC unroll 8
    for (int i = 0; i < kRows; i += 3) rows[i / 3] += kChunkSteps * Dot::kRowBytes;
    if constexpr (Dot::kGrouped) {
      if ((chunk + 1) % kGroupChunks) continue;
      const Index group = chunk / kGroupChunks;
      const float* const scale = job.column_scale + group * Dot::kGroupScales;
      const bool more = chunk + 1 < job.chunks;
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
          constexpr Index kHalf = Dot::kGroupScales / 2;
          total[i][v] =
              Dot::add_group(total[i][v], sum[i][v], job, i, group, scale + v / 2 * job.stride.scales + v % 2 * kHalf);
          if (more) sum[i][v] = Dot::start(job, i, group + 1);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const int half = 16 * (v % 2);
      PanelOutput out = job.out;
      out.c += v / 2 * job.stride.columns;
      if (out.bias) out.bias += v / 2 * job.stride.columns;
      if constexpr (Dot::kGrouped)
        store_half(out, i, half, total[i][v]);
      else
        store_half(out, i, half, Dot::finish(sum[i][v], job, i, v / 2 * job.stride.scales + half));
    }
  }
}

template <class Dot>
inline constexpr auto kTiles = []<int... I>(std::integer_sequence<int, I...>) {
  return std::array<void (*)(const TileJob&), sizeof...(I)>{&run_tile<Dot, I + 1>...};
}
(std::make_integer_sequence<int, Dot::kMaxRows>{});

/// Whole groups, where a group has a scale; else the zeros behind k need not be read.
template <class Dot>
constexpr Index num_chunks(Index k) {
  constexpr Index kChunkDepth = kChunkSteps * Dot::kStepDepth;
  return ((Dot::kGrouped ? padded_depth(k) : k) + kChunkDepth - 1) / kChunkDepth;
}

/// All rows against one panel: tiles of balanced height. `job` tells of the first row. They share among them the lines
/// of the next panel, which they fetch into L2: into L1, which has no room for so much that is under way, int8 tiles of
/// 8 rows get 15 GB/s from memory instead of 23 (AMD Zen 4).
template <class Dot>
void multiply(TileJob job, Index rows, Index k, const void* next_panel) {
  constexpr Index kChunkLines = kChunkBytes / 64;
  const BalancedSplit split(rows, Dot::kMaxRows);
  job.chunks = num_chunks<Dot>(k);
  job.prefetch = reinterpret_cast<std::uintptr_t>(next_panel);
  const TileJob first = job;
  for (Index block = 0; block < split.count; ++block) {
    const Index begin = split.begin(block);
    job.rows = first.rows + begin * job.row_bytes;
    job.row_scale = first.row_scale ? first.row_scale + begin * job.row_groups : nullptr;
    job.row_sum = first.row_sum ? first.row_sum + begin * job.row_groups : nullptr;
    job.out.c = first.out.c + begin * job.out.stride;
    if (next_panel) {
      job.first_line = kChunkLines * block / split.count;
      job.last_line = kChunkLines * (block + 1) / split.count;
    }
    kTiles<Dot>[static_cast<std::size_t>(split.size(block) - 1)](job);
  }
}

/// 1..kFewRows rows against several panels at once, see for_each_in_streams; make_job(rows, panel, out) is for one.
template <class Dot, class F, class MakeJob>
Index multiply_few_rows(std::span<const PreparedRows<F>> pieces, const PanelRun<F>& run, const PanelOutput& out,
                        MakeJob&& make_job) {
  constexpr std::array<void (*)(const TileJob&), kFewRows> kTiles{&run_tile<Dot, 1, 4>, &run_tile<Dot, 2, 4>,
                                                                  &run_tile<Dot, 3, 2>, &run_tile<Dot, 4, 2>};
  constexpr std::array<void (*)(const TileJob&), kFewRows> kFetching{
      kTiles[0], kTiles[1], &run_tile<Dot, 3, 2, Dot::kStreamsPrefetch>, &run_tile<Dot, 4, 2, Dot::kStreamsPrefetch>};
  const auto& tiles = cpu().prefetches_streams ? kTiles : kFetching;
  const Index rows = pieces[0].rows;
  return for_each_in_streams(rows <= 2 ? 4 : 2, pieces, run, out,
                             [&](const auto& a, const auto& panel, StreamStride stride, const PanelOutput& to) {
                               TileJob job = make_job(a, panel, to);
                               if constexpr (std::is_same_v<F, bf16>) stride.values *= Index{sizeof(bf16)};
                               job.stride = stride;
                               job.chunks = num_chunks<Dot>(a.k);
                               tiles[static_cast<std::size_t>(rows - 1)](job);
                             });
}

/// Rounds x [k] to bf16, 32 values every piece_bytes, zeros up to padded_depth(k).
[[gnu::target("avx512f,avx512bw,avx512bf16")]] inline void round_row(const float* x, Index k, std::byte* to,
                                                                     Index piece_bytes) {
  for (Index k0 = 0; k0 < padded_depth(k); k0 += 32, to += piece_bytes) {
    const Index left = std::clamp<Index>(k - k0, 0, 32);
    const auto mask = static_cast<std::uint32_t>((std::uint64_t{1} << left) - 1);
    const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask & 0xffff), x + (left > 0 ? k0 : 0));
    const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), x + (left > 16 ? k0 + 16 : 0));
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(high, low));
  }
}

/// The bits of the largest magnitude of x [k]: above those of infinity where there is a NaN.
[[gnu::target("avx512f")]] inline std::uint32_t magnitude_bits(const float* x, Index k) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i most = _mm512_setzero_si512();
  for (Index k0 = 0; k0 < k; k0 += 16) {
    const auto mask = static_cast<__mmask16>(k - k0 >= 16 ? 0xffff : (1 << (k - k0)) - 1);
    const __m512i bits = _mm512_castps_si512(_mm512_maskz_loadu_ps(mask, x + k0));
    most = _mm512_max_epu32(most, _mm512_and_si512(bits, magnitude));
  }
  return static_cast<std::uint32_t>(_mm512_reduce_max_epu32(most));
}

/// q = x * inverse to nearest even, 64 values every piece_bytes, zeros up to padded_depth(k); returns the sum of q.
[[gnu::target("avx512f,avx512bw,avx512vnni")]] inline std::int32_t quantise_row(const float* x, Index k, float inverse,
                                                                                std::byte* to, Index piece_bytes) {
  const __m512 factor = _mm512_set1_ps(inverse);
  __m512i sum = _mm512_setzero_si512();
  for (Index k0 = 0; k0 < padded_depth(k); k0 += kDepthGroup, to += piece_bytes) {
    __m128i q[4];
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      const Index left = std::clamp<Index>(k - k0 - 16 * part, 0, 16);
      const auto mask = static_cast<__mmask16>((1u << left) - 1);
      const __m512 v = _mm512_maskz_loadu_ps(mask, x + (left > 0 ? k0 + 16 * part : 0));
      q[part] = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v, factor)));
    }
    const __m512i all =
        _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_inserti128_si256(_mm256_castsi128_si256(q[0]), q[1], 1)),
                           _mm256_inserti128_si256(_mm256_castsi128_si256(q[2]), q[3], 1), 1);
    sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), all);
    _mm512_storeu_si512(to, all);
  }
  return _mm512_reduce_add_epi32(sum);
}

}  // namespace gatefold::kernels::avx512
#endif
