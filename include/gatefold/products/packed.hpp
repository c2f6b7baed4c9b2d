#pragma once
#include "gatefold/products/panel_bf16.hpp"
#include "gatefold/products/panel_f32.hpp"
#include "gatefold/products/panel_fp8.hpp"
#include "gatefold/products/panel_int4.hpp"
#include "gatefold/products/panel_int8.hpp"
#include "gatefold/products/panel_mxfp4.hpp"
#include "gatefold/products/panel_nm.hpp"

namespace gatefold {

/// What weights can be packed as: float and bf16 keep their digits, int8 has a scale for each output, int4 one for each
/// 64 inputs of an output, mxfp4 a power of two for each 32, fp8 a scale for each 128 x 128. The last two are what
/// files hold (Packed::from_file) and keep it as it is. Nm<F, N, M> is float, bf16 or int8 of which only N of each M
/// are kept: for weights that have been pruned by that pattern, any others are refused.
template <class F>
concept PackedFormat = std::same_as<F, float> || std::same_as<F, bf16> || std::same_as<F, int8> ||
    std::same_as<F, int4> || std::same_as<F, mxfp4> || std::same_as<F, fp8> || kernels::NmFormat<F>;

namespace detail {

template <class F>
using PackedValue = std::conditional_t<std::same_as<F, float> || std::same_as<F, bf16>, F, std::uint8_t>;

/// Panels of an Nm. A file may be damaged or made up, and a mask that keeps another number would lead beyond the panel.
template <kernels::NmFormat F>
struct NmPanels : SharedTensor<std::uint8_t, 2> {
  using SharedTensor<std::uint8_t, 2>::SharedTensor;

  /// What is wrong with elements of this shape, or nothing: asked before they are taken over.
  std::string fault(std::span<const std::byte> bytes) const {
    const Index panel_bytes = extent(1), blocks = panel_bytes / kernels::NmBlockOf<F>::kBytes;
    for (Index p = 0; p < extent(0); ++p)
      if (const Index b = kernels::detail::broken_block<F>(bytes.data() + p * panel_bytes, blocks); b >= 0)
        return "the mask of outputs " + std::to_string(p * kernels::kPanel) + ".., inputs " +
               std::to_string(b * kernels::kDepthGroup) + ".. does not keep " +
               std::to_string(kernels::detail::NmFormatOf<F>::kKept) + " of each " +
               std::to_string(kernels::detail::NmFormatOf<F>::kOf);
    return {};
  }
};

template <class F>
struct PackedValues {
  using type = SharedTensor<PackedValue<F>, 2>;
};
template <kernels::NmFormat F>
struct PackedValues<F> {
  using type = NmPanels<F>;
};

}  // namespace detail

template <kernels::NmFormat F>
inline constexpr bool is_shared_tensor<detail::NmPanels<F>> = true;

/// The weight of y = x wᵀ, w [N, K], in the order in which the kernels read it: packed once, read by every call, and
/// the same on every CPU, so that a file of it can be used where it lies. For inference: there is no way back.
template <PackedFormat F>
class Packed {
 public:
  using Format = F;
  using Value = detail::PackedValue<F>;
  using Scale = std::conditional_t<std::same_as<F, mxfp4>, std::uint8_t, float>;

