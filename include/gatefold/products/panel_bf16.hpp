#pragma once
#include "gatefold/products/amx.hpp"
#include "gatefold/products/panel_strip.hpp"

/// Weights rounded to bf16: half the bytes of fp32, relative error 2^-8 at most. Pairs (k, k+1) of an output lie side
/// by side in 32 bits, which is the order of vdpbf16ps and of AMX; widening is one shift or mask.
namespace gatefold::kernels {

template <>
struct PanelView<bf16> {
  const bf16* w;  // [padded_depth(k) / 2, kPanel, 2]
  Index k;

  /// k0..k1 of it; k0 a multiple of kDepthGroup, k1 too or k.
  PanelView depth(Index k0, Index k1) const { return {w + k0 * kPanel, k1 - k0}; }
  PanelView shifted(Index values, Index) const { return {w + values, k}; }
};

/// Values of a packed panel.
template <class F>
requires std::is_same_v<F, bf16>
constexpr Index panel_values(Index k) { return padded_depth(k) * kPanel; }

/// Up to kPanel rows of weights, w [<= kPanel, K], to one panel, zeros elsewhere.
inline void pack_panel_bf16(Rows<const float> w, bf16* to) {
  const Index k = w.extent(1);
  std::fill_n(to, panel_values<bf16>(k), bf16());
  for (Index j = 0; j < w.extent(0); ++j)
    for (Index i = 0; i < k; ++i) to[(i / 2 * kPanel + j) * 2 + i % 2] = bf16(w(j, i));
}

/// The values of a panel. // w [<= kPanel, K]
inline void unpack_panel(const PanelView<bf16>& panel, Rows<float> w) {
  for (Index j = 0; j < w.extent(0); ++j)
    for (Index i = 0; i < w.extent(1); ++i) w(j, i) = static_cast<float>(panel.w[(i / 2 * kPanel + j) * 2 + i % 2]);
}

/// How activations meet bf16 weights: as the caller's fp32 (`rows`), as a padded copy of it, or rounded to bf16 for the
/// dot products of AVX-512 or for AMX tiles.
enum class Bf16Activations { rows, padded, rounded, tiles };

inline Bf16Activations bf16_activations(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::avx512:
      return cpu().fast_bf16_dot ? Bf16Activations::rounded : Bf16Activations::padded;
    case Isa::amx:
      return Bf16Activations::tiles;
#endif
    default:
      return Bf16Activations::rows;
  }
}

template <>
struct PreparedRows<bf16> {
  Bf16Activations form;
  Index rows, k;
  const float* const* row;  ///< The caller's pointers, which must live as long as this.
  const std::byte* data;
  Index row_bytes;
};

namespace detail {
/// An odd number of cache lines, so that the same column of many rows falls into different sets of L1.
constexpr Index padded_row_bytes(Index bytes) { return (bytes + 63) / 64 * 64 | 64; }

constexpr Index bf16_row_bytes(Bf16Activations form, Index k) {
  return padded_row_bytes(padded_depth(k) * (form == Bf16Activations::padded ? 4 : 2));
}

constexpr Index prepared_bytes_bf16(Bf16Activations form, Index rows, Index k) {
  switch (form) {
    case Bf16Activations::rows:
      return 0;
    case Bf16Activations::tiles:
      return (rows + 15) / 16 * 16 * padded_depth(k) * 2;
    default:
      return rows * bf16_row_bytes(form, k);
  }
}

inline PreparedRows<bf16> prepare_bf16(Bf16Activations form, const float* const* row, Index rows, Index k,
                                       std::byte* scratch) {
  PreparedRows<bf16> a{form, rows, k, row, scratch, bf16_row_bytes(form, k)};
#if defined(__x86_64__)
  if (form == Bf16Activations::padded)
    for (Index i = 0; i < rows; ++i) {
      auto* const to = reinterpret_cast<float*>(scratch + i * a.row_bytes);
      std::copy_n(row[i], k, to);
      std::fill(to + k, to + padded_depth(k), 0.0f);
    }
  if (form == Bf16Activations::rounded)
    for (Index i = 0; i < rows; ++i) avx512::round_row(row[i], k, scratch + i * a.row_bytes, 64);
  if (form == Bf16Activations::tiles) {
    const Index block_bytes = padded_depth(k) / 32 * amx::kTileBytes;
    for (Index i = 0; i < (rows + 15) / 16 * 16; ++i)
      avx512::round_row(i < rows ? row[i] : nullptr, i < rows ? k : 0, scratch + i / 16 * block_bytes + i % 16 * 64,
                        amx::kTileBytes);
  }
#endif
  return a;
}

inline void multiply_portable(const PreparedRows<bf16>& a, const PanelView<bf16>& panel, const PanelOutput& out) {
  for (Index i = 0; i < a.rows; ++i) {
    float sum[kPanel] = {};
    for (Index k = 0; k < a.k; ++k)
      for (Index j = 0; j < kPanel; ++j)
        sum[j] += a.row[i][k] * static_cast<float>(panel.w[(k / 2 * kPanel + j) * 2 + k % 2]);
    store_row(out, i, sum);
  }
}

#if GATEFOLD_HAS_SIMD
template <class Arch = simd::DefaultArch>
void multiply_simd(const PreparedRows<bf16>& a, const PanelView<bf16>& panel, const PanelOutput& out) {
  constexpr Index kWidth = simd::kLanes<float, Arch>;
  multiply_strips<Arch>(
      {a.row, a.rows, a.k, kStripDepth, out},
      [&](Index k0, Index depth, float* strip) {
        for (Index k = 0; k < depth; k += 2)
          for (Index j = 0; j < kPanel; j += kWidth) {
            const auto pair = simd::load_words<Arch>(panel.w + ((k0 + k) / 2 * kPanel + j) * 2);
            simd::bits_as<float>(pair << 16).store_aligned(strip + k * kPanel + j);
            simd::bits_as<float>(pair & simd::Batch<std::int32_t, Arch>(-0x10000))
                .store_aligned(strip + (k + 1) * kPanel + j);
          }
      },
      [](Index, Index, float*) {});
}
#endif
}  // namespace detail

