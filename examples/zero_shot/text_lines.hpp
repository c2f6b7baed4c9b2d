#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "gatefold/core/read_file.hpp"
#include "gatefold/text/unicode.hpp"

namespace zero_shot {

/// Lists of labels, templates and captions have less.
inline constexpr std::size_t kMaxTextBytes = std::size_t{64} << 20;

struct TextLine {
  std::size_t number = 0;  ///< From 1, for messages.
  std::string_view text;   ///< Without white space, of any script, at its ends.
};

namespace detail {

/// Unicode's white space, and the mark U+FEFF that some editors leave between pasted lines.
inline bool is_margin(gatefold::Character character) {
  return gatefold::is_space(character) || character.code == 0xfeff;
}

inline std::string_view trimmed(std::string_view text) {
  std::size_t begin = 0, end = 0;
  bool any = false;
  for (std::size_t at = 0; at < text.size();) {
    const auto character = gatefold::character_at(text, at);
    if (!is_margin(character)) {
      if (!any) begin = at;
      any = true, end = at + character.bytes.size();
    }
    at += character.bytes.size();
  }
  return text.substr(begin, end - begin);
}

}  // namespace detail

/// The lines of a text, ended by \n, \r\n or \r alone, that say something: empty ones are left out, and so are
/// comments: «#» and a space, or «#» alone («#selfie» and «#1 dad mug» are no comments). A mark in front that says
/// UTF-8 is skipped. Borrows the text. Throws FormatError that begins with `source` for what is not UTF-8: UTF-16 as
/// Windows may save it, an older encoding, or no text at all.
inline std::vector<TextLine> lines_of(std::string_view text, const std::string& source) {
  const auto refuse = [&](const std::string& why) {
    throw gatefold::FormatError(source + ": " + why + "; expected lines of text, saved as UTF-8");
  };
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff")) refuse("is UTF-16");
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  std::vector<TextLine> lines;
  for (std::size_t number = 1, at = 0; at < text.size(); ++number) {
    const auto end = std::min(text.find_first_of("\r\n", at), text.size());
    const auto whole = text.substr(at, end - at);
    at = end + (text.substr(end).starts_with("\r\n") ? 2 : 1);
    if (whole.find('\0') != whole.npos)
      refuse("line " + std::to_string(number) + " holds a byte of zero: this is UTF-16, or no text");
    if (!gatefold::is_utf8(whole))
      refuse("line " + std::to_string(number) + " is not UTF-8: an older encoding such as Latin-1, or no text");
    const auto line = detail::trimmed(whole);
    if (line.empty() || line == "#" || line.starts_with("# ") || line.starts_with("#\t")) continue;
    lines.push_back({number, line});
  }
  return lines;
}

}  // namespace zero_shot
