#pragma once
#include "gatefold/module/grouped_expert.hpp"
#include "gatefold/products/packed.hpp"

/// Feed-forward nets of packed weights, one or many, in one go: y = down(act(up(x))) without leaving the cache.
namespace gatefold::kernels {

/// One net. Hidden unit h is act(up_h) or, with a gate, act(gate_h) up_h or act(gate_h, up_h).
template <PackedFormat F>
struct PackedFfn {
  const Packed<F>* gate = nullptr;  // [H, D] or null
  const Packed<F>* up;              // [H, D]
  const Packed<F>* down;            // [D', H]
  const float* gate_bias = nullptr;
  const float* up_bias = nullptr;
  const float* down_bias = nullptr;

  Index width() const { return up->extent(1); }
  Index hidden() const { return up->extent(0); }
  Index outputs() const { return down->extent(0); }
};

/// Hidden units of a piece: sums over hidden units are taken piece by piece, so that they do not depend on how many
/// rows there are. 112 rows x 512 floats are 224 KiB of L2.
inline constexpr Index kHiddenChunk = 512;

/// What the hidden units of a block may take of L2 before they are used: the more pieces at once, the fewer times the
/// outputs are read and written.
inline constexpr Index kHiddenBytes = 256 * 1024;

/// Rows that are worth a worker of their own, where all rows cost much to prepare.
inline constexpr Index kLeastShare = 24;

namespace detail {

/// What nets read and write.
struct FfnRows {
  Rows<const float> x;  // [S, D]
  SlotRows slots;
  Rows<float> y;  // [N, D]

  const float* row(Index slot) const {
    return x.data() + (slots.token.size() ? slots.token[slot] : slot) * x.stride(0);
  }
};

/// Some slots of one net.
struct FfnBlock {
  Index net, begin, end;
  Index rows() const { return end - begin; }
};

/// Hidden units that are made by one call as floats: all for few rows, so that weights are read from end to end, else a
/// piece.
inline Index units_per_call(Index rows, Index hidden) {
  return rows <= kFewRows ? std::max<Index>(hidden, 1) : kHiddenChunk;
}

/// Hidden units that are made before the first is used: all, or as many pieces as stay in L2 as F wants them.
template <class F>
Index units_at_once(Isa isa, Index rows, Index hidden) {
  const Index floats = refers_to_rows<F>(isa) ? rows * kHiddenChunk * Index{sizeof(float)} : 0;
  const Index pieces = kHiddenBytes / std::max(floats, prepared_bytes<F>(isa, rows, kHiddenChunk));
  const Index whole = (hidden + kHiddenChunk - 1) / kHiddenChunk * kHiddenChunk;
  return std::max(units_per_call(rows, hidden), std::min(pieces * kHiddenChunk, whole));
}

/// Hidden units as floats. // [rows, pitch]
struct HiddenUnits {
  float* data;
  Index pitch;

  /// Rows of a power of two would share cache sets.
  static Index pitch_of(Index units) { return num_panels(units) * kPanel + 16; }
  float* row(Index i) const { return data + i * pitch; }
};

/// Scratch of one worker: x and hidden units as the format wants them, hidden units as floats.
template <class F>
class FfnScratch {
 public:
  struct Options {
    Isa isa;
    Index rows, width, hidden;

    Index at_once() const { return units_at_once<F>(isa, rows, hidden); }
    Index chunks() const { return (at_once() + kHiddenChunk - 1) / kHiddenChunk; }
    Index gate_pitch() const { return HiddenUnits::pitch_of(units_per_call(rows, hidden)); }
    /// Floats that nothing refers to any more can go when they are prepared.
    Index unit_pitch() const { return refers_to_rows<F>(isa) ? HiddenUnits::pitch_of(at_once()) : gate_pitch(); }
    Index chunk_bytes() const { return PreparedBlock<F>::bytes(isa, rows, kHiddenChunk); }
  };

  static Index bytes(const Options& o) {
    return ScratchCutter::bytes<PreparedRows<F>>(o.chunks()) + PreparedBlock<F>::bytes(o.isa, o.rows, o.width) +
           o.chunks() * o.chunk_bytes() + ScratchCutter::bytes<float>(o.rows * o.unit_pitch()) +
           ScratchCutter::bytes<float>(o.rows * o.gate_pitch());
  }
  FfnScratch(const Options& o, std::byte* memory) : options_(o) {
    ScratchCutter cut(memory);
    pieces_ = cut.take<PreparedRows<F>>(o.chunks());
    units = {cut.take<float>(o.rows * o.unit_pitch()), o.unit_pitch()};
    gates = {cut.take<float>(o.rows * o.gate_pitch()), o.gate_pitch()};
    x_ = cut.take<std::byte>(PreparedBlock<F>::bytes(o.isa, o.rows, o.width));
    hidden_ = cut.take<std::byte>(0);
  }

