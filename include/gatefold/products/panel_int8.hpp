#pragma once
#include "gatefold/products/panel_int.hpp"

/// Weights of 8 bits with one scale for each output: a quarter of the bytes of fp32. Four k of an output lie side by
/// side in 32 bits, which is the order of vpdpbusd and of AMX. They are kept with an offset, u = q + 128 in 1..255,
/// since both want one unsigned operand; 128 times the sum of a row's activations comes off again.
namespace gatefold::kernels {

template <>
struct PanelView<int8> {
  const std::uint8_t* u;  // [padded_depth(k) / 4, kPanel, 4]
  const float* scale;     // [kPanel]
  Index k;                // <= 65536: the 32-bit sums of products

  /// k0..k1 of it; k0 a multiple of kDepthGroup, k1 too or k.
  PanelView depth(Index k0, Index k1) const { return {u + k0 * kPanel, scale, k1 - k0}; }
  PanelView shifted(Index values, Index scales) const { return {u + values, scale + scales, k}; }
};

/// Bytes of a packed panel, without its kPanel scales.
template <class F>
requires std::is_same_v<F, int8>
constexpr Index panel_values(Index k) { return padded_depth(k) * kPanel; }

/// Up to kPanel rows of weights, w [<= kPanel, K], to one panel. The scale of an output is its largest magnitude / 127;
/// an output with a NaN or an infinity gets the scale NaN. What is padding is 0 with scale 0.
inline void pack_panel_int8(Rows<const float> w, std::uint8_t* u, float* scale) {
  const Index k = w.extent(1);
  std::fill_n(u, panel_values<int8>(k), std::uint8_t{128});
  std::fill_n(scale, kPanel, 0.0f);
  for (Index j = 0; j < w.extent(0); ++j) {
    const float* const row = w.data() + j * w.stride(0);
    const auto q = Quantiser::of(detail::magnitude_bits(row, k));
    scale[j] = q.scale;
    for (Index i = 0; i < k && q.inverse != 0; ++i)
      u[(i / 4 * kPanel + j) * 4 + i % 4] =
          static_cast<std::uint8_t>(static_cast<int>(std::nearbyint(row[i] * q.inverse)) + 128);
  }
}

/// The values of a panel. // w [<= kPanel, K]
inline void unpack_panel(const PanelView<int8>& panel, Rows<float> w) {
  for (Index j = 0; j < w.extent(0); ++j)
    for (Index i = 0; i < w.extent(1); ++i)
      w(j, i) = static_cast<float>(panel.u[(i / 4 * kPanel + j) * 4 + i % 4] - 128) * panel.scale[j];
}

namespace detail {
inline void multiply_portable(const PreparedRows<int8>& a, const PanelView<int8>& panel, const PanelOutput& out) {
  for (Index i = 0; i < a.rows; ++i) {
    const auto* const q = reinterpret_cast<const std::int8_t*>(a.data + i * a.row_bytes);
    std::int32_t sum[kPanel] = {};
    for (Index k = 0; k < a.k; ++k)
      for (Index j = 0; j < kPanel; ++j) sum[j] += q[k] * (panel.u[(k / 4 * kPanel + j) * 4 + k % 4] - 128);
    float product[kPanel];
    for (Index j = 0; j < kPanel; ++j) product[j] = static_cast<float>(sum[j]) * (a.scale[i] * panel.scale[j]);
    store_row(out, i, product);
  }
}

#if GATEFOLD_HAS_SIMD
template <class Arch = simd::DefaultArch>
void multiply_simd(const PreparedRows<int8>& a, const PanelView<int8>& panel, const PanelOutput& out) {
  using Words = simd::Batch<std::int32_t, Arch>;
  using Floats = simd::Batch<float, Arch>;
  constexpr Index kWidth = simd::kLanes<float, Arch>;
  multiply_strips<Arch>(
      {a.row, a.rows, a.k, kStripDepth, out},
      [&](Index k0, Index depth, float* strip) {
        for (Index k = 0; k < depth; k += 4)
          for (Index j = 0; j < kPanel; j += kWidth) {
            const auto four = simd::load_words<Arch>(panel.u + ((k0 + k) / 4 * kPanel + j) * 4);
            for (int i = 0; i < 4; ++i)
              (xsimd::to_float((four >> (8 * i)) & Words(255)) - Floats(128))
                  .store_aligned(strip + (k + i) * kPanel + j);
          }
      },
      [&](Index row, Index, float* product) {
        simd::transform<float, Arch>(
            Isa::simd, kPanel, [x = a.scale[row]](auto v, auto w) { return v * (w * x); }, product, product,
            panel.scale);
      });
}
#endif
}  // namespace detail

/// c [rows, columns] (+)= a wᵀ (+ bias) for the outputs of one panel: exact sums of integers, then one rounding for
/// each of the scales. 2 rows k columns operations.
inline void multiply_panel([[maybe_unused]] Isa isa, const PreparedRows<int8>& a, const PanelView<int8>& panel,
                           float* c, Index c_stride, Index columns, Store store, const float* bias,
                           [[maybe_unused]] const void* prefetch = nullptr) {
  assert(a.k == panel.k && columns <= kPanel);
  const PanelOutput out{c, c_stride, columns, store, bias};
#if GATEFOLD_HAS_SIMD
  if (a.form == IntActivations::floats) return detail::multiply_simd(a, panel, out);
#endif
#if defined(__x86_64__)
  const auto job = detail::tile_job(a, panel.u, panel.scale, out);
  if (a.form == IntActivations::tiles) return amx::multiply<8>(job, a.rows, padded_depth(a.k) / 64, prefetch);
  if (isa >= Isa::avx512) return avx512::multiply<avx512::DotInt<8>>(job, a.rows, a.k, prefetch);
#endif
  detail::multiply_portable(a, panel, out);
}

}  // namespace gatefold::kernels
