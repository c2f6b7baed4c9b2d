#pragma once
#include "gatefold/core/small_float.hpp"
#include "gatefold/products/panel_bf16.hpp"

/// Weights as FP8 files publish them: E4M3 with one float for each 128 x 128 of the matrix, 1.002 bytes a weight.
/// Panels hold the bytes of the file in another order, so nothing is rounded. Activations stay fp32, as they do for
/// bf16 weights where the CPU has no fast dot product: there is none for these.
namespace gatefold::kernels {

inline constexpr Index kFp8Block = 128;  ///< Rows and columns of the matrix that share a scale.
static_assert(kFp8Block % kPanel == 0 && kFp8Block % kDepthGroup == 0);

template <>
struct PanelView<fp8> {
  const std::uint8_t* u;  // [padded_depth(k) / 4, kPanel, 4]
  const float* scale;     // [padded_depth(k) / kDepthGroup], for all outputs of the panel
  Index k;

  /// k0..k1 of it; k0 a multiple of kDepthGroup, k1 too or k.
  PanelView depth(Index k0, Index k1) const { return {u + k0 * kPanel, scale + k0 / kDepthGroup, k1 - k0}; }
  PanelView shifted(Index values, Index scales) const { return {u + values, scale + scales, k}; }
};

/// Bytes of a packed panel, without its scales.
template <class F>
requires std::is_same_v<F, fp8>
constexpr Index panel_values(Index k) { return padded_depth(k) * kPanel; }

/// Scales of a packed panel.
template <class F>
requires std::is_same_v<F, fp8>
constexpr Index panel_scales(Index k) { return padded_depth(k) / kDepthGroup; }

/// Blocks that n rows or columns of a matrix have; the last one may be in part.
constexpr Index fp8_blocks(Index n) { return (n + kFp8Block - 1) / kFp8Block; }

namespace detail {

/// The nearest value of E4M3, ties to even, 448 for what is more in magnitude; NaN stays NaN.
inline std::uint8_t e4m3_code(float v) {
  const float magnitude = std::abs(v);
  const unsigned sign = std::signbit(v) ? 128 : 0;
  if (std::isnan(v)) return static_cast<std::uint8_t>(sign | 127);
  if (magnitude >= 448) return static_cast<std::uint8_t>(sign | 126);
  constexpr float kUnit = 0x1p14f;  // a float's last digit is there what E4M3 counts below its normal numbers, 2^-9
  const auto bits = std::bit_cast<std::uint32_t>(magnitude);
  // Rounded at the fourth of 24 digits, a carry from which is the next exponent's.
  const std::uint32_t code = magnitude < 0x1p-6f
                                 ? std::bit_cast<std::uint32_t>(magnitude + kUnit) - std::bit_cast<std::uint32_t>(kUnit)
                                 : ((bits + 0x7ffff + (bits >> 20 & 1)) >> 20) - (120u << 3);
  return static_cast<std::uint8_t>(sign | code);
}

inline Index fp8_byte(Index k, Index j) { return (k / 4 * kPanel + j) * 4 + k % 4; }

/// All 256 values: a look-up is quicker than to take the bits apart.
inline const std::array<float, 256>& e4m3_values() {
  static const auto values = [] {
    std::array<float, 256> all;
    for (unsigned code = 0; code < 256; ++code) all[code] = e4m3_value(static_cast<std::uint8_t>(code));
    return all;
  }();
  return values;
}

}  // namespace detail

/// The scale of a block, w [<= kFp8Block, <= kFp8Block]: its largest magnitude becomes 448. NaN for a block with a NaN
/// or an infinity, 1 where all is zero.
inline float fp8_scale(Rows<const float> w) {
  float most = 0;
  for (Index j = 0; j < w.extent(0); ++j)
    for (const float v : std::span(w.data() + j * w.stride(0), static_cast<std::size_t>(w.extent(1)))) {
      if (!std::isfinite(v)) return std::numeric_limits<float>::quiet_NaN();
      most = std::max(most, std::abs(v));
    }
  // Not below what a division bears.
  return most == 0 ? 1 : std::max(most / 448, std::numeric_limits<float>::min());
}

/// Up to kPanel rows to one panel: of a file as they are, or floats rounded to the nearest; block_scale(b) of columns
/// 128 b and on. // w [<= kPanel, K]
template <class T, class BlockScale>
void pack_panel_fp8(Rows<const T> w, BlockScale&& block_scale, std::uint8_t* u, float* scale) {
  const Index k = w.extent(1);
  std::fill_n(u, panel_values<fp8>(k), std::uint8_t{0});
  for (Index g = 0; g < panel_scales<fp8>(k); ++g) scale[g] = block_scale(g * kDepthGroup / kFp8Block);
  for (Index j = 0; j < w.extent(0); ++j)
    for (Index i = 0; i < k; ++i)
      if constexpr (std::same_as<T, float>)
        u[detail::fp8_byte(i, j)] = detail::e4m3_code(w(j, i) / scale[i / kDepthGroup]);
      else
        u[detail::fp8_byte(i, j)] = w(j, i);
}

/// The values of a panel, rounded to float by their scale. // w [<= kPanel, K]
inline void unpack_panel(const PanelView<fp8>& panel, Rows<float> w) {
  for (Index j = 0; j < w.extent(0); ++j)
    for (Index i = 0; i < w.extent(1); ++i)
      w(j, i) = e4m3_value(panel.u[detail::fp8_byte(i, j)]) * panel.scale[i / kDepthGroup];
}

/// Activations as the caller's fp32, or as a padded copy of it for the tiles of AVX-512.
template <>
struct PreparedRows<fp8> {
  Index rows, k;
  const float* const* row;  ///< The caller's pointers, which must live as long as this.
  const std::byte* copy;    ///< Or null.
  Index row_bytes;
};

namespace detail {
/// Tables of 128 bytes need VBMI, which the first CPUs with VNNI have not.
inline bool copies_rows_for_fp8([[maybe_unused]] Isa isa) {
#if defined(__x86_64__)
  return isa >= Isa::avx512 && cpu().has(CpuFeatures{CpuFeature::avx512_vbmi});
#else
  return false;
#endif
}

inline void multiply_portable(const PreparedRows<fp8>& a, const PanelView<fp8>& panel, const PanelOutput& out) {
  const auto& value = e4m3_values();
  for (Index i = 0; i < a.rows; ++i) {
    float product[kPanel] = {};
    for (Index k0 = 0; k0 < a.k; k0 += kDepthGroup) {
      float sum[kPanel] = {};
      for (Index k = k0; k < std::min(a.k, k0 + kDepthGroup); ++k)
        for (Index j = 0; j < kPanel; ++j) sum[j] += a.row[i][k] * value[panel.u[fp8_byte(k, j)]];
      for (Index j = 0; j < kPanel; ++j) product[j] += sum[j] * panel.scale[k0 / kDepthGroup];
    }
    store_row(out, i, product);
  }
}

#if GATEFOLD_HAS_SIMD
/// The values of the codes in the lowest bytes, which are not alone.
template <class Arch>
simd::Batch<float, Arch> e4m3_values(const simd::Batch<std::int32_t, Arch>& words) {
  using Words = simd::Batch<std::int32_t, Arch>;
  using Floats = simd::Batch<float, Arch>;
  // From 8 on, exponent and fraction lie as in a float; below, they count 2^-9.
  const Words magnitude = words & Words(127);
  const Floats whole = xsimd::to_float(magnitude);
  const Floats normal = simd::bits_as<float>((magnitude << 20) + Words(120 << 23));
  Floats value = select(whole < Floats(8), whole * Floats(0x1p-9f), normal);
  value = select(whole < Floats(127), value, Floats(std::numeric_limits<float>::quiet_NaN()));
  return simd::bits_as<float>(simd::bits_as<std::int32_t>(value) | ((words & Words(128)) << 24));
}

template <class Arch = simd::DefaultArch>
void multiply_simd(const PreparedRows<fp8>& a, const PanelView<fp8>& panel, const PanelOutput& out) {
  constexpr Index kWidth = simd::kLanes<float, Arch>;
  multiply_strips<Arch>(
      {a.row, a.rows, a.k, kDepthGroup, out},
      [&](Index k0, Index depth, float* strip) {
        for (Index k = 0; k < depth; k += 4)
          for (Index j = 0; j < kPanel; j += kWidth) {
            const auto four = simd::load_words<Arch>(panel.u + ((k0 + k) / 4 * kPanel + j) * 4);
            for (int i = 0; i < 4; ++i) e4m3_values<Arch>(four >> (8 * i)).store_aligned(strip + (k + i) * kPanel + j);
          }
      },
      [&](Index, Index k0, float* product) {
        const float scale = panel.scale[k0 / kDepthGroup];
        simd::transform<float, Arch>(
            Isa::simd, kPanel, [scale](auto v) { return v * scale; }, product, product);
      });
}
#endif

#if defined(__x86_64__)
inline avx512::TileJob tile_job(const PreparedRows<fp8>& a, const PanelView<fp8>& panel, const PanelOutput& out) {
  return {.rows = a.copy,
          .row_bytes = a.row_bytes,
          .panel = reinterpret_cast<const std::byte*>(panel.u),
          .chunks = 0,
          .column_scale = panel.scale,
          .out = out};
}
#endif
}  // namespace detail

/// Bytes of scratch that prepare_rows needs.
template <class F>
requires std::is_same_v<F, fp8> Index prepared_bytes(Isa isa, Index rows, Index k) {
  return detail::copies_rows_for_fp8(isa) ? detail::prepared_bytes_bf16(Bf16Activations::padded, rows, k) : 0;
}

template <class F>
requires std::is_same_v<F, fp8>
bool refers_to_rows(Isa isa) { return !detail::copies_rows_for_fp8(isa); }

/// Activations for multiply_panel. The result refers to `row` and to `scratch`, which is 64-byte aligned.
template <class F>
requires std::is_same_v<F, fp8> PreparedRows<fp8> prepare_rows(Isa isa, const float* const* row, Index rows, Index k,
                                                               std::byte* scratch) {
  if (!detail::copies_rows_for_fp8(isa)) return {rows, k, row, nullptr, 0};
  const auto copy = detail::prepare_bf16(Bf16Activations::padded, row, rows, k, scratch);
  return {rows, k, row, copy.data, copy.row_bytes};
}

/// c [rows, columns] (+)= a wᵀ (+ bias) for the outputs of one panel: sums over kDepthGroup k in fp32, times the scale,
/// added up. A row with a NaN or an infinity gives what the arithmetic gives, in that row only. `amx` runs the kernels
/// of `avx512`, which without VBMI are those of the program's vector unit. 2 rows k columns flops.
inline void multiply_panel([[maybe_unused]] Isa isa, const PreparedRows<fp8>& a, const PanelView<fp8>& panel, float* c,
                           Index c_stride, Index columns, Store store, const float* bias,
                           [[maybe_unused]] const void* prefetch = nullptr) {
  assert(a.k == panel.k && columns <= kPanel);
  const PanelOutput out{c, c_stride, columns, store, bias};
#if defined(__x86_64__)
  if (a.copy) return avx512::multiply<avx512::WidenE4m3>(detail::tile_job(a, panel, out), a.rows, a.k, prefetch);
#endif
#if GATEFOLD_HAS_SIMD
  if (isa != Isa::portable) return detail::multiply_simd(a, panel, out);
#endif
  detail::multiply_portable(a, panel, out);
}

/// See for_each_in_streams in panel.hpp. Two panels are as many as tables and widened weights leave registers for.
inline Index multiply_few_rows([[maybe_unused]] Isa isa, [[maybe_unused]] std::span<const PreparedRows<fp8>> pieces,
                               [[maybe_unused]] const PanelRun<fp8>& run, [[maybe_unused]] const PanelOutput& out) {
#if defined(__x86_64__)
  using Dot = avx512::WidenE4m3;
  if (const Index rows = pieces[0].rows; pieces[0].copy && rows <= 2)
    return for_each_in_streams(2, pieces, run, out,
                               [&](const auto& a, const auto& panel, StreamStride stride, const PanelOutput& to) {
                                 auto job = detail::tile_job(a, panel, to);
                                 job.stride = stride;
                                 job.chunks = avx512::num_chunks<Dot>(a.k);
                                 rows == 1 ? avx512::run_tile<Dot, 1, 2>(job) : avx512::run_tile<Dot, 2, 2>(job);
                               });
#endif
  return 0;
}

}  // namespace gatefold::kernels
