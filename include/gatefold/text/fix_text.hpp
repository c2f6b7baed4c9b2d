#pragma once
#include <algorithm>
#include <array>

#include "gatefold/text/html_entities.hpp"

namespace gatefold {

namespace detail {

/// The text with every character c replaced by what `replaced(c)` appends; `replaced` returns whether it did.
template <class Replace>
std::string translate(std::string_view text, Replace&& replace) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const auto character = character_at(text, at);
    if (!replace(character, result)) result += character.bytes;
    at += character.bytes.size();
  }
  return result;
}

/// Ligatures of Latin letters and the Dutch and Serbian digraphs, taken apart; empty for other characters.
inline std::string_view latin_ligature(std::int32_t code) {
  static constexpr std::array<std::string_view, 9> kSerbian{"D\u017d", "D\u017e", "d\u017e", "LJ", "Lj",
                                                            "lj",      "NJ",      "Nj",      "nj"};
  static constexpr std::array<std::string_view, 3> kDz{"DZ", "Dz", "dz"};
  static constexpr std::array<std::string_view, 7> kTypographic{"ff", "fi", "fl", "ffi", "ffl", "\u017ft", "st"};
  const auto within = [&](const auto& letters, std::int32_t first) {
    return code >= first && code < first + static_cast<std::int32_t>(letters.size())
               ? letters[static_cast<std::size_t>(code - first)]
               : std::string_view();
  };
  if (code == 0x132) return "IJ";
  if (code == 0x133) return "ij";
  if (code == 0x149) return "\u02bcn";
  if (code < 0x1f1) return within(kSerbian, 0x1c4);
  return code < 0xfb00 ? within(kDz, 0x1f1) : within(kTypographic, 0xfb00);
}

/// The capitals of an entity's text as Python's str.upper has them.
inline std::string capitals_of(std::string_view text) {
  std::string capitals;
  for (std::size_t at = 0; at < text.size();) {
    const auto character = character_at(text, at);
    at += character.bytes.size();
    const auto letters = character.code == 0xdf ? std::string_view("ss") : latin_ligature(character.code);
    if (letters.empty()) append_utf8(capitals, utf8proc_toupper(character.code));
    for (std::size_t i = 0; i < letters.size();) {
      const auto letter = character_at(letters, i);
      append_utf8(capitals, utf8proc_toupper(letter.code));
      i += letter.bytes.size();
    }
  }
  return capitals;
}

/// ftfy's unescape_html: only references with their semicolon («this&not that» stays), names also in capitals when
/// that is nothing else («&EACUTE;» is É), and no more than 24 letters or digits.
inline std::string unescape_strict_html(std::string_view text) {
  std::string plain;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] != '&') {
      plain += text[at++];
      continue;
    }
    const std::size_t begin = at + (at + 1 < text.size() && text[at + 1] == '#' ? 2 : 1);
    std::size_t end = begin;
    while (end < text.size() && end - begin < 25 && is_ascii_alphanumeric(text[end])) ++end;
    const bool whole = end > begin && end - begin < 25 && end < text.size() && text[end] == ';';
    const auto name = text.substr(begin, end - begin);
    std::optional<std::string> value;
    if (whole && begin == at + 2) {
      if (const auto reference = html_reference_at(text, at); reference && reference->end == end + 1)
        value = reference->text;
    } else if (whole) {
      if (const auto* entity = find_html_entity(name)) {
        value = entity->text;
      } else if (!html_reference_at(text, at)) {  // browsers would not take the capitals for «&GT» and a rest either
        std::string lower(name);
        for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
        const bool capitals = std::none_of(name.begin(), name.end(), [](char c) { return c >= 'a' && c <= 'z'; });
        if (const auto* known = capitals ? find_html_entity(lower) : nullptr) value = capitals_of(known->text);
      }
    }
    if (value) {
      plain += *value;
      at = end + 1;
    } else {
      plain += text[at++];
    }
  }
  return plain;
}

