#pragma once
#include <algorithm>
#include <limits>
#include <map>
#include <span>
#include <unordered_map>
#include <vector>

#include "gatefold/core/error.hpp"
#include "gatefold/text/token_id.hpp"
#include "gatefold/text/unicode.hpp"

namespace gatefold {

/// The words of a text as a Vocabulary sees them: Unicode lower-case; letters with their accents and digits make words;
/// each symbol (currency, mathematics, emoji) is a word of its own; white space, control characters and punctuation
/// separate and are dropped («T-shirt's» gives t, shirt, s). Bytes that are not UTF-8 count as letters.
inline std::vector<std::string> split_words(std::string_view text) {
  const std::string lower = to_lower(text);
  std::vector<std::string> words;
  bool inside = false;  // of a word that goes on
  for (std::size_t at = 0; at < lower.size();) {
    const auto character = character_at(lower, at);
    at += character.bytes.size();
    if (is_space(character) || is_control(character) || is_punctuation(character)) {
      inside = false;
    } else if (is_symbol(character)) {
      words.emplace_back(character.bytes);
      inside = false;
    } else if (inside) {
      words.back() += character.bytes;
    } else {
      words.emplace_back(character.bytes);
      inside = true;
    }
  }
  return words;
}

/// A word-level tokenizer that knows its words and spells all others in bytes, so every text has ids and comes back.
/// Ids: 0 padding (never produced; captions are packed), 1 end, 2..257 the bytes 0..255, from 258 the words in order.
/// A value, safe to read from many threads.
class Vocabulary {
 public:
  static constexpr TokenId kPadding = 0, kEnd = 1, kFirstByte = 2, kFirstWord = kFirstByte + 256;
  static constexpr std::size_t kMaxWords = std::size_t{1} << 20, kMaxWordBytes = 256;

  /// Bytes only.
  Vocabulary() = default;

  /// Throws FormatError, naming the line (from 1), unless each word is what `split_words` makes of it: lower-case,
  /// whole, of one piece; none may be empty, double, not UTF-8, or longer than kMaxWordBytes.
  explicit Vocabulary(std::vector<std::string> words) : words_(std::move(words)) {
    if (words_.size() > kMaxWords)
      throw FormatError("Vocabulary: " + std::to_string(words_.size()) + " words, expected at most " +
                        std::to_string(kMaxWords));
    ids_.reserve(words_.size());
    for (std::size_t i = 0; i < words_.size(); ++i) {
      const auto refuse = [&](const std::string& why) {
        throw FormatError("Vocabulary: line " + std::to_string(i + 1) + why);
      };
      const auto& word = words_[i];
      if (word.empty()) refuse(" is empty");
      if (word.size() > kMaxWordBytes)
        refuse(" has " + std::to_string(word.size()) + " bytes, expected at most " + std::to_string(kMaxWordBytes));
      if (!is_utf8(word)) refuse(" is not UTF-8");
      for (std::size_t at = 0; at < word.size();) {
        const auto character = character_at(word, at);
        if (is_control(character))
          refuse(" holds control character " + std::to_string(character.code) + " (lines end in \\n alone)");
        at += character.bytes.size();
      }
      if (split_words(word) != std::vector{word})
        refuse(": «" + word + "» is not a lower-case word without spaces and punctuation");
      const auto [old, fresh] = ids_.emplace(word, kFirstWord + static_cast<TokenId>(i));
      if (!fresh) refuse(": «" + word + "» stands already on line " + std::to_string(old->second - kFirstWord + 1));
    }
  }