  /// Row i of x is row(i).
  template <class Row>
  PreparedRows<F> prepare_x(Row&& row) {
    return PreparedBlock<F>(x_).prepare(options_.isa, options_.rows, options_.width, row);
  }
  /// Begins with no hidden units.
  void clear_hidden() { num_pieces_ = 0; }
  /// More hidden units, in pieces of kHiddenChunk, at least one; row i is row(i).
  template <class Row>
  void add_hidden(Index count, Row&& row) {
    Index h0 = 0;
    do {
      pieces_[num_pieces_] = PreparedBlock<F>(hidden_ + num_pieces_ * options_.chunk_bytes())
                                 .prepare(options_.isa, options_.rows, std::min(kHiddenChunk, count - h0),
                                          [&](Index i) { return row(i) + h0; });
      ++num_pieces_;
    } while ((h0 += kHiddenChunk) < count);
  }
  std::span<const PreparedRows<F>> hidden() const { return {pieces_, static_cast<std::size_t>(num_pieces_)}; }

  HiddenUnits units, gates;

 private:
  Options options_;
  PreparedRows<F>* pieces_;
  Index num_pieces_ = 0;
  std::byte *x_, *hidden_;
};

/// unit = act(unit) or, with gates, act(gate) unit or what an Act of two makes of gate and unit. Through a pointer, so
/// that one compiled net serves all activations: a call has some hundred units to do.
using ActivateUnits = void (*)(Isa isa, Index count, const float* gate, float* unit);
template <class Act>
void activate_units(Isa isa, Index count, const float* gate, float* unit) {
  if constexpr (requires(float v) { Act::value(v, v); })
    simd::transform<float>(
        isa, count, [](auto g, auto u) { return Act::value(g, u); }, unit, gate, unit);
  else if (gate)
    simd::transform<float>(
        isa, count, [](auto g, auto u) { return Act::value(g) * u; }, unit, gate, unit);
  else
    simd::transform<float>(
        isa, count, [](auto u) { return Act::value(u); }, unit, unit);
}

/// Hidden units h0..h1 of some rows, column 0 being h0. h0 is a multiple of kPanel. `next` is the panel that is used
/// after them.
template <class F>
void make_units(Isa isa, ActivateUnits activate, const PackedFfn<F>& net, const PreparedRows<F>& x, Index h0, Index h1,
                const HiddenUnits& units, const HiddenUnits& gates, const void* next) {
  const Index p0 = h0 / kPanel;
  PanelRange panels{p0, num_panels(h1), 0, net.width(), net.gate ? net.gate->panel_data(p0) : next};
  multiply_panels(isa, {&x, 1}, *net.up, panels, units.data, units.pitch, Store::overwrite,
                  net.up_bias ? net.up_bias + h0 : nullptr);
  panels.next = next;
  if (net.gate)
    multiply_panels(isa, {&x, 1}, *net.gate, panels, gates.data, gates.pitch, Store::overwrite,
                    net.gate_bias ? net.gate_bias + h0 : nullptr);
  for (Index i = 0; i < x.rows; ++i) activate(isa, h1 - h0, net.gate ? gates.row(i) : nullptr, units.row(i));
}

/// The share of hidden units h0..h1 in the outputs of panels p0..p1.
template <class F>
void add_outputs(Isa isa, const PackedFfn<F>& net, std::span<const PreparedRows<F>> hidden, Index h0, Index h1,
                 Index p0, Index p1, float* y, Index y_stride, const void* next) {
  const Index j = p0 * kPanel;
  multiply_panels(isa, hidden, *net.down, {p0, p1, h0, h1, next}, y + j, y_stride, h0 ? Store::add : Store::overwrite,
                  net.down_bias && h0 == 0 ? net.down_bias + j : nullptr);
}

/// One block from x to y on one worker: each weight is read once, the hidden units never leave L2. `next` is the
/// panel that the worker uses after it.
template <class F>
void run_ffn_block(Isa isa, ActivateUnits activate, const PackedFfn<F>& net, const FfnRows& rows, const FfnBlock& block,
                   std::byte* memory, const void* next) {
  const Index count = block.rows(), hidden = net.hidden();
  const Index at_once = units_at_once<F>(isa, count, hidden), per_call = units_per_call(count, hidden);
  FfnScratch<F> own({isa, count, net.width(), hidden}, memory);
  const auto x = own.prepare_x([&](Index i) { return rows.row(block.begin + i); });
  float* const y = rows.y.data() + block.begin * rows.y.stride(0);
  Index h0 = 0, h1;
  do {  // once without hidden units, for the bias
    own.clear_hidden();
    h1 = std::min(h0 + at_once, hidden);
    Index u0 = h0, u1;
    do {
      u1 = std::min(u0 + per_call, h1);
      HiddenUnits units = own.units;
      if (refers_to_rows<F>(isa)) units.data += u0 - h0;
      make_units(isa, activate, net, x, u0, u1, units, own.gates,
                 u1 < h1 ? net.up->panel_data(u1 / kPanel) : net.down->panel_data(0, h0));
      own.add_hidden(u1 - u0, [&](Index i) { return units.row(i); });
    } while ((u0 = u1) < h1);
    add_outputs(isa, net, own.hidden(), h0, h1, 0, num_panels(net.outputs()), y, rows.y.stride(0),
                h1 < hidden ? net.up->panel_data(h1 / kPanel) : next);
  } while ((h0 = h1) < hidden);
}

}  // namespace detail

/// All nets, of any hidden width each, on their rows. // nets [E], x [S, D], y [N, D']
/// Tasks are blocks of rows, the largest first, so that skewed loads keep all workers busy. Where there are few of
/// them, what is left after one, two, ... for each worker is shared out: first its hidden units, then its outputs. The
/// result is the same either way. 4 N D H operations (6 with gates).
template <PackedFormat F>
void packed_ffn(detail::ActivateUnits activate, View<const PackedFfn<F>, 1> nets, Rows<const float> x,
                const SlotRows& slots, Rows<float> y, Context& ctx) {
  if (y.extent(0) == 0) return;
  const detail::FfnRows rows{x, slots, y};
  auto& ws = ctx.workspace;
  const auto scope = ws.scope();
  const Index workers = ctx.parallel_for.workers(), width = nets[0].width(), num_nets = nets.extent(0);
  // The blocks of one net are shared evenly only if there is one, two, ... for each worker. Integer rows, which are
  // costly to prepare, are worth a block where weights of more digits are better shared out than read twice.
  const Index most = packed_rows<F>(ctx.isa), least = IntFormat<DenseFormat<F>> ? kLeastShare * workers : most + 1;
  const auto split = [&](Index net) {
    const Index n = slots.count(net);
    BalancedSplit blocks(n, most);
    if (num_nets == 1 && n >= least && blocks.count % workers) {
      const Index wanted = blocks.count + workers - blocks.count % workers;
      blocks = BalancedSplit(n, (n + wanted - 1) / wanted);
    }
    return blocks;
  };
  Index count = 0, tallest = 0, longest = 0;
  for (Index e = 0; e < num_nets; ++e) {
    const BalancedSplit blocks = split(e);
    count += blocks.count;
    if (blocks.count) tallest = std::max(tallest, blocks.size(0));
    longest = std::max(longest, nets[e].hidden());
  }
  auto tasks = ws.take<detail::FfnBlock>(count);
  Index at = 0;
  for (Index e = 0; e < num_nets; ++e) {
    const BalancedSplit blocks = split(e);
    for (Index b = 0; b < blocks.count; ++b, ++at)
      tasks[at] = {e, slots.offset[e] + blocks.begin(b), slots.offset[e] + blocks.begin(b + 1)};
  }
  std::sort(tasks.data(), tasks.data() + count,
            [](const auto& a, const auto& b) { return std::pair(b.rows(), a.begin) < std::pair(a.rows(), b.begin); });

  Index bytes = 0;  // fewer rows may make more units at once
  for (Index r = 1; r <= tallest; ++r)
    bytes = std::max(bytes, detail::FfnScratch<F>::bytes({ctx.isa, r, width, longest}));
  auto scratch = ws.take<std::byte>(workers, bytes);
  constexpr Index kManyTurns = 8;  // of a worker, after which a whole block more or less makes no difference
  const Index shared = count < kManyTurns * workers ? count % workers : 0, whole = count - shared;
  ctx.parallel_for(whole, [&](Index begin, Index end, Index worker) {
    for (Index i = begin; i < end; ++i)
      detail::run_ffn_block(ctx.isa, activate, nets[tasks[i].net], rows, tasks[i], &scratch(worker, 0),
                            nets[tasks[std::min(i + 1, count - 1)].net].up->panel_data(0));
  });
  if (shared == 0) return;

  // A task for each worker. Each task prepares its rows anew, so the fewer the better.
  const Index pitch = detail::HiddenUnits::pitch_of(longest);
  auto first_row = ws.take<Index>(shared + 1);
  first_row[0] = 0;
  for (Index i = 0; i < shared; ++i) first_row[i + 1] = first_row[i] + tasks[whole + i].rows();
  auto hidden_units = ws.take<float>(first_row[shared], pitch);
  const auto share = [&](Index columns, auto&& body) {
    const Index panels = num_panels(columns), parts = (workers + shared - 1) / shared;
    const BalancedSplit widths(panels, std::max<Index>(1, (panels + parts - 1) / parts));
    ctx.parallel_for(shared * widths.count, [&](Index begin, Index end, Index worker) {
      for (Index i = begin; i < end; ++i) {
        const Index which = i / widths.count, part = i % widths.count;
        const auto& block = tasks[whole + which];
        detail::FfnScratch<F> own({ctx.isa, block.rows(), width, nets[block.net].hidden()}, &scratch(worker, 0));
        body(block, hidden_units.rows(first_row[which], first_row[which + 1]), widths.begin(part),
             widths.begin(part + 1), own);
      }
    });
  };
  share(longest, [&](const detail::FfnBlock& block, Rows<float> units, Index p0, Index p1, auto& own) {
    const auto& net = nets[block.net];
    const Index end = std::min(p1 * kPanel, net.hidden());
    const auto in = own.prepare_x([&](Index i) { return rows.row(block.begin + i); });
    for (Index h0 = p0 * kPanel, h1; h0 < end; h0 = h1) {
      h1 = std::min(h0 + detail::units_per_call(in.rows, net.hidden()), end);
      detail::make_units(ctx.isa, activate, net, in, h0, h1, {&units(0, h0), pitch}, own.gates,
                         h1 < end ? net.up->panel_data(h1 / kPanel) : nullptr);
    }
  });
  share(nets[0].outputs(), [&](const detail::FfnBlock& block, Rows<const float> units, Index p0, Index p1, auto& own) {
    const auto& net = nets[block.net];
    const Index at_once = detail::units_at_once<F>(ctx.isa, block.rows(), net.hidden());
    for (Index h0 = 0; h0 == 0 || h0 < net.hidden(); h0 += at_once) {
      const Index h1 = std::min(h0 + at_once, net.hidden());
      own.clear_hidden();
      own.add_hidden(h1 - h0, [&](Index i) { return &units(i, h0); });
      detail::add_outputs(ctx.isa, net, own.hidden(), h0, h1, p0, p1, rows.y.data() + block.begin * rows.y.stride(0),
                          rows.y.stride(0), h1 < net.hidden() ? net.down->panel_data(p0, h1) : nullptr);
    }
  });
}
template <class Act, PackedFormat F>
void packed_ffn(View<const PackedFfn<F>, 1> nets, Rows<const float> x, const SlotRows& slots, Rows<float> y,
                Context& ctx) {
  packed_ffn<F>(&detail::activate_units<Act>, nets, x, slots, y, ctx);
}

}  // namespace gatefold::kernels

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void packed_ffn<float>(detail::ActivateUnits, View<const PackedFfn<float>, 1>, Rows<const float>,
                                         const SlotRows&, Rows<float>, Context&);
GATEFOLD_COMPILED void packed_ffn<bf16>(detail::ActivateUnits, View<const PackedFfn<bf16>, 1>, Rows<const float>,
                                        const SlotRows&, Rows<float>, Context&);
GATEFOLD_COMPILED void packed_ffn<int8>(detail::ActivateUnits, View<const PackedFfn<int8>, 1>, Rows<const float>,
                                        const SlotRows&, Rows<float>, Context&);
GATEFOLD_COMPILED void packed_ffn<int4>(detail::ActivateUnits, View<const PackedFfn<int4>, 1>, Rows<const float>,
                                        const SlotRows&, Rows<float>, Context&);
GATEFOLD_COMPILED void packed_ffn<mxfp4>(detail::ActivateUnits, View<const PackedFfn<mxfp4>, 1>, Rows<const float>,
                                         const SlotRows&, Rows<float>, Context&);
GATEFOLD_COMPILED void packed_ffn<fp8>(detail::ActivateUnits, View<const PackedFfn<fp8>, 1>, Rows<const float>,
                                       const SlotRows&, Rows<float>, Context&);

}  // namespace gatefold::kernels
#endif
