#pragma once
#include "gatefold/products/avx512.hpp"

/// Panels of which N of each M inputs of an output are kept. A block of kDepthGroup inputs is the elements that are
/// kept and behind them a bit for each element of the dense panel: as many bits as 2-bit indices take for 2:4 (two of
/// them for four weights), fewer than indices take for 4:8, and what the expand instructions of AVX-512 read.
///
/// 64 bits are 16 outputs and 4 inputs, as they follow in the 64-byte lines of a dense panel (1, 2 or 4 lines for
/// elements of 1, 2 or 4 bytes). The words of max(M, 4) inputs are neighbours, first those of outputs 0..15, then those
/// of 16..31, so each such group keeps as many elements as any other: where they begin is known without counting.
namespace gatefold::kernels {

template <class V, int N, int M>
struct NmBlock {
  using Element = V;
  static constexpr Index kElements = kDepthGroup * kPanel, kLineElements = 64 / sizeof(V), kLineInputs = 4 / sizeof(V);
  static constexpr Index kWords = kElements / 64, kLinesOfWord = 64 / kLineElements, kGroupWords = M < 4 ? 1 : M / 4;
  static constexpr Index kGroupBytes = 64 * kGroupWords / M * N * Index{sizeof(V)};  // kept elements of a group
  static constexpr Index kValueBytes = kElements / M * N * Index{sizeof(V)};         // loads may run over into the mask
  static constexpr Index kMaskBytes = kElements / 8, kBytes = kValueBytes + kMaskBytes;

  /// What stands for zero in a dense panel: int8 has an offset.
  static constexpr V kZero = std::is_same_v<V, std::uint8_t> ? V(128) : V();

