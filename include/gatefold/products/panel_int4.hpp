#pragma once
#include "gatefold/products/panel_int.hpp"

/// Weights of 4 bits with one scale for each 64 k of an output: 0.56 bytes a weight, for decoding. They are kept with
/// an offset, u = q + 8 in 0..15; 8 times the sum of the activations of a group comes off again.
namespace gatefold::kernels {

template <>
struct PanelView<int4> {
  const std::uint8_t* u;  // [padded_depth(k) / 8, kPanel, 4]: byte i holds k + i below and k + 4 + i above
  const float* scale;     // [padded_depth(k) / kDepthGroup, kPanel]
  Index k;

  /// k0..k1 of it; k0 a multiple of kDepthGroup, k1 too or k.
  PanelView depth(Index k0, Index k1) const {
    return {u + k0 * kPanel / 2, scale + k0 / kDepthGroup * kPanel, k1 - k0};
  }
  PanelView shifted(Index values, Index scales) const { return {u + values, scale + scales, k}; }
};

/// Bytes of a packed panel, without its scales.
template <class F>
requires std::is_same_v<F, int4>
constexpr Index panel_values(Index k) { return padded_depth(k) * kPanel / 2; }

/// Scales of a packed panel.
template <class F>
requires std::is_same_v<F, int4>
constexpr Index panel_scales(Index k) { return padded_depth(k) / kDepthGroup * kPanel; }

namespace detail {

/// The scale of a group of weights, x ≈ q * scale with q in -8..7: the least squared error among scales that let the
/// value of largest magnitude become -8 or somewhat more or less, each refined by least squares.
inline float int4_scale(const float* x, Index k) {
  Index at = 0;
  bool finite = true;
  for (Index i = 0; i < k; ++i) {
    if (std::abs(x[i]) > std::abs(x[at])) at = i;
    finite = finite && std::isfinite(x[i]);
  }
  if (!finite) return std::numeric_limits<float>::quiet_NaN();
  if (k == 0 || std::abs(x[at]) < 1e-30f) return 0;
  const float most = x[at];
  float unit[kDepthGroup];  // of the largest value: no square overflows
  for (Index i = 0; i < k; ++i) unit[i] = x[i] / most;
  float best = 0, best_gain = -1;
  for (const float levels : {-6.5f, -7.0f, -7.5f, -8.0f, -8.5f, -9.0f, 6.0f, 6.5f, 7.0f, 7.5f, 8.0f}) {
    float xq = 0, qq = 0;
    for (Index i = 0; i < k; ++i) {
      const float q = std::clamp(std::nearbyint(unit[i] * levels), -8.0f, 7.0f);
      xq += unit[i] * q;
      qq += q * q;
    }
    // The sum of (x - s q)^2 is least at s = xq / qq, where it has lost xq^2 / qq.
    if (xq * xq / qq > best_gain) best_gain = xq * xq / qq, best = most * (xq / qq);
  }
  return best;
}

inline Index int4_byte(Index k, Index j) { return (k / 8 * kPanel + j) * 4 + k % 4; }
inline int int4_shift(Index k) { return k % 8 < 4 ? 0 : 4; }
inline int int4_value(const std::uint8_t* u, Index k, Index j) {
  return (u[int4_byte(k, j)] >> int4_shift(k) & 15) - 8;
}

}  // namespace detail

/// Up to kPanel rows of weights, w [<= kPanel, K], to one panel. A group with a NaN or an infinity gets the scale NaN.
/// What is padding is 0 with scale 0.
inline void pack_panel_int4(Rows<const float> w, std::uint8_t* u, float* scale) {
  const Index k = w.extent(1);
  std::fill_n(u, panel_values<int4>(k), std::uint8_t{0x88});
  std::fill_n(scale, panel_scales<int4>(k), 0.0f);
  for (Index j = 0; j < w.extent(0); ++j)
    for (Index k0 = 0; k0 < k; k0 += kDepthGroup) {
      const float* const x = w.data() + j * w.stride(0) + k0;
      const Index count = std::min(kDepthGroup, k - k0);
      const float s = detail::int4_scale(x, count);
      scale[k0 / kDepthGroup * kPanel + j] = s;
      for (Index i = 0; i < count && std::abs(s) > 0; ++i) {
        const auto q = static_cast<int>(std::clamp(std::nearbyint(x[i] / s), -8.0f, 7.0f));
        auto& byte = u[detail::int4_byte(k0 + i, j)];
        const int shift = detail::int4_shift(i);
        byte = static_cast<std::uint8_t>((byte & ~(15 << shift)) | (q + 8) << shift);
      }
    }
}

/// The values of a panel. // w [<= kPanel, K]
inline void unpack_panel(const PanelView<int4>& panel, Rows<float> w) {
  for (Index j = 0; j < w.extent(0); ++j)
    for (Index i = 0; i < w.extent(1); ++i)
      w(j, i) = static_cast<float>(detail::int4_value(panel.u, i, j)) * panel.scale[i / kDepthGroup * kPanel + j];
}

namespace detail {
inline void multiply_portable(const PreparedRows<int4>& a, const PanelView<int4>& panel, const PanelOutput& out) {
  for (Index i = 0; i < a.rows; ++i) {
    const auto* const q = reinterpret_cast<const std::int8_t*>(a.data + i * a.row_bytes);
    float product[kPanel] = {};
    for (Index k0 = 0; k0 < a.k; k0 += kDepthGroup) {
      const Index group = k0 / kDepthGroup;
      std::int32_t sum[kPanel] = {};
      for (Index k = k0; k < std::min(a.k, k0 + kDepthGroup); ++k)
        for (Index j = 0; j < kPanel; ++j) sum[j] += q[k] * int4_value(panel.u, k, j);
      for (Index j = 0; j < kPanel; ++j)
        product[j] +=
            static_cast<float>(sum[j]) * (a.scale[i * a.row_groups + group] * panel.scale[group * kPanel + j]);
    }
    store_row(out, i, product);
  }
}

#if GATEFOLD_HAS_SIMD
template <class Arch = simd::DefaultArch>
void multiply_simd(const PreparedRows<int4>& a, const PanelView<int4>& panel, const PanelOutput& out) {
  using Words = simd::Batch<std::int32_t, Arch>;
  using Floats = simd::Batch<float, Arch>;
  constexpr Index kWidth = simd::kLanes<float, Arch>;
  multiply_strips<Arch>(
      {a.row, a.rows, a.k, kDepthGroup, out},
      [&](Index k0, Index depth, float* strip) {
        for (Index k = 0; k < depth; k += 8)
          for (Index j = 0; j < kPanel; j += kWidth) {
            const auto eight = simd::load_words<Arch>(panel.u + ((k0 + k) / 8 * kPanel + j) * 4);
            for (int i = 0; i < 8; ++i)
              (xsimd::to_float((eight >> (8 * (i % 4) + 4 * (i / 4))) & Words(15)) - Floats(8))
                  .store_aligned(strip + (k + i) * kPanel + j);
          }
      },
      [&](Index row, Index k0, float* product) {
        const Index group = k0 / kDepthGroup;
        simd::transform<float, Arch>(
            Isa::simd, kPanel, [x = a.scale[row * a.row_groups + group]](auto v, auto w) { return v * (w * x); },
            product, product, panel.scale + group * kPanel);
      });
}
#endif
}  // namespace detail

/// c [rows, columns] (+)= a wᵀ (+ bias) for the outputs of one panel: exact sums of integers for each group, added up
/// in fp32. `amx` runs the kernels of `avx512`. 2 rows k columns operations.
inline void multiply_panel([[maybe_unused]] Isa isa, const PreparedRows<int4>& a, const PanelView<int4>& panel,
                           float* c, Index c_stride, Index columns, Store store, const float* bias,
                           [[maybe_unused]] const void* prefetch = nullptr) {
  assert(a.k == panel.k && columns <= kPanel);
  const PanelOutput out{c, c_stride, columns, store, bias};
#if GATEFOLD_HAS_SIMD
  if (a.form == IntActivations::floats) return detail::multiply_simd(a, panel, out);
#endif
#if defined(__x86_64__)
  if (isa >= Isa::avx512)
    return avx512::multiply<avx512::DotInt<4>>(detail::tile_job(a, panel.u, panel.scale, out), a.rows, a.k, prefetch);
#endif
  detail::multiply_portable(a, panel, out);
}

}  // namespace gatefold::kernels
