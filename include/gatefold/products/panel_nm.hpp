#pragma once
#include "gatefold/products/expand_nm.hpp"
#include "gatefold/products/panel_bf16.hpp"
#include "gatefold/products/panel_f32.hpp"
#include "gatefold/products/panel_int8.hpp"

/// Weights of which N of M are kept (Nm<F, N, M>), for any F whose panels hold elements of whole bytes: N / M of F's
/// bytes and one bit for each weight. 2:4 and 4:8 take 0.53 of the bytes of fp32, 0.56 of bf16, 0.63 of int8.
///
/// A product is bit for bit that of the dense panel. A few rows meet lines of it that are expanded in registers, so
/// that memory gives the fewer bytes only; for more rows the panel is expanded once, in the scratch of the rows.
namespace gatefold::kernels {

namespace detail {
template <class F>
struct NmFormatOf {
  using Dense = F;
};
template <class F, int N, int M>
struct NmFormatOf<Nm<F, N, M>> {
  using Dense = F;
  using Element = std::conditional_t<std::same_as<F, int8>, std::uint8_t, F>;
  static constexpr int kKept = N, kOf = M;
  static constexpr bool kKnown = (std::same_as<F, float> || std::same_as<F, bf16> || std::same_as<F, int8>)&&  //
                                     0 < N &&
                                 N < M && M <= 16 && kDepthGroup % M == 0;
};
}  // namespace detail

/// What a format's panels are without zeros left out: F itself for all but Nm.
template <class F>
using DenseFormat = typename detail::NmFormatOf<F>::Dense;

template <class F>
concept NmFormat = detail::NmFormatOf<F>::kKnown;

template <NmFormat F>
using NmElement = typename detail::NmFormatOf<F>::Element;

template <NmFormat F>
using NmBlockOf = NmBlock<NmElement<F>, detail::NmFormatOf<F>::kKept, detail::NmFormatOf<F>::kOf>;

template <NmFormat F>
struct PanelView<F> {
  const std::uint8_t* u;  // [padded_depth(k) / kDepthGroup, NmBlockOf<F>::kBytes]
  const float* scale;     // [kPanel], int8 only
  Index k;

  /// k0..k1 of it; k0 a multiple of kDepthGroup, k1 too or k.
  PanelView depth(Index k0, Index k1) const { return {u + k0 / kDepthGroup * NmBlockOf<F>::kBytes, scale, k1 - k0}; }
  PanelView shifted(Index values, Index scales) const { return {u + values, scale + scales, k}; }