/// Bytes of scratch that prepare_rows needs.
template <class F>
requires std::is_same_v<F, bf16> Index prepared_bytes(Isa isa, Index rows, Index k) {
  return detail::prepared_bytes_bf16(bf16_activations(isa), rows, k);
}

template <class F>
requires std::is_same_v<F, bf16>
bool refers_to_rows(Isa isa) { return bf16_activations(isa) == Bf16Activations::rows; }

/// Activations for multiply_panel. The result refers to `row` and to `scratch`, which is 64-byte aligned.
template <class F>
requires std::is_same_v<F, bf16> PreparedRows<bf16> prepare_rows(Isa isa, const float* const* row, Index rows, Index k,
                                                                 std::byte* scratch) {
  return detail::prepare_bf16(bf16_activations(isa), row, rows, k, scratch);
}

/// c [rows, columns] (+)= a wᵀ (+ bias) for the outputs of one panel. A row with a NaN or an infinity gives what the
/// arithmetic gives, in that row only. `avx512` (where it rounds) and `amx` round activations to bf16 and take
/// denormals for zero. 2 rows k columns flops.
inline void multiply_panel(Isa isa, const PreparedRows<bf16>& a, const PanelView<bf16>& panel, float* c, Index c_stride,
                           Index columns, Store store, const float* bias,
                           [[maybe_unused]] const void* prefetch = nullptr) {
  assert(a.k == panel.k && columns <= kPanel);
  const PanelOutput out{c, c_stride, columns, store, bias};
#if defined(__x86_64__)
  if (a.form != Bf16Activations::rows) {
    const avx512::TileJob job{.rows = a.data,
                              .row_bytes = a.row_bytes,
                              .panel = reinterpret_cast<const std::byte*>(panel.w),
                              .chunks = 0,
                              .out = out};
    if (a.form == Bf16Activations::rounded) return avx512::multiply<avx512::DotBf16>(job, a.rows, a.k, prefetch);
    if (a.form == Bf16Activations::padded) return avx512::multiply<avx512::WidenBf16>(job, a.rows, a.k, prefetch);
    return amx::multiply<16>(job, a.rows, padded_depth(a.k) / 32, prefetch);
  }
#endif
#if GATEFOLD_HAS_SIMD
  if (isa != Isa::portable) return detail::multiply_simd(a, panel, out);
#endif
  detail::multiply_portable(a, panel, out);
}

/// See for_each_in_streams in panel.hpp.
inline Index multiply_few_rows([[maybe_unused]] Isa isa, [[maybe_unused]] std::span<const PreparedRows<bf16>> pieces,
                               [[maybe_unused]] const PanelRun<bf16>& run, [[maybe_unused]] const PanelOutput& out) {
#if defined(__x86_64__)
  if (pieces[0].form == Bf16Activations::rounded)
    return avx512::multiply_few_rows<avx512::DotBf16>(
        pieces, run, out, [](const auto& a, const auto& panel, const PanelOutput& to) {
          return avx512::TileJob{.rows = a.data,
                                 .row_bytes = a.row_bytes,
                                 .panel = reinterpret_cast<const std::byte*>(panel.w),
                                 .chunks = 0,
                                 .out = to};
        });
#endif
  return 0;
}

}  // namespace gatefold::kernels
