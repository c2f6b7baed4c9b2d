#pragma once
#include "gatefold/kernels/packed.hpp"
#include "gatefold/module/grouped_expert.hpp"

/// Feed-forward nets of packed weights, one or many, in one go: y = down(act(up(x))) without leaving the cache.
namespace gatefold::kernels {

/// One net. Hidden unit h is act(up_h) or, with a gate, act(gate_h) up_h.
template <PackedFormat F>
struct PackedFfn {
  const Packed<F>* gate = nullptr;  // [H, D] or null
  const Packed<F>* up;              // [H, D]
  const Packed<F>* down;            // [D, H]
  const float* gate_bias = nullptr;
  const float* up_bias = nullptr;
  const float* down_bias = nullptr;

  Index width() const { return up->extent(1); }
  Index hidden() const { return up->extent(0); }
};

/// Hidden units that are computed, activated and used up before the next ones are begun: 112 rows x 512 are 224 KiB of
/// L2. Fixed, since sums over hidden units are taken in pieces of it.
inline constexpr Index kHiddenChunk = 512;

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

/// Rows of a power of two would share cache sets.
inline constexpr Index kHiddenPitch = kHiddenChunk + 16;

/// Some slots of one net.
struct FfnBlock {
  Index net, begin, end;
};

/// Scratch of one worker: x and hidden units as the format wants them, hidden units as floats.
template <class F>
class FfnScratch {
 public:
  static Index bytes(Isa isa, Index rows, Index width) {
    return PreparedBlock<F>::bytes(isa, rows, width) + PreparedBlock<F>::bytes(isa, rows, kHiddenChunk) +
           2 * ScratchCutter::bytes<float>(rows * kHiddenPitch);
  }
  FfnScratch(Isa isa, Index rows, Index width, std::byte* memory)
      : x(memory),
        hidden(memory + PreparedBlock<F>::bytes(isa, rows, width)),
        units(reinterpret_cast<float*>(memory + PreparedBlock<F>::bytes(isa, rows, width) +
                                       PreparedBlock<F>::bytes(isa, rows, kHiddenChunk))),
        gates(units + ScratchCutter::bytes<float>(rows * kHiddenPitch) / static_cast<Index>(sizeof(float))) {}

  PreparedBlock<F> x, hidden;
  float *units, *gates;  // [rows, kHiddenPitch]
};

/// Hidden units h0..h1 of some rows -> units // [rows, pitch], column 0 being h0. h0 is a multiple of kPanel.
template <class Act, class F>
void hidden_units(Isa isa, const PackedFfn<F>& net, const PreparedRows<F>& x, Index h0, Index h1, float* units,
                  float* gates, Index pitch) {
  const PanelRange panels{h0 / kPanel, num_panels(h1), 0, net.width()};
  multiply_panels(isa, x, *net.up, panels, units, pitch, Store::overwrite, net.up_bias ? net.up_bias + h0 : nullptr);
  if (net.gate)
    multiply_panels(isa, x, *net.gate, panels, gates, kHiddenPitch, Store::overwrite,
                    net.gate_bias ? net.gate_bias + h0 : nullptr);
  for (Index i = 0; i < x.rows; ++i) {
    float* const unit = units + i * pitch;
    if (net.gate)
      simd::transform<float>(
          isa, h1 - h0, [](auto g, auto u) { return Act::value(g) * u; }, unit, gates + i * kHiddenPitch, unit);
    else
      simd::transform<float>(
          isa, h1 - h0, [](auto u) { return Act::value(u); }, unit, unit);
  }
}

/// The share of hidden units h0..h1 in the outputs of panels p0..p1.
template <class F>
void add_outputs(Isa isa, const PackedFfn<F>& net, const PreparedRows<F>& hidden, Index h0, Index h1, Index p0,
                 Index p1, float* y, Index y_stride) {
  const Index j = p0 * kPanel;
  multiply_panels(isa, hidden, *net.down, {p0, p1, h0, h1}, y + j, y_stride, h0 ? Store::add : Store::overwrite,
                  net.down_bias && h0 == 0 ? net.down_bias + j : nullptr);
}

/// One block from x to y on one worker: each weight is read once, the hidden units never leave L2.
template <class Act, class F>
void run_ffn_block(Isa isa, const PackedFfn<F>& net, const FfnRows& rows, const FfnBlock& block, std::byte* memory) {
  const Index count = block.end - block.begin, hidden = net.hidden();
  FfnScratch<F> own(isa, count, net.width(), memory);
  const auto x = own.x.prepare(isa, count, net.width(), [&](Index i) { return rows.row(block.begin + i); });
  float* const y = rows.y.data() + block.begin * rows.y.stride(0);
  for (Index h0 = 0; h0 == 0 || h0 < hidden; h0 += kHiddenChunk) {  // once without hidden units, for the bias
    const Index h1 = std::min(h0 + kHiddenChunk, hidden);
    hidden_units<Act>(isa, net, x, h0, h1, own.units, own.gates, kHiddenPitch);
    const auto units = own.hidden.prepare(isa, count, h1 - h0, [&](Index i) { return own.units + i * kHiddenPitch; });
    add_outputs(isa, net, units, h0, h1, 0, num_panels(net.width()), y, rows.y.stride(0));
  }
}

}  // namespace detail

