#pragma once
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// Throws ShapeError unless the sequences of the layout own exactly the rows 0..rows, in order.
inline void expect_sequences(View<const Index, 1> offset, Index rows, std::string_view what) {
  const Index sequences = offset.extent(0) - 1;
  bool ordered = sequences >= 0 && offset[0] == 0;
  for (Index b = 0; ordered && b < sequences; ++b) ordered = offset[b] <= offset[b + 1];
  if (!ordered)
    throw ShapeError(std::string(what) + " does not ascend from 0, expected [0, ..., " + std::to_string(rows) + "]");
  if (offset[sequences] != rows)
    throw ShapeError(std::string(what) + " ends at [" + std::to_string(offset[sequences]) + "], expected [" +
                     std::to_string(rows) + "]");
}

/// Sequences of as many tokens each, of one modality, without padding. // in the workspace
inline TokenLayout equal_sequences(Index sequences, Index length, Workspace& workspace) {
  auto offset = workspace.take<Index>(sequences + 1);
  for (Index b = 0; b <= sequences; ++b) offset[b] = b * length;
  return {.offset = offset, .modality = workspace.take_zeroed<std::uint8_t>(sequences * length)};
}
/// The layout that no layout stands for: all rows are one sequence.
inline TokenLayout one_sequence(Index rows, Workspace& workspace) { return equal_sequences(1, rows, workspace); }

/// x with zeros in the rows of padding, which may hold anything: 0 times that need not be 0. x itself where nothing is
/// padding, else a copy in the workspace. // [R, D]
template <Real T>
Rows<const T> without_padding(Rows<const T> x, Context& ctx) {
  if (!ctx.layout) return x;
  const auto modality = ctx.layout->modality;
  if (std::find(modality.data(), modality.data() + modality.size(), kPadding) == modality.data() + modality.size())
    return x;
  auto copy = ctx.workspace.take<T>(x.extent(0), x.extent(1));
  kernels::for_each_row(x.extent(0), x.extent(1), ctx, [&](Index i) {
    if (modality[i] == kPadding)
      std::fill_n(&copy(i, 0), x.extent(1), T(0));
    else
      std::copy_n(&x(i, 0), x.extent(1), &copy(i, 0));
  });
  return copy;
}

}  // namespace gatefold
