#pragma once
#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "gatefold/core/language.hpp"

/// Axis letters, the same in every declaration of the library:
///   B batch (sequences)      T tokens of a sequence     S tokens routed together   D width        H hidden width
///   E experts                K selected per token       C seats per expert         N seated (token, expert) pairs
///   R generic rows           V vocabulary               P embedding (projection)   M modalities
namespace gatefold {

using Index = std::ptrdiff_t;  ///< Counts elements; a name says so when it counts anything else.

template <std::size_t Rank>
using Shape = std::array<Index, Rank>;

template <std::size_t Rank>
constexpr Index element_count(const Shape<Rank>& shape) {
  Index n = 1;
  for (const Index extent : shape) n *= extent;
  return n;
}

namespace detail {
// Texts are made outside the templates that need them, once for all ranks and out of line: they are a large part of the
// code that every program compiles, and run at most once.
[[gnu::cold, gnu::noinline]] inline std::string shape_text(std::span<const Index> shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.size(); ++axis) text += (axis ? ", " : "") + std::to_string(shape[axis]);
  return text + "]";
}
}  // namespace detail

template <std::size_t Rank>
std::string to_string(const Shape<Rank>& shape) {
  return detail::shape_text(shape);
}

}  // namespace gatefold
