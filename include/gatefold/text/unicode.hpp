#pragma once
#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <string_view>

#include "gatefold/core/language.hpp"

namespace gatefold {

/// One character of a text: its bytes and, unless they are not UTF-8, its code point.
struct Character {
  std::string_view bytes;  ///< One byte when not UTF-8, else 1 to 4.
  std::int32_t code = -1;  ///< -1 when not UTF-8.
};

/// The character at byte `at` < text.size(). Any bytes are a text: what is not UTF-8 comes out byte for byte.
inline Character character_at(std::string_view text, std::size_t at) {
  const auto rest = text.substr(at);
  utf8proc_int32_t code = -1;
  // Four bytes are enough, and a length in int is what utf8proc returns.
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(rest.data()),
                                       static_cast<utf8proc_ssize_t>(rest.size() < 4 ? rest.size() : 4), &code);
  if (length <= 0) return {rest.substr(0, 1), -1};
  return {rest.substr(0, static_cast<std::size_t>(length)), code};
}

inline bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto character = character_at(text, at);
    if (character.code < 0) return false;
    at += character.bytes.size();
  }
  return true;
}

inline bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<std::uint8_t>(c) < 0x80; });
}

/// The code point as UTF-8, appended.
inline void append_utf8(std::string& text, std::int32_t code) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(code, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length));
}

/// Unicode lower-case, character by character; bytes that are not UTF-8 stay. As Python's str.lower but for the final
/// sigma, which needs context. Twice is the same as once.
inline std::string to_lower(std::string_view text) {
  std::string lower;
  lower.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const auto character = character_at(text, at);
    if (character.code < 0)
      lower += character.bytes;
    else if (character.code == 0x130)
      lower += "i\u0307";  // the only lower-case of two characters (SpecialCasing.txt)
    else
      append_utf8(lower, utf8proc_tolower(character.code));
    at += character.bytes.size();
  }
  return lower;
}

/// The text with U+FFFD for each piece that is not UTF-8: one for the longest beginning of a character, else one for
/// the byte (Unicode, section 3.9; Python's bytes.decode(errors="replace") and browsers do the same).
inline std::string to_utf8(std::string_view text) {
  if (is_ascii(text)) return std::string(text);
  std::string valid;
  valid.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const auto character = character_at(text, at);
    at += character.bytes.size();
    if (character.code >= 0) {
      valid += character.bytes;
      continue;
    }
    valid += "\ufffd";
    // How many bytes go on what the first begins; the second of some is restricted (no overlong form, no surrogate).
    const auto lead = static_cast<std::uint8_t>(character.bytes[0]);
    const int rest = lead >= 0xc2 && lead <= 0xdf   ? 1
                     : lead >= 0xe0 && lead <= 0xef ? 2
                     : lead >= 0xf0 && lead <= 0xf4 ? 3
                                                    : 0;
    std::uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    std::uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    for (int i = 0; i < rest && at < text.size(); ++i, ++at) {
      const auto byte = static_cast<std::uint8_t>(text[at]);
      if (byte < low || byte > high) break;
      low = 0x80, high = 0xbf;
    }
  }
  return valid;
}

namespace detail {
/// The text after a mapping of utf8proc; what is not UTF-8 must have been replaced.
inline std::string utf8proc_mapped(std::string_view text, int options) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &mapped, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(mapped, std::free);
  if (length < 0) throw std::bad_alloc();
  return {reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(length)};
}
}  // namespace detail

/// Normalization Form C (Unicode Standard Annex 15) of a text in UTF-8: a letter and its accents become one character.
inline std::string to_nfc(std::string_view text) {
  return is_ascii(text) ? std::string(text) : detail::utf8proc_mapped(text, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
}
/// Normalization Form KC: also unifies compatibility forms (full-width letters, ligatures).
inline std::string to_nfkc(std::string_view text) {
  return detail::utf8proc_mapped(text, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
}

/// \p{L} of a regular expression.
inline bool is_letter(Character character) {
  if (character.code < 0) return false;
  const auto category = utf8proc_category(character.code);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}
/// \p{M}: accents and vowel signs that follow their letter.
inline bool is_mark(Character character) {
  if (character.code < 0) return false;
  const auto category = utf8proc_category(character.code);
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}
/// \p{N}.
inline bool is_number(Character character) {
  if (character.code < 0) return false;
  const auto category = utf8proc_category(character.code);
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}
/// \p{P}.
inline bool is_punctuation(Character character) {
  if (character.code < 0) return false;
  const auto category = utf8proc_category(character.code);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}
/// \p{S}: currency, mathematics, emoji.
inline bool is_symbol(Character character) {
  if (character.code < 0) return false;
  const auto category = utf8proc_category(character.code);
  return category >= UTF8PROC_CATEGORY_SM && category <= UTF8PROC_CATEGORY_SO;
}
/// \s: the property White_Space.
inline bool is_space(Character character) {
  if (character.code < 0) return false;
  const auto category = utf8proc_category(character.code);
  return (category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP) ||
         (character.code >= 0x09 && character.code <= 0x0d) || character.code == 0x85;
}
/// Control and format characters: they have no glyph.
inline bool is_control(Character character) {
  if (character.code < 0) return false;
  const auto category = utf8proc_category(character.code);
  return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF;
}

}  // namespace gatefold
