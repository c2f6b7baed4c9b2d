#pragma once
#include <bit>

#include "gatefold/products/avx512.hpp"

/// Panels without their zeros. The elements of a dense panel come in blocks of kDepthGroup inputs. Of a block those are
/// kept that count, in their order, and behind them a bit for each element, in the same order. A bit each is what 2-bit
/// indices take for 2:4 (two of them for four weights), less than what they take for 4:8, and is what the expand
/// instructions of AVX-512 read.
namespace gatefold::kernels {

inline constexpr Index kBlockElements = kDepthGroup * kPanel;
inline constexpr Index kMaskBytes = kBlockElements / 8;  ///< Of a block. Loads may run over the values into them.

/// What stands for zero among the elements of a dense panel: int8 has an offset.
template <class V>
inline constexpr V kZeroElement = std::is_same_v<V, std::uint8_t> ? V(128) : V();

/// Blocks of one panel, one behind the other; all keep the same number of elements.
struct NmBlocks {
  const std::byte* first;
  Index count;
  Index value_bytes;  // of a block
};

namespace detail {

template <class V>
void expand_portable(const NmBlocks& blocks, V* to) {
  const std::byte* at = blocks.first;
  for (Index b = 0; b < blocks.count; ++b) {
    const std::byte* value = at;
    const std::byte* const mask = at + blocks.value_bytes;
    for (Index i = 0; i < kBlockElements; ++i, ++to) {
      *to = kZeroElement<V>;
      if ((mask[i / 8] >> i % 8 & std::byte{1}) == std::byte{0}) continue;
      std::memcpy(to, value, sizeof(V));
      value += sizeof(V);
    }
    at = mask + kMaskBytes;
  }
}

#if defined(__x86_64__)
/// Where the bytes of 8 elements, or of as many as 16 bytes hold, come from, for each mask: 128 is from nowhere.
template <class V>
struct ExpandTable {
  static constexpr int kElements = sizeof(V) == 4 ? 4 : 8, kBytes = kElements * static_cast<int>(sizeof(V));
  alignas(16) std::uint8_t from[1 << kElements][kBytes];
  constexpr ExpandTable() : from() {
    for (int mask = 0; mask < 1 << kElements; ++mask)
      for (int i = 0, next = 0; i < kElements; ++i)
        for (int byte = 0, kept = mask >> i & 1; byte < static_cast<int>(sizeof(V)); ++byte)
          from[mask][i * static_cast<int>(sizeof(V)) + byte] = static_cast<std::uint8_t>(kept ? next++ : 128);
  }
};
template <class V>
inline constexpr ExpandTable<V> kExpandTable;

/// By byte shuffles, which every CPU with vectors wider than the first x86-64's has.
template <class V>
[[gnu::target("ssse3,popcnt")]] void expand_ssse3(const NmBlocks& blocks, V* elements) {
  using Table = ExpandTable<V>;
  const std::byte* at = blocks.first;
  auto* to = reinterpret_cast<std::byte*>(elements);
  for (Index b = 0; b < blocks.count; ++b) {
    const std::byte* value = at;
    const std::byte* const mask = at + blocks.value_bytes;
    for (Index byte = 0; byte < kMaskBytes; ++byte) {
#pragma GCC unroll 2
      for (int part = 0; part < 8; part += Table::kElements, to += Table::kBytes) {
        const auto bits = std::to_integer<unsigned>(mask[byte]) >> part & ((1u << Table::kElements) - 1);
        __m128i from = _mm_setzero_si128(), kept = from;
        std::memcpy(&from, kExpandTable<V>.from[bits], Table::kBytes);
        std::memcpy(&kept, value, Table::kBytes);
        kept = _mm_shuffle_epi8(kept, from);
        if constexpr (kZeroElement<V> != V()) kept = _mm_or_si128(kept, _mm_and_si128(from, _mm_set1_epi8(-128)));
        std::memcpy(to, &kept, Table::kBytes);
        value += static_cast<Index>(sizeof(V)) * __builtin_popcount(bits);
      }
    }
    at = mask + kMaskBytes;
  }
}
#endif

}  // namespace detail

#if defined(__x86_64__)
namespace avx512 {

/// Lines of panels without their zeros, and of others at job.stride from them: what DenseLines has of dense ones.
template <class V, int kPanels>
struct NmLines {
  static constexpr Index kLineMask = 8 / sizeof(V), kBlockChunks = 4 * sizeof(V);
  using Mask = std::conditional_t<sizeof(V) == 1, std::uint64_t,
                                  std::conditional_t<sizeof(V) == 2, std::uint32_t, std::uint16_t>>;
  const std::byte* block;
  const std::byte* mask = nullptr;
  const std::byte* value[kPanels] = {};
  Index stride, value_bytes;

