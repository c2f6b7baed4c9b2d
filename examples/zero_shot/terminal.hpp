#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>

#include "gatefold/core/shape.hpp"
#include "gatefold/text/unicode.hpp"

namespace zero_shot {

using gatefold::Index;

/// A horizontal bar of at most `width` columns in eighths of a column; «share» of it is filled. NaN gives none, and
/// what is not nothing gives at least a sliver.
inline std::string bar(double share, Index width) {
  static constexpr std::array<std::string_view, 9> kEighths{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
  if (!(share > 0) || width <= 0) return "";
  const auto eighths = static_cast<Index>(std::lround(std::min(share, 1.0) * 8 * static_cast<double>(width)));
  std::string text;
  for (Index i = 0; i < eighths / 8; ++i) text += kEighths[8];
  return text + std::string(kEighths[eighths == 0 ? 1 : static_cast<std::size_t>(eighths % 8)]);
}

/// Text from outside as a terminal may safely see it: UTF-8 with each control character (an escape sequence could do
/// harm) and each broken byte as «?».
inline std::string printable(std::string_view text) {
  std::string shown;
  for (std::size_t at = 0; at < text.size();) {
    const auto character = gatefold::character_at(text, at);
    at += character.bytes.size();
    const bool broken = !gatefold::is_utf8(character.bytes) || gatefold::is_control(character);
    shown += broken ? std::string_view("?") : character.bytes;
  }
  return shown;
}

/// Columns of printable text: wide characters take two, combining ones none.
inline Index columns(std::string_view text) {
  Index count = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto character = gatefold::character_at(text, at);
    at += character.bytes.size();
    count += character.code < 0 ? 1 : utf8proc_charwidth(character.code);
  }
  return count;
}

/// Printable text in exactly `width` columns, cut with «…» or filled up with spaces.
inline std::string in_columns(std::string_view text, Index width) {
  std::string shown(text);
  if (columns(text) > width) {
    shown.clear();
    for (std::size_t at = 0; at < text.size();) {
      const auto character = gatefold::character_at(text, at);
      if (columns(shown) + columns(character.bytes) > width - 1) break;
      shown += character.bytes;
      at += character.bytes.size();
    }
    shown += "…";
  }
  shown.append(static_cast<std::size_t>(std::max<Index>(0, width - columns(shown))), ' ');
  return shown;
}

/// «81.3 %», «< 0.1 %», or «no number».
inline std::string percent(double share) {
  if (std::isnan(share)) return "no number";
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %%", 100 * share);
  return text.data();
}

}  // namespace zero_shot
