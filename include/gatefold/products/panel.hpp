#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "gatefold/core/isa.hpp"
#include "gatefold/core/scalar.hpp"
#include "gatefold/products/matmul_portable.hpp"

/// What the packed weight formats share. A matrix w [N, K] of y = x wᵀ is kept in panels of kPanel outputs, k running
/// down the panel, in an order that every instruction set reads as one stream.
///
/// Each format F (bf16, int8, int4, mxfp4, fp8) has a header with
///   PanelView<F>                       one panel: pointers, k
///   pack_panel_F, unpack_panel         from and to rows of floats
///   panel_values<F>                    elements of a packed panel
///   prepared_bytes<F>, prepare_rows<F> turn activations into what the kernels of an Isa read
///   refers_to_rows<F>                  whether that refers to the activations or is a copy of them
///   multiply_panel                     activations times one panel
/// A row's result depends on that row and the panel alone, never on the rows beside it, bit by bit.
namespace gatefold::kernels {

inline constexpr Index kPanel = 32;       ///< Outputs of a panel: two registers of AVX-512, two AMX tiles.
inline constexpr Index kDepthGroup = 64;  ///< k is padded to a multiple: one AMX tile of int8, one int4 scale.

constexpr Index padded_depth(Index k) { return (k + kDepthGroup - 1) / kDepthGroup * kDepthGroup; }
constexpr Index num_panels(Index n) { return (n + kPanel - 1) / kPanel; }

template <class F>
struct PanelView;
template <class F>
struct PreparedRows;

/// Where a product of some rows and a panel goes: c[i * stride + j] (+)= the product (+ bias[j]), j < columns.
struct PanelOutput {
  float* c;
  Index stride;
  Index columns;  // <= kPanel
  Store store;
  const float* bias;  // [columns] or null
};

/// Rows that multiply_few_rows is for.
inline constexpr Index kFewRows = 4;

/// Whole panels, one after the other.
template <class F>
struct PanelRun {
  PanelView<F> first;
  Index count;
  Index stride;        // values from panel to panel
  Index scale_stride;  // scales from panel to panel
};

/// From one of the panels that a tile multiplies at once to the next.
struct StreamStride {
  Index values = 0, scales = 0, columns = kPanel;
};

/// multiply_few_rows(isa, pieces, run, out) multiplies 1..kFewRows rows by several panels at once, since one panel
/// alone makes too few chains of additions to hide their latency. `pieces` are the rows in pieces of their depth, whose
/// products are added up: each element is what multiply_panel gives. Returns how many panels it took from the first on,
/// all but a remainder, or 0 where it is not for it.
///
/// This is its frame. A tile takes `streams` panels, and they are far apart: each stream goes through its part of
/// the run from end to end. The CPU then prefetches across panels, while neighbours taken at once are many short
/// streams (cold int8 weights: 26 GB/s became 39 of 41).
template <class F, class Tile>
Index for_each_in_streams(Index streams, std::span<const PreparedRows<F>> pieces, const PanelRun<F>& run,
                          const PanelOutput& out, Tile&& tile) {
  const Index span = run.count / streams;
  const StreamStride stride{span * run.stride, span * run.scale_stride, span * kPanel};
  for (Index i = 0; i < span; ++i) {
    const PanelView<F> panel = run.first.shifted(i * run.stride, i * run.scale_stride);
    PanelOutput to{out.c + i * kPanel, out.stride, kPanel, out.store, out.bias ? out.bias + i * kPanel : nullptr};
    Index k0 = 0;
    for (const auto& a : pieces) {
      tile(a, panel.depth(k0, k0 + a.k), stride, to);
      to.store = Store::add;
      to.bias = nullptr;
      k0 += a.k;
    }
  }
  return span * streams;
}

/// For 3 and 4 rows, at each line of a stream: so many multiply-adds then wait for weights that the CPU has no room for
/// the loads which would run ahead of them (AMD Zen 5: half of all cycles), unless Cpu::prefetches_streams. Fewer rows,
/// and int8, are faster without.
inline void prefetch_in_stream(const void* line) {
  constexpr std::uintptr_t kAhead = 4096;
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(line) + kAhead));
}

/// Writes one row of the product, by the same operations in the same order on every path.
inline void store_row(const PanelOutput& out, Index row, const float* product) {
  float* const c = out.c + row * out.stride;
  for (Index j = 0; j < out.columns; ++j) {
    float v = product[j];
    if (out.bias) v += out.bias[j];
    c[j] = out.store == Store::add ? c[j] + v : v;
  }
}

namespace detail {
/// Cuts scratch into 64-byte aligned pieces.
class ScratchCutter {
 public:
  explicit ScratchCutter(std::byte* scratch) : at_(scratch) {}
  template <class T>
  T* take(Index count) {
    T* const piece = reinterpret_cast<T*>(at_);
    at_ += bytes<T>(count);
    return piece;
  }
  template <class T>
  static constexpr Index bytes(Index count) {
    return (count * static_cast<Index>(sizeof(T)) + 63) / 64 * 64;
  }

 private:
  std::byte* at_;
};
}  // namespace detail

}  // namespace gatefold::kernels
