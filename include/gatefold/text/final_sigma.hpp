#pragma once
#include <algorithm>
#include <array>

#include "gatefold/text/unicode.hpp"

namespace gatefold {

namespace detail {

/// Case_Ignorable of the Unicode standard: what may stand within a word without ending it.
inline bool is_case_ignorable(Character character) {
  if (character.code < 0) return false;
  static constexpr std::array<std::int32_t, 17> kWithinWords{// Word_Break = MidLetter, MidNumLet, Single_Quote
                                                             0x27,   0x2e,   0x3a,   0xb7,   0x387,  0x55f,
                                                             0x5f4,  0x2018, 0x2019, 0x2024, 0x2027, 0xfe13,
                                                             0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a};
  if (std::binary_search(kWithinWords.begin(), kWithinWords.end(), character.code)) return true;
  const auto category = utf8proc_category(character.code);
  return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_ME || category == UTF8PROC_CATEGORY_CF ||
         category == UTF8PROC_CATEGORY_LM || category == UTF8PROC_CATEGORY_SK;
}

/// Cased of the Unicode standard, of characters that are not case-ignorable.
inline bool is_cased(Character character) {
  const auto code = character.code;
  if (code < 0) return false;
  const auto category = utf8proc_category(code);
  const auto within = [&](std::int32_t first, std::int32_t last) { return code >= first && code <= last; };
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT ||
         code == 0xaa || code == 0xba || within(0x2160, 0x217f) || within(0x24b6, 0x24e9) || within(0x1f130, 0x1f149) ||
         within(0x1f150, 0x1f169) || within(0x1f170, 0x1f189);  // Other_Lowercase, Other_Uppercase
}

}  // namespace detail

/// Unicode lower-case as Python's str.lower: `to_lower`, and a capital sigma at the end of a word becomes the final one
/// (SpecialCasing.txt, Final_Sigma). The text is UTF-8.
inline std::string to_lower_with_final_sigma(std::string_view text) {
  std::string lower = to_lower(text);
  static constexpr std::string_view kCapital = "\u03a3", kFinal = "\u03c2";  // as long as the small one, U+03C3
  if (text.find(kCapital) == std::string_view::npos) return lower;
  bool within_word = false;            // a cased character stands before, with only ignorable ones between
  std::size_t candidate = lower.npos;  // where in `lower` a sigma waits for what follows
  for (std::size_t from = 0, to = 0; from < text.size();) {
    const auto character = character_at(text, from);
    const bool ignorable = detail::is_case_ignorable(character), cased = !ignorable && detail::is_cased(character);
    if (!ignorable) {
      if (candidate != lower.npos && !cased) lower.replace(candidate, kFinal.size(), kFinal);
      candidate = character.bytes == kCapital && within_word ? to : lower.npos;
      within_word = cased;
    }
    from += character.bytes.size();
    to += to_lower(character.bytes).size();
  }
  if (candidate != lower.npos) lower.replace(candidate, kFinal.size(), kFinal);
  return lower;
}

}  // namespace gatefold
