#pragma once
#include <bit>
#include <cstdint>
#include <span>
#include <string>

#include "gatefold/io/safetensors.hpp"

namespace gatefold {

/// Whether no number is NaN or infinite. At the speed of memory.
inline bool is_finite(std::span<const float> values) {
  constexpr std::uint32_t kExponent = 0x7f800000;
  std::uint32_t bad = 0;
  for (const float value : values) bad |= (std::bit_cast<std::uint32_t>(value) & kExponent) == kExponent;
  return bad == 0;
}

/// Throws FormatError that names the tensor of a file which holds what is no finite number.
inline void expect_finite(std::span<const float> values, const std::string& source, const std::string& tensor) {
  if (!is_finite(values))
    throw FormatError(source + ": tensor " + detail::quote_text(tensor) +
                      " holds NaN or infinity; the file is damaged, or the training that wrote it had diverged");
}

}  // namespace gatefold
