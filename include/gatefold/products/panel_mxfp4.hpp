#pragma once
#include "gatefold/core/small_float.hpp"
#include "gatefold/products/avx512_mxfp4.hpp"
#include "gatefold/products/panel_strip.hpp"

/// Weights as MXFP4 publishes them (OCP, «Microscaling formats» 1.0): 4-bit floats (E2M1) and one power of two for each
/// 32 k of an output, 0.53 bytes a weight. Panels hold the bytes of the file in another order, so nothing is rounded.
///
/// Activations are not rounded to 8 bits as for the integer formats, since the weights are exact: the vector unit takes
/// them as they are; AVX-512 as whole multiples of 2^-22 or less of the largest of each 32, in three digits of 8 bits,
/// because integer dot products do four times as much as fp32 multiply-adds (products/avx512_mxfp4.hpp).
namespace gatefold::kernels {

template <>
struct PanelView<mxfp4> {
  const std::uint8_t* u;      // [padded_depth(k) / 8, kPanel, 4]: byte i holds k + i below and k + 4 + i above
  const std::uint8_t* scale;  // [padded_depth(k) / kMxfp4Group, kPanel]: s stands for 2^(s - 127), 255 for NaN
  Index k;

  /// k0..k1 of it; k0 a multiple of kDepthGroup, k1 too or k.
  PanelView depth(Index k0, Index k1) const {
    return {u + k0 * kPanel / 2, scale + k0 / kMxfp4Group * kPanel, k1 - k0};
  }
  PanelView shifted(Index values, Index scales) const { return {u + values, scale + scales, k}; }
};

/// Bytes of a packed panel, without its scales.
template <class F>
requires std::is_same_v<F, mxfp4>
constexpr Index panel_values(Index k) { return padded_depth(k) * kPanel / 2; }

/// Scales of a packed panel.
template <class F>
requires std::is_same_v<F, mxfp4>
constexpr Index panel_scales(Index k) { return padded_depth(k) / kMxfp4Group * kPanel; }

/// Groups of an output of k inputs; the last one may be in part.
constexpr Index mxfp4_groups(Index k) { return (k + kMxfp4Group - 1) / kMxfp4Group; }

namespace detail {

/// The nearest of E2M1's magnitudes, ties to the even code, 6 for what is more.
inline std::uint8_t e2m1_code(float v) {
  const float m = std::abs(v);
  // Each middle that v is above, or at on the way to an even code; without a branch, for weights are as they are.
  const int code = (m > 0.25f) + (m >= 0.75f) + (m > 1.25f) + (m >= 1.75f) + (m > 2.5f) + (m >= 3.5f) + (m > 5);
  return static_cast<std::uint8_t>(std::signbit(v) ? code | 8 : code);
}

/// A group of weights, x [<= kMxfp4Group], to codes and the scale that is returned: OCP's, by which the largest is 4 or
/// more, or twice that, by which nothing is cut off, whichever loses less. 255 for a group with a NaN or an infinity.
inline std::uint8_t quantise_mxfp4(const float* x, Index k, std::uint8_t* code) {
  constexpr int kMost = 252;  // 6 times it is a float, the next power of two no longer
  float most = 0;
  bool finite = true;
  for (Index i = 0; i < k; ++i) most = std::max(most, std::abs(x[i])), finite = finite && std::isfinite(x[i]);
  std::fill_n(code, k, std::uint8_t{0});
  if (!finite) return 255;
  if (most == 0) return 127;
  const int least = std::clamp(std::ilogb(most) - 2 + 127, 0, kMost);
  int best = least;
  double best_error = std::numeric_limits<double>::infinity();
  // Powers of two, by which a double loses nothing.
  const auto power = [](int exponent) { return std::bit_cast<double>(std::int64_t{1023 + exponent} << 52); };
  for (int s = least; s <= std::min(least + 1, kMost); ++s) {
    double error = 0;
    for (Index i = 0; i < k; ++i) {
      const double unit = double{x[i]} * power(127 - s);
      const double off = (double{e2m1_value(e2m1_code(static_cast<float>(unit)))} - unit) * power(s - least);
      error += off * off;
    }
    if (error < best_error) best = s, best_error = error;
  }
  for (Index i = 0; i < k; ++i) code[i] = e2m1_code(static_cast<float>(double{x[i]} * power(127 - best)));
  return static_cast<std::uint8_t>(best);
}

inline Index mxfp4_byte(Index k, Index j) { return (k / 8 * kPanel + j) * 4 + k % 4; }
inline std::uint8_t mxfp4_code(const std::uint8_t* u, Index k, Index j) {
  return static_cast<std::uint8_t>(u[mxfp4_byte(k, j)] >> (k % 8 < 4 ? 0 : 4) & 15);
}

/// What is not filled: zeros, whose scale is 1.
inline void clear_panel_mxfp4(Index k, std::uint8_t* u, std::uint8_t* scale) {
  std::fill_n(u, panel_values<mxfp4>(k), std::uint8_t{0});
  std::fill_n(scale, panel_scales<mxfp4>(k), std::uint8_t{127});
}
inline void put_mxfp4(std::uint8_t code, Index k, Index j, std::uint8_t* u) {
  u[mxfp4_byte(k, j)] = static_cast<std::uint8_t>(u[mxfp4_byte(k, j)] | code << (k % 8 < 4 ? 0 : 4));
}

}  // namespace detail

/// Up to kPanel rows of a file to one panel. // blocks [<= kPanel, k / 32, 16], low half first; scales [.., k / 32]
inline void pack_panel_mxfp4(View<const std::uint8_t, 3> blocks, Rows<const std::uint8_t> scales, std::uint8_t* u,
                             std::uint8_t* scale) {
  const Index k = blocks.extent(1) * kMxfp4Group;
  detail::clear_panel_mxfp4(k, u, scale);
  for (Index j = 0; j < blocks.extent(0); ++j)
    for (Index g = 0; g < blocks.extent(1); ++g) {
      const std::uint8_t* const pair = blocks[j][g].data();
      scale[g * kPanel + j] = scales(j, g);
      for (Index i = 0; i < kMxfp4Group; ++i)
        detail::put_mxfp4(i % 2 ? pair[i / 2] >> 4 : pair[i / 2] & 15, g * kMxfp4Group + i, j, u);
    }
}

/// Up to kPanel rows of weights, rounded to the nearest, to one panel; see quantise_mxfp4. // w [<= kPanel, K]
inline void pack_panel_mxfp4(Rows<const float> w, std::uint8_t* u, std::uint8_t* scale) {
  const Index k = w.extent(1);
  detail::clear_panel_mxfp4(k, u, scale);
  for (Index j = 0; j < w.extent(0); ++j)
    for (Index k0 = 0; k0 < k; k0 += kMxfp4Group) {
      std::uint8_t code[kMxfp4Group];
      const Index count = std::min(kMxfp4Group, k - k0);
      scale[k0 / kMxfp4Group * kPanel + j] = detail::quantise_mxfp4(w.data() + j * w.stride(0) + k0, count, code);
      for (Index i = 0; i < count; ++i) detail::put_mxfp4(code[i], k0 + i, j, u);
    }
}

/// The values of a panel: exact, but infinite from 2^128 on, which only the two largest scales reach. // w [<= kPanel,
/// K]
inline void unpack_panel(const PanelView<mxfp4>& panel, Rows<float> w) {
  for (Index j = 0; j < w.extent(0); ++j)
    for (Index i = 0; i < w.extent(1); ++i)
      w(j, i) = e2m1_value(detail::mxfp4_code(panel.u, i, j)) * e8m0_value(panel.scale[i / kMxfp4Group * kPanel + j]);
}

/// Activations: the caller's fp32, or digits of it.
template <>
struct PreparedRows<mxfp4> {
  Index rows, k;
  const float* const* row;   ///< The caller's pointers, which must live as long as this; without digits only.
  const DigitGroup* digits;  // [rows, digit_groups(k)] or null
};

namespace detail {
inline bool takes_digits([[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  return isa >= Isa::avx512;
#else
  return false;
#endif
}

inline void multiply_portable(const PreparedRows<mxfp4>& a, const PanelView<mxfp4>& panel, const PanelOutput& out) {
  constexpr Index kRows = 8;  // for which a group is unpacked once
  for (Index i0 = 0; i0 < a.rows; i0 += kRows) {
    float product[kRows][kPanel] = {};
    const Index rows = std::min(kRows, a.rows - i0);
    for (Index k0 = 0; k0 < a.k; k0 += kMxfp4Group) {
      float value[kMxfp4Group][kPanel], scale[kPanel];
      const Index depth = std::min(kMxfp4Group, a.k - k0);
      for (Index k = 0; k < depth; ++k)
        for (Index j = 0; j < kPanel; ++j) value[k][j] = e2m1_value(mxfp4_code(panel.u, k0 + k, j));
      for (Index j = 0; j < kPanel; ++j) scale[j] = e8m0_value(panel.scale[k0 / kMxfp4Group * kPanel + j]);
      for (Index i = 0; i < rows; ++i) {
        float sum[kPanel] = {};
        for (Index k = 0; k < depth; ++k)
          for (Index j = 0; j < kPanel; ++j) sum[j] += a.row[i0 + i][k0 + k] * value[k][j];
        for (Index j = 0; j < kPanel; ++j) product[i][j] += sum[j] * scale[j];
      }
    }
    for (Index i = 0; i < rows; ++i) store_row(out, i0 + i, product[i]);
  }
}

#if GATEFOLD_HAS_SIMD
/// The values of 4-bit codes in the lowest bits, which need not be alone.
template <class Arch>
simd::Batch<float, Arch> e2m1_values(const simd::Batch<std::int32_t, Arch>& codes) {
  using Words = simd::Batch<std::int32_t, Arch>;
  using Floats = simd::Batch<float, Arch>;
#ifdef __AVX512F__
  if constexpr (Floats::size == 16) {
    alignas(64) constexpr float kValues[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    return simd::look_up(Floats::load_aligned(kValues), simd::bits_as<float>(codes));
  }
#endif
  // Up to 3 they are halves; from 2 on, exponent and fraction lie as in a float.
  const Words magnitude = codes & Words(7);
  const Floats small = xsimd::to_float(magnitude) * Floats(0.5f);
  const Floats value = select(small < Floats(1.5f), small, simd::bits_as<float>((magnitude << 22) + Words(126 << 23)));
  return simd::bits_as<float>(simd::bits_as<std::int32_t>(value) | ((codes & Words(8)) << 28));
}

template <class Arch = simd::DefaultArch>
void multiply_simd(const PreparedRows<mxfp4>& a, const PanelView<mxfp4>& panel, const PanelOutput& out) {
  using Floats = simd::Batch<float, Arch>;
  constexpr Index kWidth = simd::kLanes<float, Arch>;
  multiply_strips<Arch>(
      {a.row, a.rows, a.k, kStripDepth, out},
      [&](Index k0, Index depth, float* strip) {
        alignas(64) float scale[kPanel];
        for (Index k = 0; k < depth; k += 8) {
          if (k % kMxfp4Group == 0)
            for (Index j = 0; j < kPanel; ++j) scale[j] = e8m0_value(panel.scale[(k0 + k) / kMxfp4Group * kPanel + j]);
          for (Index j = 0; j < kPanel; j += kWidth) {
            const auto eight = simd::load_words<Arch>(panel.u + ((k0 + k) / 8 * kPanel + j) * 4);
            const Floats s = Floats::load_aligned(scale + j);
            for (int i = 0; i < 8; ++i)
              (e2m1_values<Arch>(eight >> (8 * (i % 4) + 4 * (i / 4))) * s).store_aligned(strip + (k + i) * kPanel + j);
          }
        }
      },
      [](Index, Index, float*) {});
}
#endif
}  // namespace detail

/// Bytes of scratch that prepare_rows needs.
template <class F>
requires std::is_same_v<F, mxfp4> Index prepared_bytes(Isa isa, Index rows, Index k) {
  return detail::takes_digits(isa) ? detail::ScratchCutter::bytes<DigitGroup>(rows * digit_groups(k)) : 0;
}

template <class F>
requires std::is_same_v<F, mxfp4>
bool refers_to_rows(Isa isa) { return !detail::takes_digits(isa); }

/// Activations for multiply_panel. The result refers to `row`, or as digits to `scratch`, which is 64-byte aligned; a
/// row of digits with a NaN or an infinity becomes NaN as a whole.
template <class F>
requires std::is_same_v<F, mxfp4> PreparedRows<mxfp4> prepare_rows(Isa isa, const float* const* row, Index rows,
                                                                   Index k, std::byte* scratch) {
  if (!detail::takes_digits(isa)) return {rows, k, row, nullptr};
  auto* const digits = reinterpret_cast<DigitGroup*>(scratch);
#if defined(__x86_64__)
  for (Index i = 0; i < rows; ++i) avx512::to_digits(row[i], k, digits + i * digit_groups(k));
#endif
  return {rows, k, nullptr, digits};
}

/// c [rows, columns] (+)= a wᵀ (+ bias) for the outputs of one panel, summed up in fp32. `amx` runs the kernels of
/// `avx512`, whose sums over a group are exact. 2 rows k columns operations.
inline void multiply_panel([[maybe_unused]] Isa isa, const PreparedRows<mxfp4>& a, const PanelView<mxfp4>& panel,
                           float* c, Index c_stride, Index columns, Store store, const float* bias,
                           const void* = nullptr) {
  assert(a.k == panel.k && columns <= kPanel);
  const PanelOutput out{c, c_stride, columns, store, bias};
#if defined(__x86_64__)
  if (a.digits)
    return avx512::multiply_mxfp4(
        {.digits = a.digits, .groups = digit_groups(a.k), .codes = panel.u, .scale = panel.scale, .out = out}, a.rows);
#endif
#if GATEFOLD_HAS_SIMD
  if (isa != Isa::portable) return detail::multiply_simd(a, panel, out);
#endif
  detail::multiply_portable(a, panel, out);
}

/// See for_each_in_streams in panel.hpp: one panel alone keeps the CPU busy, since each group of 32 k begins new sums.
inline Index multiply_few_rows(Isa, std::span<const PreparedRows<mxfp4>>, const PanelRun<mxfp4>&, const PanelOutput&) {
  return 0;
}

}  // namespace gatefold::kernels
