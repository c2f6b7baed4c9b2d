#pragma once
#include <algorithm>

#include "gatefold/core/context.hpp"
#include "gatefold/core/scalar.hpp"

namespace gatefold {

/// [0, count) cut every `size` items. Where the cuts fall depends on the tensor alone, never on the threads: that keeps
/// each element's rounding, and each partial sum, the same on any machine size.
struct Blocks {
  // Four arrays of floats (weight, gradient, two moments) of one block take 64 KiB: they stay in L2 between the loops
  // over a block, and a block is enough work (microseconds) to be worth handing to a thread.
  static constexpr Index kSize = 4096;

  Index count;
  Index size = kSize;

  Index number() const { return (count + size - 1) / size; }
  Index begin(Index block) const { return block * size; }
  Index end(Index block) const { return std::min(count, (block + 1) * size); }
};

/// body(block, begin, end) for every block, in parallel.
template <class Body>
void for_each_block(Blocks blocks, const ParallelFor& parallel_for, Body&& body) {
  parallel_for(blocks.number(), [&](Index first, Index last, Index) {
    for (Index b = first; b < last; ++b) body(b, blocks.begin(b), blocks.end(b));
  });
}

/// The sum of term(begin, end) over the blocks: in parallel, but always added in the order of the blocks.
template <class Term>
double sum_over_blocks(Blocks blocks, Context& ctx, Term&& term) {
  const auto scope = ctx.workspace.scope();
  auto partial = ctx.workspace.take<double>(blocks.number());
  for_each_block(blocks, ctx.parallel_for,
                 [&](Index block, Index begin, Index end) { partial[block] = term(begin, end); });
  double sum = 0;
  for (Index b = 0; b < blocks.number(); ++b) sum += partial[b];
  return sum;
}

/// The sum of term(i) for i in [begin, end), in double and in eight lanes, so that the compiler may use vectors without
/// changing the order of additions.
template <class Term>
double sum_in_lanes(Index begin, Index end, Term&& term) {
  constexpr Index kLanes = 8;
  double lane[kLanes] = {};
  Index i = begin;
  for (; i + kLanes <= end; i += kLanes)
    for (Index l = 0; l < kLanes; ++l) lane[l] += term(i + l);
  for (Index l = 0; i < end; ++i, ++l) lane[l] += term(i);
  double sum = 0;
  for (const double x : lane) sum += x;
  return sum;
}

template <class T>
double sum_of_squares(const T* x, Index begin, Index end) {
  return sum_in_lanes(begin, end, [x](Index i) { return to_double(x[i]) * to_double(x[i]); });
}

}  // namespace gatefold