  /// Of this shape but without content, until a checkpoint is read into it. // [N, K]
  explicit Packed(Shape<2> shape)
      : values(Shape<2>{kernels::num_panels(shape[0]), kernels::panel_values<F>(shape[1])}),
        scale(Shape<2>{kernels::num_panels(shape[0]), num_scales(shape[1])}),
        shape_(shape) {}
  /// Rounds to nearest even where F has fewer digits. Throws PatternError for weights that an Nm cannot hold. // w [N,
  /// K]
  explicit Packed(Rows<const float> w) : Packed(w.shape()) {
    Tensor<float, 1> block_scale({std::same_as<F, fp8> ? num_scales(extent(1)) : 0});  // of the blocks of a panel
    fill([&](Index p, Index first, Index last, Value* to, [[maybe_unused]] Scale* scales) {
      const auto rows = w.rows(first, last);
      if constexpr (std::same_as<F, float>)
        kernels::pack_panel_f32(transpose(kernels::Operand<float>(rows)), 0, w.extent(1), 0, to);
      else if constexpr (std::same_as<F, bf16>)
        kernels::pack_panel_bf16(rows, to);
      else if constexpr (std::same_as<F, int8>)
        kernels::pack_panel_int8(rows, to, scales);
      else if constexpr (std::same_as<F, int4>)
        kernels::pack_panel_int4(rows, to, scales);
      else if constexpr (std::same_as<F, mxfp4>)
        kernels::pack_panel_mxfp4(rows, to, scales);
      else if constexpr (kernels::NmFormat<F>)
        kernels::pack_panel_nm<F>(rows, first, to, scales);
      else {
        constexpr Index kBlock = kernels::kFp8Block;
        if (p % (kBlock / kPanel) == 0)
          for (Index k0 = 0; k0 < w.extent(1); k0 += kBlock)
            block_scale.view()[k0 / kBlock] = kernels::fp8_scale(
                w.rows(first, std::min(first + kBlock, w.extent(0))).columns(k0, std::min(k0 + kBlock, w.extent(1))));
        kernels::pack_panel_fp8(
            rows, [&](Index b) { return block_scale.view()[b]; }, to, scales);
      }
    });
  }

  /// The bytes of a file in another order. Rows may be strided: every other one, say, where a file has gates and units
  /// by turns. // blocks [N, K / 32, 16], low half first; scales [N, K / 32]
  static Packed from_file(View<const std::uint8_t, 3> blocks,
                          Rows<const std::uint8_t> scales) requires std::same_as<F, mxfp4> {
    expect_shape(blocks, {blocks.extent(0), blocks.extent(1), kMxfp4Group / 2}, "Packed::from_file: blocks");
    expect_shape(scales, {blocks.extent(0), blocks.extent(1)}, "Packed::from_file: scales");
    Packed packed(Shape<2>{blocks.extent(0), blocks.extent(1) * kMxfp4Group});
    packed.fill([&](Index, Index first, Index last, Value* to, Scale* to_scale) {
      kernels::pack_panel_mxfp4(blocks.rows(first, last), scales.rows(first, last), to, to_scale);
    });
    return packed;
  }
  /// The same; each weight is its E4M3 value times the scale of its block.
  /// // w [N, K], scales [N / 128, K / 128], both rounded up
  static Packed from_file(Rows<const std::uint8_t> w, Rows<const float> scales) requires std::same_as<F, fp8> {
    expect_shape(scales, {kernels::fp8_blocks(w.extent(0)), kernels::fp8_blocks(w.extent(1))},
                 "Packed::from_file: scales");
    Packed packed(w.shape());
    packed.fill([&](Index, Index first, Index last, Value* to, Scale* to_scale) {
      kernels::pack_panel_fp8(
          w.rows(first, last), [&](Index b) { return scales(first / kernels::kFp8Block, b); }, to, to_scale);
    });
    return packed;
  }

  static void visit(auto& v, auto&... self) {
    v("values", self.values...);
    if constexpr (kScaled) v("scale", self.scale...);
  }

  Index extent(std::size_t axis) const { return shape()[axis]; }
  const Shape<2>& shape() const { return *shape_; }

  /// y = x wᵀ (+ bias): what makes it a WeightStorage (nn/weight_storage.hpp).
  void multiply(Rows<const float> x, Rows<float> y, Context& ctx, const float* bias = nullptr) const;

  /// Outputs 32 p .. 32 p + 31.
  kernels::PanelView<F> panel(Index p) const {
    const Value* const at = panel_data(p);
    if constexpr (kernels::NmFormat<F> && !kScaled)
      return {at, nullptr, extent(1)};
    else if constexpr (kScaled)
      return {at, scale.data() + p * scale.extent(1), extent(1)};
    else
      return {at, extent(1)};
  }

  /// Where the values of panel p begin, from input k0 (a multiple of 64) on: what a kernel prefetches.
  const Value* panel_data(Index p, Index k0 = 0) const {
    return values.data() + p * values.extent(1) + kernels::panel_values<F>(k0);
  }

