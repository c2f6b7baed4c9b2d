#pragma once
#include <array>
#include <cstdint>

#include "gatefold/core/isa.hpp"
#include "gatefold/simd/simd.hpp"

namespace gatefold::kernels {

/// Whom the tokens ask, in order: expert[i * stride] for i < count, each from 0.
struct Claims {
  const Index* expert;
  Index stride, count;
};

inline constexpr Index kFewExperts = 8;  // whose claims AVX-512 counts many at a time

namespace detail {

#ifdef __AVX512F__
/// v moved up by kLanes, zeros below.
template <int kLanes>
inline __m512i lanes_up(__m512i v) {
  return _mm512_alignr_epi32(v, _mm512_setzero_si512(), 16 - kLanes);
}

/// 16 claims to up to 8 experts at a time, without a step from claim to claim: a claim is a 1 in one of eight fields of
/// four bits, and the sums over the lanes before it count for all experts at once.
inline Index count_claims_of_few(const Claims& claims, Index num_experts, std::uint32_t* claimed, std::uint32_t* seat) {
  alignas(64) std::array<std::uint32_t, 16> made{};
  std::copy_n(claimed, num_experts, made.data());
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i even = _mm512_slli_epi32(lane, 1), one = _mm512_set1_epi32(1), field = _mm512_set1_epi32(15);
  const __m512i last = field, field_of_lane = _mm512_slli_epi32(_mm512_and_si512(lane, _mm512_set1_epi32(7)), 2);
  const auto low_words = [&](const Index* p) {  // of 16 numbers
    return _mm512_permutex2var_epi32(_mm512_loadu_si512(p), even, _mm512_loadu_si512(p + 8));
  };
  __m512i before = _mm512_load_si512(made.data());
  Index i = 0;
  for (; i + 16 <= claims.count; i += 16) {
    const Index* const p = claims.expert + i * claims.stride;
    __m512i expert = low_words(p);
    if (claims.stride == 2) {
      // The last claim's neighbour is left alone: it may be another's, or no memory at all.
      const __m512i rest =
          _mm512_permutex2var_epi32(_mm512_loadu_si512(p + 16), even, _mm512_maskz_loadu_epi64(0x7f, p + 24));
      expert = _mm512_permutex2var_epi32(expert, even, rest);
    }
    const __m512i bit = _mm512_slli_epi32(expert, 2);
    __m512i sum = lanes_up<1>(_mm512_sllv_epi32(one, bit));  // of up to 15 claims: fits
    sum = _mm512_add_epi32(sum, lanes_up<1>(sum));
    sum = _mm512_add_epi32(sum, lanes_up<2>(sum));
    sum = _mm512_add_epi32(sum, lanes_up<4>(sum));
    sum = _mm512_add_epi32(sum, lanes_up<8>(sum));
    const __m512i here = _mm512_and_si512(_mm512_srlv_epi32(sum, bit), field);
    _mm512_storeu_si512(seat + i, _mm512_add_epi32(here, _mm512_permutexvar_epi32(expert, before)));
    const __m512i all_but_last = _mm512_srlv_epi32(_mm512_permutexvar_epi32(last, sum), field_of_lane);
    const __mmask16 is_last = _mm512_cmpeq_epi32_mask(_mm512_permutexvar_epi32(last, expert), lane);
    before = _mm512_add_epi32(before, _mm512_and_si512(all_but_last, field));
    before = _mm512_mask_add_epi32(before, is_last, before, one);
  }
  _mm512_store_si512(made.data(), before);
  std::copy_n(made.data(), num_experts, claimed);
  return i;
}
#endif

}  // namespace detail

/// seat[i] = how many claims of claimed[e] so far, which then counts this one. // claimed [E], seat [count]
inline void count_claims([[maybe_unused]] Isa isa, const Claims& claims, [[maybe_unused]] Index num_experts,
                         std::uint32_t* claimed, std::uint32_t* seat) {
  Index i = 0;
#ifdef __AVX512F__
  if (isa != Isa::portable && num_experts <= kFewExperts && claims.stride <= 2)
    i = detail::count_claims_of_few(claims, num_experts, claimed, seat);
#endif
  for (; i < claims.count; ++i) seat[i] = claimed[claims.expert[i * claims.stride]]++;
}

}  // namespace gatefold::kernels
