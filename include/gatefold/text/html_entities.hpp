#pragma once
#include <charconv>
#include <optional>
#include <unordered_map>

#include "gatefold/text/html_entity_table.hpp"
#include "gatefold/text/unicode.hpp"

namespace gatefold {

/// A named character reference of HTML.
struct HtmlEntity {
  std::string text;             ///< What it stands for, in UTF-8.
  bool needs_semicolon = true;  ///< «&eacute» stands for é as well, «&hearts» for nothing.
};

/// The entity of a name («eacute», case matters), or null.
inline const HtmlEntity* find_html_entity(std::string_view name) {
  static const auto table = [] {
    std::unordered_map<std::string_view, HtmlEntity> entities;
    std::string_view rest = detail::kHtmlEntities;
    while (!rest.empty()) {
      const auto entry = rest.substr(0, rest.find(' '));
      rest.remove_prefix(entry.size() + 1);
      const auto sign = entry.find_first_of("=~");
      auto codes = entry.substr(sign);
      HtmlEntity entity{.text = {}, .needs_semicolon = codes[0] == '='};
      while (!codes.empty()) {
        codes.remove_prefix(1);  // the sign, then commas
        std::int32_t code = 0;
        codes.remove_prefix(static_cast<std::size_t>(
            std::from_chars(codes.data(), codes.data() + codes.size(), code, 16).ptr - codes.data()));
        append_utf8(entity.text, code);
      }
      entities.emplace(entry.substr(0, sign), std::move(entity));
    }
    return entities;
  }();
  const auto found = table.find(name);
  return found == table.end() ? nullptr : &found->second;
}

namespace detail {

inline bool is_ascii_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
inline bool is_ascii_alphanumeric(char c) { return (c >= '0' && c <= '9') || is_ascii_letter(c); }

/// What a numeric reference stands for (HTML standard, «numeric character reference end state», as Python does it):
/// bytes of Windows-1252 are repaired, what is no character becomes U+FFFD or nothing.
inline std::string html_character(std::int64_t number) {
  static constexpr std::int32_t kWindows1252[32] = {0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021,
                                                    0x2c6,  0x2030, 0x160,  0x2039, 0x152,  0x8d,   0x17d,  0x8f,
                                                    0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
                                                    0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178};
  std::string text;
  if (number >= 0x80 && number <= 0x9f) {
    append_utf8(text, kWindows1252[number - 0x80]);
  } else if (number == 0 || (number >= 0xd800 && number <= 0xdfff) || number > 0x10ffff) {
    append_utf8(text, 0xfffd);
  } else {
    const bool none = (number < 0x20 && number != '\t' && number != '\n' && number != '\f' && number != '\r') ||
                      number == 0x7f || (number >= 0xfdd0 && number <= 0xfdef) || (number & 0xfffe) == 0xfffe;
    if (!none) append_utf8(text, static_cast<std::int32_t>(number));
  }
  return text;
}

/// The number written at `at` in digits of `base`, at most 0x110000 (more is no character), and where it ends.
struct HtmlNumber {
  std::int64_t value = 0;
  std::size_t end = 0;
};
inline HtmlNumber html_number(std::string_view text, std::size_t at, int base) {
  HtmlNumber number{0, at};
  for (; number.end < text.size(); ++number.end) {
    const char c = text[number.end];
    const int digit = c >= '0' && c <= '9'                 ? c - '0'
                      : base == 16 && c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : base == 16 && c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                           : -1;
    if (digit < 0) break;
    number.value = std::min<std::int64_t>(number.value * base + digit, 0x110000);
  }
  return number;
}

/// A reference at `at` (an ampersand), and where it ends; nothing when there is none.
struct HtmlReference {
  std::string text{};
  std::size_t end = 0;
};
inline std::optional<HtmlReference> html_reference_at(std::string_view text, std::size_t at) {
  const auto semicolon = [&](std::size_t end) { return end < text.size() && text[end] == ';'; };
  if (at + 1 < text.size() && text[at + 1] == '#') {
    const bool hexadecimal = at + 2 < text.size() && (text[at + 2] == 'x' || text[at + 2] == 'X');
    const std::size_t digits = at + 2 + hexadecimal;
    const auto [value, end] = html_number(text, digits, hexadecimal ? 16 : 10);
    if (end == digits) return std::nullopt;
    return HtmlReference{html_character(value), end + semicolon(end)};
  }
  std::size_t end = at + 1;
  // Only names of letters and digits are known, so a longer run that other characters end has the same prefixes.
  while (end < text.size() && end - at <= 32 && is_ascii_alphanumeric(text[end])) ++end;
  const auto name = text.substr(at + 1, end - at - 1);
  if (const auto* entity = find_html_entity(name); entity && (semicolon(end) || !entity->needs_semicolon))
    return HtmlReference{entity->text, end + semicolon(end)};
  for (std::size_t length = name.size(); length-- > 2;)
    if (const auto* entity = find_html_entity(name.substr(0, length)); entity && !entity->needs_semicolon)
      return HtmlReference{entity->text, at + 1 + length};
  return std::nullopt;
}

}  // namespace detail

/// The text with HTML's character references replaced, as browsers and Python's html.unescape do: «&lt;», «&eacute»,
/// «&#233;», «&#xe9», «&notit» (not, it). What is none stays.
inline std::string unescape_html(std::string_view text) {
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const auto ampersand = std::min(text.find('&', at), text.size());
    plain += text.substr(at, ampersand - at);
    at = ampersand;
    if (at == text.size()) break;
    if (auto reference = detail::html_reference_at(text, at)) {
      plain += reference->text;
      at = reference->end;
    } else {
      plain += text[at++];
    }
  }
  return plain;
}

}  // namespace gatefold