  /// The weights as the kernels see them, rounded as F rounds. // w [N, K]
  void unpack(Rows<float> w) const {
    expect_shape(w, shape(), "Packed::unpack: w");
    for (Index p = 0; p < values.extent(0); ++p)
      kernels::unpack_panel(panel(p), w.rows(p * kPanel, std::min((p + 1) * kPanel, w.extent(0))));
  }

  typename detail::PackedValues<F>::type values;  // [N / 32, values of a panel]
  SharedTensor<Scale, 2> scale;                   // [N / 32, scales of a panel]; not of float and bf16

 private:
  static constexpr Index kPanel = kernels::kPanel;
  using Dense = kernels::DenseFormat<F>;
  static constexpr bool kScaled = !std::same_as<Dense, float> && !std::same_as<Dense, bf16>;
  static Index num_scales(Index k) {
    if constexpr (std::same_as<Dense, int8>) return kPanel;
    if constexpr (kScaled && !std::same_as<Dense, int8>) return kernels::panel_scales<F>(k);
    return 0;
  }
  /// pack(p, first, last, values, scales) writes panel p, which is rows first..last.
  template <class Pack>
  void fill(Pack&& pack) {
    Tensor<Value, 2> packed(values.shape());
    Tensor<Scale, 2> scales(scale.shape());
    for (Index p = 0; p < packed.extent(0); ++p)
      pack(p, p * kPanel, std::min((p + 1) * kPanel, extent(0)), packed.view()[p].data(), scales.view()[p].data());
    values = decltype(values)(std::move(packed));
    scale = SharedTensor<Scale, 2>(std::move(scales));
  }

  detail::EmptiedByMove<Shape<2>> shape_;
};

namespace kernels {

/// Rows that one task takes. What passes through L2 while a panel is used: the rows, and in a feed-forward net their
/// hidden units and results. (112 = 8 tiles; 1 MiB at D = 768.)
inline constexpr Index kPackedRows = 112;

/// The same for a format and what runs it: AMX uses up a panel so fast that memory must give it half as often.
template <class F>
constexpr Index packed_rows(Isa isa) {
  using Dense = DenseFormat<F>;
  return isa == Isa::amx && (std::same_as<Dense, bf16> || std::same_as<Dense, int8>) ? 2 * kPackedRows : kPackedRows;
}

/// Some panels, and the part of their depth that is used.
struct PanelRange {
  Index first, last;           // panels
  Index k0, k1;                // k0 a multiple of kDepthGroup, k1 too or the whole depth
  const void* next = nullptr;  // the panel that is used after them, or null
};

/// c (+)= a wᵀ (+ bias) for the panels of a range; column 0 of c and of bias belongs to the first of them. `pieces` are
/// the rows in pieces of the depth, whose products are added up. What comes after each panel is fetched meanwhile.
template <PackedFormat F>
void multiply_panels(Isa isa, std::type_identity_t<std::span<const PreparedRows<F>>> pieces, const Packed<F>& w,
                     const PanelRange& range, float* c, Index c_stride, Store store, const float* bias) {
  const Index rows = pieces[0].rows, whole = std::min(range.last, w.extent(0) / kPanel);
#if defined(__x86_64__)
  const amx::TileScope tiles(isa == Isa::amx);
#endif
  Index p = range.first;
  if (rows > 0 && rows <= kFewRows && p < whole) {
    const PanelRun<F> run{w.panel(p).depth(range.k0, range.k1), whole - p, w.values.extent(1), w.scale.extent(1)};
    p += multiply_few_rows(isa, pieces, run, {c, c_stride, kPanel, store, bias});
  }
  for (; p < range.last; ++p) {
    const Index j = (p - range.first) * kPanel;
    const void* const next_panel = p + 1 < range.last ? w.panel_data(p + 1, range.k0) : range.next;
    Index k0 = range.k0;
    for (const auto& a : pieces) {
      const bool first = k0 == range.k0;
      const void* const next = &a == &pieces.back() ? next_panel : w.panel_data(p, k0 + a.k);
      multiply_panel(isa, a, w.panel(p).depth(k0, k0 + a.k), c + j, c_stride,
                     std::min(kPanel, w.extent(0) - p * kPanel), first ? store : Store::add,
                     first && bias ? bias + j : nullptr, next);
      k0 += a.k;
    }
  }
}

namespace detail {

/// Row pointers and what a format makes of the rows, for one worker.
template <class F>
class PreparedBlock {
 public:
  static Index bytes(Isa isa, Index rows, Index k) {
    return ScratchCutter::bytes<const float*>(rows) + prepared_bytes<F>(isa, rows, k) + 64;
  }
  explicit PreparedBlock(std::byte* scratch) : scratch_(scratch) {}

