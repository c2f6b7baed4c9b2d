#pragma once
#include <algorithm>
#include <vector>

#include "gatefold/core/context.hpp"

namespace gatefold::test {

/// forward under a layout that is gone right after: its memory holds rubbish, and the context knows of none. What is
/// kept of ctx.layout must be a copy.
template <class Forward>
auto forward_under_mortal_layout(Context& ctx, Forward&& forward) {
  if (!ctx.layout) return forward();
  std::vector<Index> offset(ctx.layout->offset.data(), ctx.layout->offset.data() + ctx.layout->offset.extent(0));
  std::vector<std::uint8_t> modality(ctx.layout->modality.data(),
                                     ctx.layout->modality.data() + ctx.layout->modality.extent(0));
  TokenLayout mortal{.offset = {offset.data(), {std::ssize(offset)}},
                     .modality = {modality.data(), {std::ssize(modality)}},
                     .num_modalities = ctx.layout->num_modalities};
  ctx.layout = &mortal;
  auto saved = forward();
  ctx.layout = nullptr;
  std::ranges::fill(offset, Index{-1});
  std::ranges::fill(modality, std::uint8_t{kPadding});
  mortal = {};
  return saved;
}

}  // namespace gatefold::test