  void expand(Isa isa, NmElement<F>* elements) const {
    expand_nm<NmBlockOf<F>>(isa, reinterpret_cast<const std::byte*>(u), padded_depth(k) / kDepthGroup, elements);
  }
  /// The same over the elements of an expanded panel.
  PanelView<DenseFormat<F>> dense(const NmElement<F>* elements) const {
    if constexpr (std::same_as<DenseFormat<F>, int8>)
      return {elements, scale, k};
    else
      return {elements, k};
  }
};

/// Bytes of a packed panel, without its scales.
template <NmFormat F>
constexpr Index panel_values(Index k) {
  return padded_depth(k) / kDepthGroup * NmBlockOf<F>::kBytes;
}

namespace detail {

[[noreturn, gnu::cold, gnu::noinline]] inline void refuse_pattern(Index row, Index k0, Index came, Index kept,
                                                                  Index of) {
  throw PatternError("Packed: row " + std::to_string(row) + ", inputs " + std::to_string(k0) + ".." +
                     std::to_string(k0 + of - 1) + " have " + std::to_string(came) +
                     " weights other than zero, expected at most " + std::to_string(kept) + " of " +
                     std::to_string(of) + "; prune the weights by this pattern first");
}

/// The first of some blocks whose mask does not keep N of each M, or -1.
template <NmFormat F>
Index broken_block(const std::byte* block, Index count) {
  using Format = NmFormatOf<F>;
  using Block = NmBlockOf<F>;
  for (Index b = 0; b < count; ++b, block += Block::kBytes)
    for (Index k0 = 0; k0 < kDepthGroup; k0 += Format::kOf)
      for (Index j = 0; j < kPanel; ++j) {
        int kept = 0;
        for (Index k = k0; k < k0 + Format::kOf; ++k) {
          const Index bit = Block::bit(k, j);
          kept += std::to_integer<int>(block[Block::kValueBytes + bit / 8] >> bit % 8 & std::byte{1});
        }
        if (kept != Format::kKept) return b;
      }
  return -1;
}

}  // namespace detail

/// Up to kPanel rows of weights, w [<= kPanel, K], to one panel; scale [kPanel] for int8. Where fewer than N of M are
/// other than zero, zeros are kept as well. Throws PatternError where more are; `first_row` is what it calls row 0.
template <NmFormat F>
void pack_panel_nm(Rows<const float> w, Index first_row, std::uint8_t* to, [[maybe_unused]] float* scale) {
  using Format = detail::NmFormatOf<F>;
  using Block = NmBlockOf<F>;
  using V = NmElement<F>;
  const Index n = w.extent(0), k = w.extent(1);
  Tensor<V, 1> panel({panel_values<DenseFormat<F>>(padded_depth(k))});
  V* element = panel.data();
  if constexpr (std::same_as<V, float>)
    pack_panel_f32(transpose(Operand<float>(w)), 0, k, 0, element);
  else if constexpr (std::same_as<V, bf16>)
    pack_panel_bf16(w, element);
  else
    pack_panel_int8(w, element, scale);
  std::fill_n(to, panel_values<F>(k), std::uint8_t{0});
  for (Index b0 = 0; b0 < k; b0 += kDepthGroup, element += Block::kElements, to += Block::kBytes) {
    std::uint8_t* const mask = to + Block::kValueBytes;
    const auto keep = [&](Index bit) { mask[bit / 8] = static_cast<std::uint8_t>(mask[bit / 8] | 1 << bit % 8); };
    for (Index j = 0; j < kPanel; ++j)
      for (Index k0 = 0; k0 < kDepthGroup; k0 += Format::kOf) {
        const auto counts = [&](Index l) { return j < n && b0 + l < k && w(j, b0 + l) != 0; };
        Index kept = 0;
        for (Index l = k0; l < k0 + Format::kOf; ++l) kept += counts(l);
        if (kept > Format::kKept) detail::refuse_pattern(first_row + j, b0 + k0, kept, Format::kKept, Format::kOf);
        for (Index l = k0; l < k0 + Format::kOf; ++l) {
          const bool filler = !counts(l) && kept < Format::kKept;
          kept += filler;
          if (filler || counts(l)) keep(Block::bit(l, j));
        }
      }
    std::uint8_t* value = to;
    for (Index bit = 0; bit < Block::kElements; ++bit)
      if (mask[bit / 8] >> bit % 8 & 1) {
        std::memcpy(value, element + Block::element(bit), sizeof(V));
        value += sizeof(V);
      }
  }
}

/// The values of a panel. // w [<= kPanel, K]
template <NmFormat F>
void unpack_panel(const PanelView<F>& panel, Rows<float> w) {
  Tensor<NmElement<F>, 1> elements({panel_values<DenseFormat<F>>(padded_depth(panel.k))});
  panel.expand(Isa::portable, elements.data());
  unpack_panel(panel.dense(elements.data()), w);
}

/// Activations as the dense format has them, and room for a panel.
template <NmFormat F>
struct PreparedRows<F> : PreparedRows<DenseFormat<F>> {
  NmElement<F>* panel;         ///< Or null where the rows are few and meet expanded lines.
  const std::byte* lines_row;  ///< The first row as lines meet it, then; from row to row:
  Index lines_row_bytes;
};

namespace detail {

/// Whether so few rows meet expanded lines instead of an expanded panel. For fp32 that is one chain of fused
/// multiply-adds as well, if the program's vector unit has them.
template <NmFormat F>
bool meets_lines([[maybe_unused]] Isa isa, [[maybe_unused]] Index rows) {
#if defined(__x86_64__)
  if (isa < Isa::avx512 || rows > kFewRows || !avx512::NmLines<NmBlockOf<F>, 1>::kWhole) return false;
  if (!avx512::expands_lines<NmElement<F>>()) return false;
  if constexpr (std::same_as<DenseFormat<F>, bf16>) return bf16_activations(isa) != Bf16Activations::tiles;
#if defined(__FMA__)
  return true;
#else
  return std::same_as<DenseFormat<F>, int8>;
#endif
#else
  return false;
#endif
}

template <NmFormat F>
Index lines_row_bytes(Index k) {
  return padded_row_bytes(padded_depth(k) * Index{sizeof(float)});
}

}  // namespace detail

/// Bytes of scratch that prepare_rows needs.
template <NmFormat F>
Index prepared_bytes(Isa isa, Index rows, Index k) {
  using Dense = DenseFormat<F>;
  const Index own = detail::ScratchCutter::bytes<std::byte>(prepared_bytes<Dense>(isa, rows, k));
  if (!detail::meets_lines<F>(isa, rows))
    return own + panel_values<Dense>(padded_depth(k)) * Index{sizeof(NmElement<F>)};
  return std::same_as<Dense, float> ? own + rows * detail::lines_row_bytes<F>(k) : own;
}

template <NmFormat F>
bool refers_to_rows(Isa isa) {
  return refers_to_rows<DenseFormat<F>>(isa);
}

/// Activations for multiply_panel, as the dense format has them. `scratch` is 64-byte aligned.
template <NmFormat F>
PreparedRows<F> prepare_rows(Isa isa, const float* const* row, Index rows, Index k, std::byte* scratch) {
  using Dense = DenseFormat<F>;
  detail::ScratchCutter cut(scratch);
  std::byte* const own = cut.take<std::byte>(prepared_bytes<Dense>(isa, rows, k));
  std::byte* const rest = cut.take<std::byte>(0);
  const auto dense = prepare_rows<Dense>(isa, row, rows, k, own);
  if (!detail::meets_lines<F>(isa, rows)) return {dense, reinterpret_cast<NmElement<F>*>(rest), nullptr, 0};
  if constexpr (std::same_as<Dense, float>) {
    const Index bytes = detail::lines_row_bytes<F>(k);
    for (Index i = 0; i < rows; ++i) {
      auto* const to = reinterpret_cast<float*>(rest + i * bytes);
      std::copy_n(row[i], k, to);
      std::fill(to + k, to + padded_depth(k), -0.0f);  // which leaves a sum of -0 as it is
    }
    return {dense, nullptr, rest, bytes};
  } else {
    return {dense, nullptr, dense.data, dense.row_bytes};
  }
}

#if defined(__x86_64__)
namespace avx512 {

/// fp32 weights and activations.
struct DotF32 {
  using Sum = __m512;
  using Weight = __m512;
  static constexpr Index kRowBytes = 4, kStepDepth = 1;
  static constexpr bool kGrouped = false;

