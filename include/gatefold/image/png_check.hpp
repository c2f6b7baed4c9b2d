#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "gatefold/core/language.hpp"

namespace gatefold::detail {

/// Walks the chunks of a PNG (W3C PNG, section 5) up to IEND; what stb_image would not notice, or nothing: a file cut
/// short after its pixels, and a first IDAT without data, for which stb 2.27 copies to a null pointer.
inline std::string png_fault(std::span<const std::uint8_t> bytes) {
  bool data_seen = false;
  for (std::size_t at = 8; at + 12 <= bytes.size();) {
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length = length << 8 | bytes[at + i];
    const std::string_view type(reinterpret_cast<const char*>(bytes.data()) + at + 4, 4);
    if (length > bytes.size() - at - 12) break;
    if (type == "IEND") return "";
    if (type == "IDAT" && !data_seen && length == 0) return "starts its pixels with an empty IDAT chunk";
    data_seen = data_seen || type == "IDAT";
    at += 12 + length;  // length and type before the data, a checksum after
  }
  return "ends before its IEND chunk (cut short?)";
}

}  // namespace gatefold::detail