  [[gnu::always_inline]] explicit NmLines(const TileJob& job)
      : block(job.panel), stride(job.stride.values), value_bytes(job.block_bytes) {}
  [[gnu::always_inline]] void begin_chunk(Index chunk) {
    if (chunk % kBlockChunks) return;
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) value[p] = block + p * stride;
    mask = block + value_bytes;
    block = mask + kMaskBytes;
  }
  [[gnu::always_inline]] const std::byte* address(int v) const { return value[v / 2]; }
  [[gnu::always_inline, gnu::target("avx512f,avx512bw,popcnt")]] __m512i next(int v) {
    Mask m;
    std::memcpy(&m, mask + v / 2 * stride + v % 2 * kLineMask, sizeof m);
    const __m512i kept = _mm512_loadu_si512(value[v / 2]);
    value[v / 2] += static_cast<Index>(sizeof(V)) * __builtin_popcountll(m);
    return expand(m, kept);
  }
  [[gnu::always_inline]] void end_step() { mask += 2 * kLineMask; }

 private:
  /// Instructions instead of intrinsics: what they serve is no target of VBMI2, which not every CPU with VNNI has.
  [[gnu::always_inline, gnu::target("avx512f,avx512bw")]] static inline __m512i expand(Mask m, __m512i kept) {
    __m512i line;
    if constexpr (sizeof(V) == 4) {
      line = _mm512_maskz_expand_epi32(m, kept);
    } else if constexpr (sizeof(V) == 2) {
      asm("vpexpandw {%1, %0%{%2%}%{z%}|%0%{%2%}%{z%}, %1}" : "=v"(line) : "v"(kept), "Yk"(static_cast<__mmask32>(m)));
    } else {
      line = _mm512_set1_epi8(static_cast<char>(kZeroElement<V>));
      asm("vpexpandb {%1, %0%{%2%}|%0%{%2%}, %1}" : "+v"(line) : "v"(kept), "Yk"(static_cast<__mmask64>(m)));
    }
    return line;
  }
};

template <class V>
[[gnu::target("avx512f,avx512bw,popcnt")]] void expand_nm(const NmBlocks& blocks, V* elements) {
  TileJob job{.rows = nullptr, .row_bytes = 0, .panel = blocks.first, .block_bytes = blocks.value_bytes, .chunks = 0,
              .out = {}};
  NmLines<V, 1> lines(job);
  auto* to = reinterpret_cast<std::byte*>(elements);
  for (Index chunk = 0; chunk < blocks.count * NmLines<V, 1>::kBlockChunks; ++chunk) {
    lines.begin_chunk(chunk);
#pragma GCC unroll 4
    for (int step = 0; step < kChunkSteps; ++step, to += kStepBytes) {
      _mm512_storeu_si512(to, lines.next(0));
      _mm512_storeu_si512(to + 64, lines.next(1));
      lines.end_step();
    }
  }
}

/// Whether the instructions by which NmLines expands are there. Those for floats are as old as AVX-512.
template <class V>
bool expands_lines() {
  return sizeof(V) == 4 || cpu().has(CpuFeatures{CpuFeature::avx512_vbmi2});
}

}  // namespace avx512
#endif

/// Puts the zeros back: the dense panel. // to [blocks.count * kBlockElements]
template <class V>
void expand_nm([[maybe_unused]] Isa isa, const NmBlocks& blocks, V* to) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512 && avx512::expands_lines<V>()) return avx512::expand_nm(blocks, to);
  if (isa >= Isa::simd && cpu().has(kX86V2)) return detail::expand_ssse3(blocks, to);
#endif
  detail::expand_portable(blocks, to);
}

}  // namespace gatefold::kernels
