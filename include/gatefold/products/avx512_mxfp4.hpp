#pragma once
#include "gatefold/core/small_float.hpp"
#include "gatefold/products/avx512.hpp"

/// MXFP4 weights and fp32 activations with the integer dot products of AVX-512. Twice an E2M1 value is a whole number
/// of -12..12, found by one byte shuffle. An activation is taken as q 2^e, |q| <= 2^22, with one e for 32 of them, and
/// q as three digits to the base 256. Then the sum over a group is exact in 32 bits, 12 * 32 * 2^22 < 2^31, at three
/// dot products of 64 terms instead of four fp32 multiply-adds of 16 and their widened weights; what fp32 rounds is
/// only the addition of groups. Powers of two lose no digit: activations of 8 digits (bf16) that are not below 2^-14 of
/// the largest of their group come in exactly, all others to within 2^-22 of it.
namespace gatefold::kernels {

/// 32 activations of a row.
struct DigitGroup {
  static constexpr int kDigits = 3;
  std::int8_t digit[kDigits][kMxfp4Group];  ///< The most significant first.
  float scale;                              ///< x = q * 2 scale
  std::int32_t start;                       ///< Takes off what the weights are kept above zero.
};

/// Groups of a prepared row, those of the padding among them.
constexpr Index digit_groups(Index k) { return padded_depth(k) / kMxfp4Group; }

}  // namespace gatefold::kernels

#if defined(__x86_64__)
namespace gatefold::kernels::avx512 {

/// Some rows against one panel.
struct Mxfp4Job {
  const DigitGroup* digits;  // [rows, groups]
  Index groups;
  const std::uint8_t* codes;  // [groups, 4, kPanel, 4]
  const std::uint8_t* scale;  // [groups, kPanel]
  PanelOutput out;
};

/// What twice a weight is kept above zero by, since one operand of the dot product is unsigned.
inline constexpr int kMxfp4Offset = 12;

/// x [k] to digits, zeros up to padded_depth(k). A NaN or an infinity makes the scale of its group NaN. Units are not
/// below 2^-121.
[[gnu::target("avx512f,avx512bw,avx512vl")]] inline void to_digits(const float* x, Index k, DigitGroup* to) {
  for (Index k0 = 0; k0 < padded_depth(k); k0 += kMxfp4Group, ++to) {
    __m512 v[2];
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const Index left = std::clamp<Index>(k - k0 - 16 * half, 0, 16);
      v[half] = _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << left) - 1), x + (left > 0 ? k0 + 16 * half : 0));
    }
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const auto most = static_cast<std::uint32_t>(
        _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(v[0]), magnitude),
                                                 _mm512_and_si512(_mm512_castps_si512(v[1]), magnitude))));
    const bool finite = most < 0x7f800000;
    // The largest is 2^exponent or more and less than twice that.
    const int exponent = std::max(static_cast<int>(most >> 23) - 127, -100);
    const __m512 inverse = _mm512_set1_ps(std::bit_cast<float>(static_cast<std::uint32_t>(127 + 21 - exponent) << 23));
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m512i q = finite ? _mm512_cvtps_epi32(_mm512_mul_ps(v[half], inverse)) : _mm512_setzero_si512();
      const __m512i middle = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(128)), 8);
      const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(middle, _mm512_set1_epi32(128)), 8);
      sum = _mm512_add_epi32(sum, q);
      const __m128i digits[] = {_mm512_cvtepi32_epi8(high), _mm512_cvtepi32_epi8(middle), _mm512_cvtepi32_epi8(q)};
#pragma GCC unroll 3
      for (int d = 0; d < DigitGroup::kDigits; ++d) std::memcpy(to->digit[d] + 16 * half, &digits[d], 16);
    }
    to->scale = finite ? std::bit_cast<float>(static_cast<std::uint32_t>(127 - 22 + exponent) << 23)
                       : std::numeric_limits<float>::quiet_NaN();
    const auto total = static_cast<std::uint32_t>(_mm512_reduce_add_epi32(sum));
    to->start = static_cast<std::int32_t>(0u - static_cast<std::uint32_t>(kMxfp4Offset) * total);
  }
}

/// 2^(s - 127) for 16 scales, the smallest of which is no normal float, and NaN for 255.
[[gnu::always_inline, gnu::target("avx512f,avx512bw,avx512vl")]] inline __m512 scale_values(const std::uint8_t* scale) {
  __m128i bytes;
  std::memcpy(&bytes, scale, sizeof bytes);
  const __m512i s = _mm512_cvtepu8_epi32(bytes);
  const __m512i bits = _mm512_max_epu32(_mm512_slli_epi32(s, 23), _mm512_set1_epi32(0x00400000));
  const __mmask16 nan = _mm512_cmpeq_epi32_mask(s, _mm512_set1_epi32(255));
  return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, nan, _mm512_set1_epi32(0x7fc00000)));
}