  /// From `serialize`'s text: one word per line; the last line end may be missing. Throws FormatError.
  static Vocabulary parse(std::string_view text) {
    std::vector<std::string> words;
    while (!text.empty()) {
      if (words.size() == kMaxWords) throw FormatError("Vocabulary: more than " + std::to_string(kMaxWords) + " lines");
      const auto end = std::min(text.find('\n'), text.size());
      words.emplace_back(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return Vocabulary(std::move(words));
  }

  struct Selection {
    std::size_t max_words = kMaxWords;
    Index min_count = 1;
  };
  /// The words of a corpus, most frequent first, ties in byte order; longer ones than kMaxWordBytes are left to bytes.
  static Vocabulary of_corpus(std::span<const std::string> texts, const Selection& selection) {
    std::map<std::string, Index> counts;
    for (const auto& text : texts)
      for (auto& word : split_words(text))
        if (word.size() <= kMaxWordBytes && is_utf8(word)) ++counts[std::move(word)];
    std::vector<std::pair<Index, std::string>> ranked;
    for (const auto& [word, count] : counts)
      if (count >= selection.min_count) ranked.emplace_back(-count, word);
    std::sort(ranked.begin(), ranked.end());
    ranked.resize(std::min({ranked.size(), selection.max_words, kMaxWords}));
    std::vector<std::string> words;
    for (auto& [count, word] : ranked) words.push_back(std::move(word));
    return Vocabulary(std::move(words));
  }

  /// One word per line, each line ended by \n.
  std::string serialize() const {
    std::string text;
    for (const auto& word : words_) text += word + '\n';
    return text;
  }

  /// FNV-1a of `serialize`, 64 bits: tells in a checkpoint which vocabulary it was trained with.
  std::uint64_t hash() const {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char byte : serialize()) hash = (hash ^ static_cast<std::uint8_t>(byte)) * 0x100000001b3;
    return hash;
  }

  /// Rows of an embedding table: all ids are below.
  Index size() const { return kFirstWord + static_cast<Index>(words_.size()); }

  std::span<const std::string> words() const { return words_; }

  /// The ids of a text and kEnd, so that no text is empty to a model; a longer one than `max_tokens` is cut and still
  /// ends in kEnd. Two unknown words in a row have the byte of a space between them. Never throws on a text, whatever
  /// its bytes; OptionError when max_tokens < 1.
  std::vector<TokenId> encode(std::string_view text, Index max_tokens = std::numeric_limits<Index>::max()) const {
    expect_option(max_tokens >= 1,
                  "Vocabulary::encode: max_tokens is " + std::to_string(max_tokens) + ", expected at least 1");
    std::vector<TokenId> ids;
    bool spelled = false;
    for (const auto& word : split_words(text)) {
      if (static_cast<Index>(ids.size()) >= max_tokens) break;
      if (const auto known = ids_.find(word); known != ids_.end()) {
        ids.push_back(known->second);
        spelled = false;
        continue;
      }
      if (spelled) ids.push_back(byte_id(' '));
      for (const char byte : word) ids.push_back(byte_id(byte));
      spelled = true;
    }
    ids.resize(std::min(ids.size(), static_cast<std::size_t>(max_tokens - 1)));
    ids.push_back(kEnd);
    return ids;
  }

  /// The words with a space between, up to the first kEnd: of `encode(text)` whole, `split_words(text)` joined. Cut
  /// spellings may leave bytes that are not UTF-8. Throws OptionError on an id outside 0..size()-1.
  std::string decode(std::span<const TokenId> ids) const {
    std::string text;
    bool spelled = false;
    for (const TokenId id : ids) {
      expect_id(id, "decode");
      if (id == kEnd) break;
      if (id == kPadding) continue;
      const bool is_word = id >= kFirstWord;
      if (!text.empty() && (is_word || !spelled)) text += ' ';
      if (is_word)
        text += words_[static_cast<std::size_t>(id - kFirstWord)];
      else
        text += static_cast<char>(static_cast<std::uint8_t>(id - kFirstByte));
      spelled = !is_word;
    }
    return text;
  }

  /// What to show for each id, always UTF-8: the word, the ASCII character, «<e2>» for another byte, «<end>»,
  /// «<padding>». Throws OptionError on an id outside 0..size()-1.
  std::vector<std::string> words(std::span<const TokenId> ids) const {
    std::vector<std::string> shown;
    for (const TokenId id : ids) {
      expect_id(id, "words");
      const int byte = id - kFirstByte;
      if (id == kPadding)
        shown.emplace_back("<padding>");
      else if (id == kEnd)
        shown.emplace_back("<end>");
      else if (id >= kFirstWord)
        shown.push_back(words_[static_cast<std::size_t>(id - kFirstWord)]);
      else if (byte > 0x20 && byte < 0x7f)
        shown.emplace_back(1, static_cast<char>(byte));
      else
        shown.push_back(std::string("<") + "0123456789abcdef"[byte >> 4] + "0123456789abcdef"[byte & 15] + ">");
    }
    return shown;
  }

  bool operator==(const Vocabulary& other) const { return words_ == other.words_; }

 private:
  static TokenId byte_id(char byte) { return kFirstByte + static_cast<std::uint8_t>(byte); }
  void expect_id(TokenId id, const char* where) const {
    expect_option(id >= 0 && id < size(), std::string("Vocabulary::") + where + ": id is " + std::to_string(id) +
                                              ", expected 0.." + std::to_string(size() - 1));
  }

  std::vector<std::string> words_{};
  std::unordered_map<std::string, TokenId> ids_{};
};

}  // namespace gatefold