  /// The line of the dense panel that is line i of a word.
  static constexpr Index line(Index word, Index i) {
    const Index group = word / (2 * kGroupWords), half = word / kGroupWords % 2, of_group = word % kGroupWords;
    return ((group * kGroupWords + of_group) * kLinesOfWord + i) * 2 + half;
  }
  /// The element of the dense panel that a bit is for.
  static constexpr Index element(Index bit) {
    return line(bit / 64, bit % 64 / kLineElements) * kLineElements + bit % kLineElements;
  }
  /// The bit for input k < kDepthGroup of output j.
  static constexpr Index bit(Index k, Index j) {
    const Index group = k / (4 * kGroupWords), word = (group * 2 + j / 16) * kGroupWords + k / 4 % kGroupWords;
    return word * 64 + k % 4 / kLineInputs * kLineElements + j % 16 * kLineInputs + k % kLineInputs;
  }
};

namespace detail {

template <class Block>
void expand_portable(const std::byte* block, Index count, typename Block::Element* to) {
  for (Index b = 0; b < count; ++b, block += Block::kBytes, to += Block::kElements) {
    const std::byte* value = block;
    const std::byte* const mask = block + Block::kValueBytes;
    std::fill_n(to, Block::kElements, Block::kZero);
    for (Index bit = 0; bit < Block::kElements; ++bit) {
      if ((mask[bit / 8] >> bit % 8 & std::byte{1}) == std::byte{0}) continue;
      std::memcpy(to + Block::element(bit), value, sizeof *to);
      value += sizeof *to;
    }
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

/// By byte shuffles, which all but the first x86-64 have.
template <class Block>
[[gnu::target("ssse3,popcnt")]] void expand_ssse3(const std::byte* block, Index count, typename Block::Element* to) {
  using V = typename Block::Element;
  using Table = ExpandTable<V>;
  for (Index b = 0; b < count; ++b, block += Block::kBytes, to += Block::kElements) {
    const std::byte* value = block;
    const std::byte* const mask = block + Block::kValueBytes;
    for (Index bit = 0; bit < Block::kElements; bit += 8) {
      V* const eight = to + Block::element(bit);
#pragma GCC unroll 2
      for (int part = 0; part < 8; part += Table::kElements) {
        const auto bits = std::to_integer<unsigned>(mask[bit / 8]) >> part & ((1u << Table::kElements) - 1);
        __m128i from = _mm_setzero_si128(), kept = from;
        std::memcpy(&from, kExpandTable<V>.from[bits], Table::kBytes);
        std::memcpy(&kept, value, Table::kBytes);
        kept = _mm_shuffle_epi8(kept, from);
        if constexpr (Block::kZero != V()) kept = _mm_or_si128(kept, _mm_and_si128(from, _mm_set1_epi8(-128)));
        std::memcpy(static_cast<void*>(eight + part), &kept, Table::kBytes);
        value += static_cast<Index>(sizeof(V)) * __builtin_popcount(bits);
      }
    }
  }
}
#endif

}  // namespace detail

#if defined(__x86_64__)
namespace avx512 {

/// A line of which `kept` holds those elements, from its beginning on, that `bits` has. Instructions instead of
/// intrinsics: the tiles that use it are no target of VBMI2, which not every CPU with VNNI has.
template <class Block>
[[gnu::always_inline, gnu::target("avx512f,avx512bw")]] inline __m512i expand_line(std::uint64_t bits, __m512i kept) {
  __m512i line;
  if constexpr (Block::kLineElements == 16) {
    line = _mm512_maskz_expand_epi32(static_cast<__mmask16>(bits), kept);
  } else if constexpr (Block::kLineElements == 32) {
    asm("vpexpandw {%1, %0%{%2%}%{z%}|%0%{%2%}%{z%}, %1}" : "=v"(line) : "v"(kept), "Yk"(static_cast<__mmask32>(bits)));
  } else {
    line = _mm512_set1_epi8(static_cast<char>(Block::kZero));
    asm("vpexpandb {%1, %0%{%2%}|%0%{%2%}, %1}" : "+v"(line) : "v"(kept), "Yk"(static_cast<__mmask64>(bits)));
  }
  return line;
}

/// Whether the instructions for it are there. Those for floats are as old as AVX-512.
template <class V>
bool expands_lines() {
  return sizeof(V) == 4 || cpu().has(CpuFeatures{CpuFeature::avx512_vbmi2});
}

/// Line i of word `of_group` of a group.
template <class Block>
[[gnu::always_inline, gnu::target("avx512f,avx512bw,popcnt")]] inline __m512i nm_line(const std::byte* group,
                                                                                      const std::byte* mask,
                                                                                      Index of_group, Index i) {
  using V = typename Block::Element;
  const auto word_at = [&](Index w) __attribute__((always_inline)) {
    std::uint64_t word;
    std::memcpy(&word, mask + 8 * w, sizeof word);
    return word;
  };
  Index before = 0;
#pragma GCC unroll 4
  for (Index w = 0; w < of_group; ++w) before += __builtin_popcountll(word_at(w));
  if (i > 0) before += __builtin_popcountll(word_at(of_group) << (64 - i * Block::kLineElements));
  std::conditional_t<Block::kLineElements == 16, std::uint16_t,
                     std::conditional_t<Block::kLineElements == 32, std::uint32_t, std::uint64_t>>
      bits;
  std::memcpy(&bits, mask + 8 * of_group + i * Block::kLineElements / 8, sizeof bits);
  const std::byte* const from = group + before * Index{sizeof(V)};
  if constexpr (Block::kGroupBytes <= 32)
    return expand_line<Block>(bits, _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
  else
    return expand_line<Block>(bits, _mm512_loadu_si512(from));
}

/// Lines of panels in such blocks, and of others at job.stride from them: what DenseLines has of dense ones. A chunk
/// must hold whole groups. Several panels are fetched ahead into L2: expanding takes so many instructions that the CPU
/// does not see far enough by itself, and into L1 too few are under way (cold bf16, AMD Zen 4: 18 GB/s without and with
/// L1, 25 with L2).
template <class Block, int kPanels>
struct NmLines {
  static constexpr Index kChunkInputs = kChunkSteps * Block::kLineInputs, kBlockChunks = kDepthGroup / kChunkInputs;
  static constexpr bool kWhole = kChunkInputs % (4 * Block::kGroupWords) == 0;
  static constexpr Index kAhead = 8192;  // 6 to 12 KiB are as good
  const std::byte* at[kPanels];
  Index mask = 0, ahead = 0;  // both from `at`

  [[gnu::always_inline]] explicit NmLines(const TileJob& job) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) at[p] = job.panel + p * job.stride.values;
  }
  [[gnu::always_inline]] void begin_chunk(Index chunk) {
    if (chunk % kBlockChunks == 0) {
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) at[p] += chunk ? Block::kMaskBytes : 0;
      mask = Block::kValueBytes;
      ahead = kAhead;
    }
    asm("" : "+r"(mask), "+r"(ahead));  // or g++ 12 keeps a pointer to every line, and spills them
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      asm("" : "+r"(at[p]));
#pragma GCC unroll 8
      for (Index line = 0; kPanels > 1 && line < Block::kBytes / kBlockChunks; line += 64)
        _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(at[p]) +
                                                   static_cast<std::uintptr_t>(ahead + line)),
                     _MM_HINT_T1);
    }
  }
  [[gnu::always_inline, gnu::target("avx512f,avx512bw,popcnt")]] __m512i line(int step, int v, bool) const {
    constexpr Index kGroupInputs = 4 * Block::kGroupWords;
    const Index k = step * Block::kLineInputs, group = k / kGroupInputs * 2 + v % 2;
    const std::byte* const from = at[v / 2];
    return nm_line<Block>(from + group * Block::kGroupBytes, from + mask + group * Block::kGroupWords * 8,
                          k % kGroupInputs / 4, k % 4 / Block::kLineInputs);
  }
  [[gnu::always_inline]] void end_chunk() {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) at[p] += Block::kValueBytes / kBlockChunks;
    mask += (Block::kMaskBytes - Block::kValueBytes) / kBlockChunks;
    ahead += Block::kMaskBytes / kBlockChunks;
  }
};