/// What ftfy makes of a single character other than a control character of ASCII: appended, unless it stays.
inline bool fix_character(Character character, std::string& fixed) {
  const auto code = character.code;
  const auto within = [&](std::int32_t first, std::int32_t last) { return code >= first && code <= last; };
  if (within(0x80, 0x9f)) {  // control characters are bytes of Windows-1252, misread
    const auto meant = html_character(code);
    if (meant == character.bytes) return false;  // the five that it does not define
    if (!fix_character(character_at(meant, 0), fixed)) fixed += meant;
    return true;
  }
  if (code == 0x149) return fixed += "'n", true;  // the mark in the Afrikaans letter is a quote
  if (const auto letters = latin_ligature(code); !letters.empty()) return fixed += letters, true;
  if (code == 0x3000) return fixed += ' ', true;
  if (within(0xff01, 0xffef)) return fixed += to_nfkc(character.bytes), true;  // full-width and half-width forms
  if (within(0x201c, 0x201f)) return fixed += '"', true;
  if (code == 0x2bc || within(0x2018, 0x201b)) return fixed += '\'', true;
  if (code == 0x2028 || code == 0x2029 || code == '\r') return fixed += '\n', true;
  return false;
}

/// Drops control characters without an effect on the glyphs.
inline bool drop_control(Character character, std::string&) {
  const auto within = [&](std::int32_t first, std::int32_t last) {
    return character.code >= first && character.code <= last;
  };
  return within(0x00, 0x08) || within(0x0b, 0x0b) || within(0x0e, 0x1f) || within(0x7f, 0x7f) ||
         within(0x206a, 0x206f) || within(0xfeff, 0xfeff) || within(0xfff9, 0xfffc);
}

/// Drops the colour codes of terminals: ESC [, digits and semicolons, a letter.
inline std::string without_terminal_escapes(std::string_view text) {
  std::string rest;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] != '\x1b') {
      rest += text[at++];
      continue;
    }
    std::size_t end = at + 1;
    bool whole = end < text.size() && text[end] == '[';
    for (end += whole; whole && end < text.size();) {
      const auto character = character_at(text, end);
      if (character.code != ';' && utf8proc_category(character.code) != UTF8PROC_CATEGORY_ND) break;
      end += character.bytes.size();
    }
    whole = whole && end < text.size() && is_ascii_letter(text[end]);
    if (whole)
      at = end + 1;
    else
      rest += text[at++];
  }
  return rest;
}

enum class HtmlInText { stays, unescaped };

/// One line of fix_text, until nothing changes any more.
inline std::string fix_line(std::string text, HtmlInText html) {
  static constexpr int kMaxRounds = 64;  // «&amp;amp;amp;...» takes one a level: a hostile text would take all day
  for (int round = 0; round < kMaxRounds; ++round) {
    const std::string before = text;
    if (html == HtmlInText::unescaped) text = unescape_strict_html(text);
    for (std::size_t at = 0; (at = text.find("\r\n", at)) != text.npos;) text.erase(at, 1);
    text = translate(without_terminal_escapes(translate(text, fix_character)), drop_control);
    text = to_nfc(text);
    if (text == before) break;
  }
  return text;
}

}  // namespace detail

/// The repairs of ftfy 6.3 (Speer, 2019), with which CLIP's texts were cleaned, on a text in UTF-8: HTML's references
/// (until a line has a «<»), stray Windows-1252, Latin ligatures, full and half width, curly quotes, line ends,
/// terminal colours, control characters, Normalization Form C. Left out is its guess whether a text was decoded in the
/// wrong encoding («â€œ»): such texts stay as they are.
inline std::string fix_text(std::string_view text) {
  auto html = detail::HtmlInText::unescaped;
  std::string fixed;
  while (!text.empty()) {
    const auto line = text.substr(0, std::min(text.find('\n'), text.size() - 1) + 1);
    if (line.find('<') != line.npos) html = detail::HtmlInText::stays;
    fixed += detail::fix_line(std::string(line), html);
    text.remove_prefix(line.size());
  }
  return fixed;
}

}  // namespace gatefold