  /// Row i of x is row(i), read from column k0 to k1.
  template <class Row>
  PreparedRows<F> prepare(Isa isa, Index rows, Index k, Row&& row) {
    ScratchCutter cut(scratch_);
    auto* const pointers = cut.take<const float*>(rows);
    for (Index i = 0; i < rows; ++i) pointers[i] = row(i);
    return prepare_rows<F>(isa, pointers, rows, k, cut.take<std::byte>(0));
  }

 private:
  std::byte* scratch_;
};

}  // namespace detail

/// y = x wᵀ (+ bias) with packed weights. // x [R, K], w [N, K], bias [N] or null, y [R, N]; 2 R N K operations
template <class T, PackedFormat F>
requires std::same_as<T, float>
void matmul(Rows<const T> x, const Packed<F>& w, Rows<T> y, Context& ctx, const T* bias = nullptr) {
  const Index m = x.extent(0), n = w.extent(0), k = w.extent(1), panels = num_panels(n);
  const Index workers = ctx.parallel_for.workers();
  const BalancedSplit heights(m, packed_rows<F>(ctx.isa));
  if (m == 0 || n == 0) return;
  // Panels are shared out too where there are few rows; each task prepares its rows anew, so the fewer the better.
  const Index parts =
      std::min(panels, heights.count >= 2 * workers ? 1 : (2 * workers + heights.count - 1) / heights.count);
  const BalancedSplit widths(panels, (panels + parts - 1) / parts);
  const auto scope = ctx.workspace.scope();
  auto scratch = ctx.workspace.take<std::byte>(
      workers, detail::PreparedBlock<F>::bytes(ctx.isa, heights.base + (heights.extra > 0), k));
  ctx.parallel_for(heights.count * widths.count, [&](Index begin, Index end, Index worker) {
    for (Index task = begin; task < end; ++task) {
      const Index block = task / widths.count, part = task % widths.count, i0 = heights.begin(block);
      detail::PreparedBlock<F> own(&scratch(worker, 0));
      const auto rows =
          own.prepare(ctx.isa, heights.size(block), k, [&](Index i) { return x.data() + (i0 + i) * x.stride(0); });
      const PanelRange range{widths.begin(part), widths.begin(part + 1), 0, k};
      const Index j = range.first * kPanel;
      multiply_panels(ctx.isa, {&rows, 1}, w, range, y.data() + i0 * y.stride(0) + j, y.stride(0), Store::overwrite,
                      bias ? bias + j : nullptr);
    }
  });
}

}  // namespace kernels

template <PackedFormat F>
void Packed<F>::multiply(Rows<const float> x, Rows<float> y, Context& ctx, const float* bias) const {
  kernels::matmul<float>(x, *this, y, ctx, bias);
}

}  // namespace gatefold

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void matmul<float, float>(Rows<const float>, const Packed<float>&, Rows<float>, Context&,
                                            const float*);
GATEFOLD_COMPILED void matmul<float, bf16>(Rows<const float>, const Packed<bf16>&, Rows<float>, Context&, const float*);
GATEFOLD_COMPILED void matmul<float, int8>(Rows<const float>, const Packed<int8>&, Rows<float>, Context&, const float*);
GATEFOLD_COMPILED void matmul<float, int4>(Rows<const float>, const Packed<int4>&, Rows<float>, Context&, const float*);
GATEFOLD_COMPILED void matmul<float, mxfp4>(Rows<const float>, const Packed<mxfp4>&, Rows<float>, Context&,
                                            const float*);
GATEFOLD_COMPILED void matmul<float, fp8>(Rows<const float>, const Packed<fp8>&, Rows<float>, Context&, const float*);

}  // namespace gatefold::kernels
#endif