template <class Block>
[[gnu::target("avx512f,avx512bw,popcnt")]] void expand_nm(const std::byte* block, Index count,
                                                          typename Block::Element* elements) {
  constexpr Index kGroups = Block::kWords / (2 * Block::kGroupWords),
                  kGroupLines = 2 * Block::kGroupWords * Block::kLinesOfWord;
  auto* to = reinterpret_cast<std::byte*>(elements);
  for (Index b = 0; b < count; ++b, block += Block::kBytes) {
    const std::byte* at = block;
    const std::byte* mask = block + Block::kValueBytes;
#pragma GCC unroll 2
    for (Index group = 0; group < kGroups; ++group, to += kGroupLines * 64)
#pragma GCC unroll 2
      for (Index half = 0; half < 2; ++half, at += Block::kGroupBytes, mask += 8 * Block::kGroupWords)
#pragma GCC unroll 4
        for (Index word = 0; word < Block::kGroupWords; ++word)
#pragma GCC unroll 4
          for (Index i = 0; i < Block::kLinesOfWord; ++i)
            _mm512_storeu_si512(to + ((word * Block::kLinesOfWord + i) * 2 + half) * 64,
                                nm_line<Block>(at, mask, word, i));
  }
}

}  // namespace avx512
#endif

/// Puts the zeros back: blocks of a panel, one behind the other, to a dense panel. // to [count * Block::kElements]
template <class Block>
void expand_nm([[maybe_unused]] Isa isa, const std::byte* block, Index count, typename Block::Element* to) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512 && avx512::expands_lines<typename Block::Element>())
    return avx512::expand_nm<Block>(block, count, to);
  if (isa >= Isa::simd && cpu().has(kX86V2)) return detail::expand_ssse3<Block>(block, count, to);
#endif
  detail::expand_portable<Block>(block, count, to);
}

}  // namespace gatefold::kernels