/// All nets on their rows. // nets [E], x [S, D], y [N, D]
/// Tasks are blocks of rows, the largest first, so that skewed loads keep all workers busy;
/// with fewer blocks than workers, first the hidden units and then the outputs are shared out instead. The result is
/// the same either way. 4 N D H operations (6 with gates).
template <class Act, PackedFormat F>
void packed_ffn(View<const PackedFfn<F>, 1> nets, Rows<const float> x, const SlotRows& slots, Rows<float> y,
                Context& ctx) {
  if (y.extent(0) == 0) return;
  const detail::FfnRows rows{x, slots, y};
  auto& ws = ctx.workspace;
  const auto scope = ws.scope();
  const Index workers = ctx.parallel_for.workers(), width = nets[0].width(), num_nets = nets.extent(0);
  // A few blocks are shared evenly only if there is one, two, ... for each worker.
  const auto split = [&](Index net) {
    const Index n = slots.count(net);
    BalancedSplit blocks(n, kPackedRows);
    if (num_nets == 1 && blocks.count > 1 && blocks.count % workers) {
      const Index wanted = blocks.count + workers - blocks.count % workers;
      blocks = BalancedSplit(n, (n + wanted - 1) / wanted);
    }
    return blocks;
  };
  Index count = 0, tallest = 0;
  for (Index e = 0; e < num_nets; ++e) {
    const BalancedSplit blocks = split(e);
    count += blocks.count;
    if (blocks.count) tallest = std::max(tallest, blocks.size(0));
  }
  auto tasks = ws.take<detail::FfnBlock>(count);
  Index at = 0;
  for (Index e = 0; e < num_nets; ++e) {
    const BalancedSplit blocks = split(e);
    for (Index b = 0; b < blocks.count; ++b, ++at)
      tasks[at] = {e, slots.offset[e] + blocks.begin(b), slots.offset[e] + blocks.begin(b + 1)};
  }
  std::sort(tasks.data(), tasks.data() + count, [](const auto& a, const auto& b) {
    return std::pair(b.end - b.begin, a.begin) < std::pair(a.end - a.begin, b.begin);
  });

  auto scratch = ws.take<std::byte>(workers, detail::FfnScratch<F>::bytes(ctx.isa, tallest, width));
  if (count >= workers) {
    ctx.parallel_for(count, [&](Index begin, Index end, Index worker) {
      for (Index i = begin; i < end; ++i)
        detail::run_ffn_block<Act>(ctx.isa, nets[tasks[i].net], rows, tasks[i], &scratch(worker, 0));
    });
    return;
  }

  // Few rows: hidden units of all blocks in tasks of kTaskPanels, then outputs likewise.
  constexpr Index kTaskPanels = 4;
  Index longest = 0;
  for (Index e = 0; e < num_nets; ++e) longest = std::max(longest, nets[e].hidden());
  const Index pitch = num_panels(longest) * kPanel + 16;
  auto units = ws.take<float>(rows.y.extent(0), pitch);
  const auto share = [&](Index columns_per_net, auto&& body) {
    const Index parts = (num_panels(columns_per_net) + kTaskPanels - 1) / kTaskPanels;
    ctx.parallel_for(count * parts, [&](Index begin, Index end, Index worker) {
      for (Index i = begin; i < end; ++i)
        body(tasks[i / parts], i % parts * kTaskPanels,
             detail::FfnScratch<F>(ctx.isa, tallest, width, &scratch(worker, 0)));
    });
  };
  share(longest, [&](const detail::FfnBlock& block, Index p0, detail::FfnScratch<F> own) {
    const auto& net = nets[block.net];
    const Index h0 = p0 * kPanel, h1 = std::min(h0 + kTaskPanels * kPanel, net.hidden());
    if (h0 >= h1) return;
    const auto in =
        own.x.prepare(ctx.isa, block.end - block.begin, width, [&](Index i) { return rows.row(block.begin + i); });
    detail::hidden_units<Act>(ctx.isa, net, in, h0, h1, &units(block.begin, h0), own.gates, pitch);
  });
  share(width, [&](const detail::FfnBlock& block, Index p0, detail::FfnScratch<F> own) {
    const auto& net = nets[block.net];
    const Index p1 = std::min(p0 + kTaskPanels, num_panels(width));
    for (Index h0 = 0; h0 == 0 || h0 < net.hidden(); h0 += kHiddenChunk) {
      const Index h1 = std::min(h0 + kHiddenChunk, net.hidden());
      const auto hidden = own.hidden.prepare(ctx.isa, block.end - block.begin, h1 - h0,
                                             [&](Index i) { return &units(block.begin + i, h0); });
      detail::add_outputs(ctx.isa, net, hidden, h0, h1, p0, p1, rows.y.data() + block.begin * rows.y.stride(0),
                          rows.y.stride(0));
    }
  });
}

}  // namespace gatefold::kernels
