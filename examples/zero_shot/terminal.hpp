#pragma once
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
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

/// How what is printed is shown.
struct Terminal {
  bool colour = false;
  Index width = 80;  ///< 40 to 80 columns.
};

/// Colour is for terminals that have it (TERM is not «dumb»), unless NO_COLOR is set and not empty (no-color.org). The
/// width is what COLUMNS says, else the terminal itself; a file is as wide as 80 columns.
inline Terminal terminal_of(int descriptor) {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  Terminal terminal;
  const bool interactive = ::isatty(descriptor) != 0;
  terminal.colour = interactive && variable("NO_COLOR").empty() && variable("TERM") != "dumb";
  long width = std::strtol(variable("COLUMNS").c_str(), nullptr, 10);
  winsize size{};
  if (width <= 0 && interactive && ::ioctl(descriptor, TIOCGWINSZ, &size) == 0) width = size.ws_col;
  if (width > 0) terminal.width = std::clamp<Index>(width, 40, 80);
  return terminal;
}

/// Text from outside as a terminal may safely see it: UTF-8 with each broken byte, each control character (an escape
/// sequence could do harm) and each invisible one (some turn the direction of the text) as «?». The joiners of emoji
/// and of several scripts stay.
inline std::string printable(std::string_view text) {
  constexpr std::int32_t kNonJoiner = 0x200c, kJoiner = 0x200d;
  std::string shown;
  for (std::size_t at = 0; at < text.size();) {
    const auto character = gatefold::character_at(text, at);
    at += character.bytes.size();
    const bool harmless =
        gatefold::is_utf8(character.bytes) &&
        (!gatefold::is_control(character) || character.code == kNonJoiner || character.code == kJoiner);
    shown += harmless ? character.bytes : std::string_view("?");
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

/// Text in lines of at most `width` columns, broken at spaces, each behind `indent` more of them.
inline std::string wrapped(std::string_view text, Index width, Index indent = 0) {
  const std::string margin(static_cast<std::size_t>(indent), ' ');
  std::string lines = margin;
  Index used = indent;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find(' ', at), text.size());
    const auto word = text.substr(at, end - at);
    at = end + 1;
    if (used > indent && used + 1 + columns(word) > width) {
      lines += "\n" + margin;
      used = indent;
    }
    if (used > indent) lines += " ", ++used;
    lines += word;
    used += columns(word);
  }
  return lines;
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
