#pragma once
#include <algorithm>
#include <array>
#include <functional>
#include <vector>

#include "gatefold/text/unicode.hpp"

namespace gatefold {

/// Cuts a text into the pieces that a byte-pair encoder works on one by one; pieces are slices of the text, in order.
/// What lies between them is dropped.
using PreTokenizer = std::function<std::vector<std::string_view>(std::string_view text)>;

namespace detail {

enum class CharacterClass { space, letter, number, other };

inline CharacterClass class_of(Character character) {
  if (is_letter(character)) return CharacterClass::letter;
  if (is_number(character)) return CharacterClass::number;
  return is_space(character) ? CharacterClass::space : CharacterClass::other;
}
inline CharacterClass class_at(std::string_view text, std::size_t at) { return class_of(character_at(text, at)); }

/// The end of the run of characters of one class that starts at `at`.
inline std::size_t run_end(std::string_view text, std::size_t at, CharacterClass wanted) {
  while (at < text.size()) {
    const auto character = character_at(text, at);
    if (class_of(character) != wanted) break;
    at += character.bytes.size();
  }
  return at;
}

enum class Contractions { lower_case, any_case };

/// The length of an English contraction ('s 't 're 've 'm 'll 'd) at `at`, or 0. In any case also the long s, U+017F,
/// is an s, as for a regular expression.
inline std::size_t contraction_at(std::string_view text, std::size_t at, Contractions contractions) {
  static constexpr std::array<std::string_view, 7> kEndings{"s", "t", "re", "ve", "m", "ll", "d"};
  if (text[at] != '\'') return 0;
  if (contractions == Contractions::any_case && text.substr(at + 1).starts_with("\u017f")) return 3;
  for (const auto ending : kEndings) {
    const auto found = text.substr(at + 1, ending.size());
    const bool equal =
        found.size() == ending.size() && std::equal(found.begin(), found.end(), ending.begin(), [&](char a, char b) {
          const bool upper = a >= 'A' && a <= 'Z' && contractions == Contractions::any_case;
          return (upper ? static_cast<char>(a - 'A' + 'a') : a) == b;
        });
    if (equal) return 1 + ending.size();
  }
  return 0;
}

}  // namespace detail

namespace detail {
inline std::vector<std::string_view> clip_pieces_with(std::string_view text, Contractions contractions) {
  std::vector<std::string_view> pieces;
  for (std::size_t at = 0; at < text.size();) {
    const auto character = character_at(text, at);
    const auto found = class_of(character);
    std::size_t end = at + contraction_at(text, at, contractions);
    if (end == at) end = found == CharacterClass::number ? at + character.bytes.size() : run_end(text, at, found);
    if (found != CharacterClass::space) pieces.push_back(text.substr(at, end - at));
    at = end;
  }
  return pieces;
}
}  // namespace detail

/// CLIP's pieces: 's|'t|'re|'ve|'m|'ll|'d in any case, \p{L}+, a single \p{N}, [^\s\p{L}\p{N}]+; white space is dropped
/// (Radford et al., 2021; open_clip's simple_tokenizer.py). The marker texts <|startoftext|> and <|endoftext|> are not
/// taken for markers: text from outside must not be able to write them.
inline std::vector<std::string_view> clip_pieces(std::string_view text) {
  return detail::clip_pieces_with(text, detail::Contractions::any_case);
}
/// The same with contractions in lower case only, as Hugging Face's CLIPTokenizerFast has them.
inline std::vector<std::string_view> hugging_face_clip_pieces(std::string_view text) {
  return detail::clip_pieces_with(text, detail::Contractions::lower_case);
}

/// GPT-2's pieces: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ (Radford et al., 2019,
/// encoder.py). A word takes the one space before it; nothing is dropped.
inline std::vector<std::string_view> gpt2_pieces(std::string_view text) {
  using detail::CharacterClass;
  std::vector<std::string_view> pieces;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at + detail::contraction_at(text, at, detail::Contractions::lower_case);
    if (end == at) {
      const bool led = text[at] == ' ' && at + 1 < text.size();
      const auto found = detail::class_at(text, led ? at + 1 : at);
      if (found != CharacterClass::space) {
        end = detail::run_end(text, led ? at + 1 : at, found);
      } else {  // white space; before a word all but its last character, unless that is the only one
        end = detail::run_end(text, at, CharacterClass::space);
        if (end < text.size()) {
          std::size_t last = at;
          for (std::size_t next = at; next < end; next += character_at(text, next).bytes.size()) last = next;
          if (last > at) end = last;
        }
      }
    }
    pieces.push_back(text.substr(at, end - at));
    at = end;
  }
  return pieces;
}

}  // namespace gatefold
