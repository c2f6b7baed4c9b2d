#pragma once
#include <cstdint>

#include "gatefold/core/view.hpp"

namespace gatefold {

inline constexpr std::uint8_t kPadding = 0xff;  ///< The modality of a row that is no token.

/// What the rows of a pass are. Sequence b owns the rows offset[b]..offset[b+1]; each row has a modality, or is
/// padding: then nobody attends to it, it takes no seat at an expert, and it enters no statistic.
///
/// Views of the caller's memory, which must live, and stay as it is, through the forward pass only: what a layer needs
/// of them on the way back it keeps for itself.
struct TokenLayout {
  View<const Index, 1> offset;           // [B+1]
  View<const std::uint8_t, 1> modality;  // [R]
  Index num_modalities = 1;              // M
  /// Where a row stands in its sequence, for layers that turn it by that (rotary); empty: counted from the sequence's
  /// first token, or on from what a cache holds. For rows that are a choice from a longer sequence.
  View<const Index, 1> place = {};  // [R]

  Index num_sequences() const { return offset.extent(0) - 1; }
};

}  // namespace gatefold