  [[gnu::always_inline, gnu::target("avx512f")]] static inline Sum start(const TileJob&, Index, Index) {
    return _mm512_setzero_ps();
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static inline Weight weight(__m512i line) {
    return _mm512_castsi512_ps(line);
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static inline Sum dot(Sum sum, const Weight& w, const std::byte* x) {
    float value;
    std::memcpy(&value, x, sizeof value);
    return _mm512_fmadd_ps(w, _mm512_set1_ps(value), sum);
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static inline __m512 finish(Sum sum, const TileJob&, Index, Index) {
    return sum;
  }
};

template <NmFormat F>
TileJob nm_job(const PreparedRows<F>& a, const PanelView<F>& panel, const PanelOutput& out) {
  TileJob job{.rows = a.lines_row,
              .row_bytes = a.lines_row_bytes,
              .panel = reinterpret_cast<const std::byte*>(panel.u),
              .chunks = 0,
              .out = out};
  if constexpr (std::same_as<DenseFormat<F>, int8>) {
    job.row_scale = a.scale;
    job.row_sum = a.sum;
    job.column_scale = panel.scale;
  }
  return job;
}

/// call.operator()<Dot>() for the dot product that few rows of these take.
template <NmFormat F, class Call>
auto with_dot([[maybe_unused]] const PreparedRows<F>& a, Call&& call) {
  if constexpr (std::same_as<DenseFormat<F>, float>)
    return call.template operator()<DotF32>();
  else if constexpr (std::same_as<DenseFormat<F>, int8>)
    return call.template operator()<DotInt<8>>();
  else if (a.form == Bf16Activations::rounded)
    return call.template operator()<DotBf16>();
  else
    return call.template operator()<WidenBf16>();
}

/// 1..kFewRows rows against one panel, or several at once.
template <class Dot, class Block>
inline constexpr std::array<void (*)(const TileJob&), kFewRows> kNmTiles{
    &run_tile<Dot, 1, 1, false, NmLines<Block, 1>>, &run_tile<Dot, 2, 1, false, NmLines<Block, 1>>,
    &run_tile<Dot, 3, 1, false, NmLines<Block, 1>>, &run_tile<Dot, 4, 1, false, NmLines<Block, 1>>};
template <class Dot, class Block>
inline constexpr std::array<void (*)(const TileJob&), kFewRows> kNmStreams{
    &run_tile<Dot, 1, 4, false, NmLines<Block, 4>>, &run_tile<Dot, 2, 4, false, NmLines<Block, 4>>,
    &run_tile<Dot, 3, 2, false, NmLines<Block, 2>>, &run_tile<Dot, 4, 2, false, NmLines<Block, 2>>};

}  // namespace avx512
#endif

/// c [rows, columns] (+)= a wᵀ (+ bias) for the outputs of one panel: what the dense format makes of the same weights,
/// bit for bit. 2 rows k columns operations.
template <NmFormat F>
void multiply_panel(Isa isa, const PreparedRows<F>& a, const PanelView<F>& panel, float* c, Index c_stride,
                    Index columns, Store store, const float* bias, [[maybe_unused]] const void* prefetch = nullptr) {
  assert(a.k == panel.k && columns <= kPanel);
#if defined(__x86_64__)
  if (!a.panel) {
    if (a.rows == 0) return;
    avx512::with_dot(a, [&]<class Dot>() {
      auto job = avx512::nm_job(a, panel, {c, c_stride, columns, store, bias});
      job.chunks = avx512::num_chunks<Dot>(a.k);
      avx512::kNmTiles<Dot, NmBlockOf<F>>[static_cast<std::size_t>(a.rows - 1)](job);
    });
    return;
  }
#endif
  panel.expand(isa, a.panel);
  const PreparedRows<DenseFormat<F>>& dense = a;
  multiply_panel(isa, dense, panel.dense(a.panel), c, c_stride, columns, store, bias, prefetch);
}

/// See for_each_in_streams in panel.hpp.
template <NmFormat F>
Index multiply_few_rows(Isa, [[maybe_unused]] std::span<const PreparedRows<F>> pieces,
                        [[maybe_unused]] const PanelRun<F>& run, [[maybe_unused]] const PanelOutput& out) {
#if defined(__x86_64__)
  const auto& first = pieces[0];
  if (!first.panel)
    return avx512::with_dot(first, [&]<class Dot>() {
      return for_each_in_streams(first.rows <= 2 ? 4 : 2, pieces, run, out,
                                 [&](const auto& a, const auto& panel, StreamStride stride, const PanelOutput& to) {
                                   auto job = avx512::nm_job(a, panel, to);
                                   job.stride = stride;
                                   job.chunks = avx512::num_chunks<Dot>(a.k);
                                   avx512::kNmStreams<Dot, NmBlockOf<F>>[static_cast<std::size_t>(a.rows - 1)](job);
                                 });
    });
#endif
  return 0;
}

}  // namespace gatefold::kernels
