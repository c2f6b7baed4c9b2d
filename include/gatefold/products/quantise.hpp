#pragma once
#include <bit>
#include <cmath>
#include <limits>

#include "gatefold/products/amx.hpp"

/// Activations to 8 bits, on the fly. A run of values (a row, or 64 of it) gets one scale.
namespace gatefold::kernels {

/// x = q * scale. Symmetric: q in -127..127.
struct Quantiser {
  float scale, inverse;

  /// For values of this largest magnitude, given as bits, which are above those of infinity if there was a NaN. With
  /// NaN or infinity the scale is NaN, and so is every product; below 1e-30 everything counts as 0.
  static Quantiser of(std::uint32_t magnitude_bits) {
    if (magnitude_bits >= 0x7f800000) return {std::numeric_limits<float>::quiet_NaN(), 0};
    const float most = std::bit_cast<float>(magnitude_bits);
    return most < 1e-30f ? Quantiser{0, 0} : Quantiser{most / 127, 127 / most};
  }
};

namespace detail {

inline std::uint32_t magnitude_bits(const float* x, Index k) {
  std::uint32_t most = 0;
  for (Index i = 0; i < k; ++i) most = std::max(most, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffff);
  return most;
}

/// Where q goes: 8 bits, 64 of them every piece_bytes, zeros up to a multiple of 64.
struct BytePieces {
  std::byte* to;
  Index piece_bytes = kDepthGroup;
};

struct QuantisedRun {
  float scale;
  std::int32_t sum;  ///< of q
};

/// By plain loops, to int8 or, for the fp32 tiles, to float.
template <class Q>
QuantisedRun quantise_run(const float* x, Index k, Q* to) {
  const auto q = Quantiser::of(magnitude_bits(x, k));
  std::fill(to + k, to + padded_depth(k), Q(0));
  if (q.inverse == 0) {
    std::fill_n(to, k, Q(0));
    return {q.scale, 0};
  }
  std::int32_t sum = 0;
  for (Index i = 0; i < k; ++i) {
    const float v = std::nearbyint(x[i] * q.inverse);  // ties to even, as cvtps2dq
    to[i] = static_cast<Q>(v);
    sum += static_cast<std::int32_t>(v);
  }
  return {q.scale, sum};
}

#if defined(__x86_64__)
/// The same integers by AVX-512.
inline QuantisedRun quantise_run_avx512(const float* x, Index k, BytePieces pieces) {
  const auto q = Quantiser::of(avx512::magnitude_bits(x, k));
  // Without a finite scale nothing is read: x times 0 would not be 0.
  const bool empty = q.inverse == 0;
  for (Index at = 0; empty && at < padded_depth(k); at += kDepthGroup)
    std::fill_n(pieces.to + at / kDepthGroup * pieces.piece_bytes, kDepthGroup, std::byte{0});
  return {q.scale, empty ? 0 : avx512::quantise_row(x, k, q.inverse, pieces.to, pieces.piece_bytes)};
}
#endif

}  // namespace detail
}  // namespace gatefold::kernels