/// Sums of four products of unsigned weights and signed digits, which are read from memory each time: g++ 12 would keep
/// all of them, repeated 16 times, in more registers than there are.
[[gnu::always_inline, gnu::target("avx512f,avx512vnni")]] inline void add_dot(__m512i& sum, __m512i w,
                                                                              const std::int8_t* x) {
  asm("vpdpbusd {%2%{1to16%}, %1, %0|%0, %1, %2%{1to16%}}"
      : "+v"(sum)
      : "v"(w), "m"(*reinterpret_cast<const std::int8_t(*)[4]>(x)));
}

/// With kVbmi by a look-up that takes no notice of the two upper bits of a byte, and so, in a table that is there four
/// times, of none but the code's.
template <int kRows, bool kVbmi>
[[gnu::target("avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]] void run_mxfp4(const Mxfp4Job& job) {
  // 12 + 2 v for the 16 codes.
  const __m512i values =
      _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
  [[maybe_unused]] const __m512i nibble = _mm512_set1_epi8(15);
  __m512 total[kRows][2];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) total[i][0] = total[i][1] = _mm512_setzero_ps();
  const DigitGroup* digits[kRows];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) digits[i] = job.digits + i * job.groups;
  const std::uint8_t* codes = job.codes;
  const std::uint8_t* scale = job.scale;
  for (Index group = 0; group < job.groups; ++group, codes += 4 * kStepBytes, scale += kPanel) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      __m512i high[kRows], middle[kRows], low[kRows];
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) {
        high[i] = middle[i] = _mm512_setzero_si512();
        low[i] = _mm512_set1_epi32(digits[i]->start);
      }
#pragma GCC unroll 4
      for (int step = 0; step < 4; ++step) {
        const std::uint8_t* const line = codes + step * kStepBytes + half * 64;
        const __m512i pair = _mm512_loadu_si512(line);
        const __m512i upper = _mm512_srli_epi16(pair, 4);
        __m512i w[2];
        if constexpr (kVbmi) {
          w[0] = _mm512_permutexvar_epi8(pair, values), w[1] = _mm512_permutexvar_epi8(upper, values);
        } else {
          w[0] = _mm512_shuffle_epi8(values, _mm512_and_si512(pair, nibble));
          w[1] = _mm512_shuffle_epi8(values, _mm512_and_si512(upper, nibble));
        }
#pragma GCC unroll 2
        for (int part = 0; part < 2; ++part)
#pragma GCC unroll 4
          for (int i = 0; i < kRows; ++i) {
            const auto& digit = digits[i]->digit;
            add_dot(high[i], w[part], digit[0] + 8 * step + 4 * part);
            add_dot(middle[i], w[part], digit[1] + 8 * step + 4 * part);
            add_dot(low[i], w[part], digit[2] + 8 * step + 4 * part);
          }
      }
      const __m512 column_scale = scale_values(scale + half * 16);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) {
        const __m512i upper = _mm512_add_epi32(_mm512_slli_epi32(high[i], 8), middle[i]);
        const __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(upper, 8), low[i]));
        const __m512 row_scale = _mm512_set1_ps(digits[i]->scale);
        total[i][half] = _mm512_fmadd_ps(_mm512_mul_ps(sum, row_scale), column_scale, total[i][half]);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) ++digits[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
    store_half(job.out, i, 0, total[i][0]);
    store_half(job.out, i, 16, total[i][1]);
  }
}

/// Rows of a tile: 12 sums, 8 results, 8 weights of 32 registers.
inline constexpr int kMxfp4Rows = 4;

/// All rows against one panel; `job` tells of the first row. Nothing is fetched ahead: each group begins new sums, so
/// the CPU sees far enough.
inline void multiply_mxfp4(Mxfp4Job job, Index rows) {
  using Tiles = std::array<void (*)(const Mxfp4Job&), kMxfp4Rows>;
  constexpr Tiles kShuffled{&run_mxfp4<1, false>, &run_mxfp4<2, false>, &run_mxfp4<3, false>, &run_mxfp4<4, false>};
  constexpr Tiles kLookedUp{&run_mxfp4<1, true>, &run_mxfp4<2, true>, &run_mxfp4<3, true>, &run_mxfp4<4, true>};
  const Tiles& tiles = cpu().has(CpuFeatures{CpuFeature::avx512_vbmi}) ? kLookedUp : kShuffled;
  const BalancedSplit split(rows, kMxfp4Rows);
  const Mxfp4Job first = job;
  for (Index block = 0; block < split.count; ++block) {
    job.digits = first.digits + split.begin(block) * job.groups;
    job.out.c = first.out.c + split.begin(block) * job.out.stride;
    tiles[static_cast<std::size_t>(split.size(block) - 1)](job);
  }
}

}  // namespace gatefold::kernels::avx512
#endif
