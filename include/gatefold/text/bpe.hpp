#pragma once
#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <queue>
#include <span>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "gatefold/core/error.hpp"
#include "gatefold/text/pre_tokenizer.hpp"
#include "gatefold/text/token_id.hpp"
#include "gatefold/text/unicode.hpp"

namespace gatefold {

/// The printable character that stands for each byte in the vocabulary files of GPT-2 and CLIP: bytes 33..126, 161..172
/// and 174..255 are their own code points, the other 68 become U+0100, U+0101, ... in order.
inline const std::array<std::int32_t, 256>& byte_characters() {
  static const auto table = [] {
    std::array<std::int32_t, 256> characters{};
    std::int32_t next = 0x100;
    for (std::int32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      characters[static_cast<std::size_t>(byte)] = printable ? byte : next++;
    }
    return characters;
  }();
  return table;
}

enum class LetterCase { keep, lower };

struct BpeOptions {
  std::string end_of_word{};                  ///< Ends a piece's last symbol: "</w>" for CLIP, empty for GPT-2.
  LetterCase letter_case = LetterCase::keep;  ///< CLIP lowers.
  PreTokenizer pre_tokenizer = gpt2_pieces;   ///< CLIP: clip_pieces.
};

/// Byte-level byte-pair encoding (Sennrich et al., 2016; on bytes: Radford et al., 2019). Each piece of the text
/// becomes byte symbols; then, as long as two neighbours are a known merge, the one of lowest rank is merged, the
/// leftmost first. Every text has ids, whatever its bytes. A value; encode and decode may run on many threads at once.
class Bpe {
 public:
  static constexpr std::size_t kMaxTokens = std::size_t{1} << 22, kMaxTokenBytes = 4096;

  /// `vocabulary` maps tokens, written in byte characters, to the ids 0..n-1 (vocab.json). `merges` are the lines of
  /// merges.txt, best first, two tokens with a space between; a first line «#version...» and a last empty one are
  /// skipped. Throws FormatError unless ids are dense, all byte symbols (with end_of_word also those that carry it) are
  /// tokens, and each merge is new, of two tokens, and gives a token.
  Bpe(const std::map<std::string, TokenId>& vocabulary, std::span<const std::string> merges, BpeOptions options)
      : options_(std::move(options)) {
    read_tokens(vocabulary);
    read_merges(merges);
  }

  Index size() const { return static_cast<Index>(tokens_.size()); }

  /// The token as the vocabulary writes it. Throws OptionError on an id outside 0..size()-1.
  const std::string& token(TokenId id) const { return tokens_[expect_id(id, "token")]; }

  /// The id of a token as the vocabulary writes it («<|endoftext|>», «cat</w>»), if there is one.
  std::optional<TokenId> find(const std::string& token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

  /// The ids of a text; no start or end marker is added. Cost: n log n for a piece of n bytes.
  std::vector<TokenId> encode(std::string_view text) const {
    std::string lower;
    if (options_.letter_case == LetterCase::lower) text = lower = to_lower(text);
    std::vector<TokenId> ids;
    for (const auto piece : options_.pre_tokenizer(text)) encode_piece(piece, ids);
    return ids;
  }

  /// The bytes of the tokens; an end of word becomes a space. Exactly the text if that was cut without loss, not
  /// lowered, and there is no end_of_word. Throws OptionError on an id outside 0..size()-1.
  std::string decode(std::span<const TokenId> ids) const {
    std::string text;
    for (const TokenId id : ids) text += bytes_[expect_id(id, "decode")];
    return text;
  }

 private:
  struct Merge {
    std::size_t rank = 0;
    TokenId result = 0;
  };
  /// A symbol of the piece being merged, in a list by position; a dead one has been merged into its left neighbour.
  struct Symbol {
    TokenId id = 0;
    std::size_t previous = 0, next = 0;
    bool alive = true;
  };

  [[noreturn]] static void refuse(const std::string& why) { throw FormatError("Bpe: " + why); }

  std::size_t expect_id(TokenId id, const char* where) const {
    expect_option(id >= 0 && id < size(), std::string("Bpe::") + where + ": id is " + std::to_string(id) +
                                              ", expected 0.." + std::to_string(size() - 1));
    return static_cast<std::size_t>(id);
  }

  static std::uint64_t key(TokenId left, TokenId right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }

  void read_tokens(const std::map<std::string, TokenId>& vocabulary) {
    if (vocabulary.size() > kMaxTokens)
      refuse("vocabulary has " + std::to_string(vocabulary.size()) + " tokens, expected at most " +
             std::to_string(kMaxTokens));
    tokens_.resize(vocabulary.size());
    std::vector<char> taken(vocabulary.size());
    for (const auto& [token, id] : vocabulary) {
      if (id < 0 || id >= size())
        refuse("token «" + token + "» has id " + std::to_string(id) + ", expected 0.." + std::to_string(size() - 1));
      const auto at = static_cast<std::size_t>(id);
      if (taken[at]) refuse("tokens «" + tokens_[at] + "» and «" + token + "» share id " + std::to_string(id));
      if (token.empty() || token.size() > kMaxTokenBytes || !is_utf8(token))
        refuse("token of id " + std::to_string(id) + " is empty, not UTF-8, or longer than " +
               std::to_string(kMaxTokenBytes) + " bytes");
      taken[at] = true;
      tokens_[at] = token;
      ids_.emplace(token, id);
    }
    std::unordered_map<std::int32_t, char> byte_of;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      std::string symbol;
      append_utf8(symbol, byte_characters()[byte]);
      byte_of.emplace(byte_characters()[byte], static_cast<char>(static_cast<std::uint8_t>(byte)));
      inner_[byte] = id_of_byte(symbol, byte);
      last_[byte] = id_of_byte(symbol + options_.end_of_word, byte);
    }
    for (const auto& token : tokens_) bytes_.push_back(bytes_of(token, byte_of));
  }

  TokenId id_of_byte(const std::string& symbol, std::size_t byte) const {
    const auto id = find(symbol);
    if (!id) refuse("vocabulary lacks «" + symbol + "», the symbol of byte " + std::to_string(byte));
    return *id;
  }

  /// Characters that stand for no byte (of marker tokens with a space, say) remain themselves.
  std::string bytes_of(std::string_view token, const std::unordered_map<std::int32_t, char>& byte_of) const {
    const auto& end = options_.end_of_word;
    const bool ends_word = !end.empty() && token.size() > end.size() && token.ends_with(end);
    if (ends_word) token.remove_suffix(end.size());
    std::string bytes;
    for (std::size_t at = 0; at < token.size();) {
      const auto character = character_at(token, at);
      const auto byte = byte_of.find(character.code);
      bytes += byte == byte_of.end() ? character.bytes : std::string_view(&byte->second, 1);
      at += character.bytes.size();
    }
    return ends_word ? bytes + ' ' : bytes;
  }

  void read_merges(std::span<const std::string> lines) {
    if (lines.size() > kMaxTokens)
      refuse(std::to_string(lines.size()) + " merges, expected at most " + std::to_string(kMaxTokens));
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const std::string_view line = lines[i];
      if ((i == 0 && line.starts_with("#version")) || (i + 1 == lines.size() && line.empty())) continue;
      const auto where = "merge line " + std::to_string(i + 1);
      const auto space = line.find(' ');
      if (space == std::string_view::npos || space == 0 || space + 1 == line.size() ||
          line.find(' ', space + 1) != std::string_view::npos)
        refuse(where + " is not two tokens with one space between");
      const std::string left(line.substr(0, space)), right(line.substr(space + 1));
      const auto token_of = [&](const std::string& token) {
        const auto id = find(token);
        if (!id) refuse(where + ": «" + token + "» is not in the vocabulary");
        return *id;
      };
      const Merge merge{i, token_of(left + right)};
      if (!merges_.emplace(key(token_of(left), token_of(right)), merge).second)
        refuse(where + " stands there twice: «" + left + " " + right + "»");
    }
  }

  const Merge* merge_of(const std::vector<Symbol>& symbols, std::size_t left) const {
    const std::size_t right = symbols[left].next;
    if (right == symbols.size()) return nullptr;
    const auto found = merges_.find(key(symbols[left].id, symbols[right].id));
    return found == merges_.end() ? nullptr : &found->second;
  }

  void encode_piece(std::string_view piece, std::vector<TokenId>& ids) const {
    std::vector<Symbol> symbols(piece.size());
    for (std::size_t i = 0; i < piece.size(); ++i) {
      const auto byte = static_cast<std::uint8_t>(piece[i]);
      symbols[i] = {.id = i + 1 == piece.size() ? last_[byte] : inner_[byte], .previous = i - 1, .next = i + 1};
    }
    // (rank, position, result) of mergeable neighbours; an entry that a merge beside it has outdated is skipped.
    using Entry = std::tuple<std::size_t, std::size_t, TokenId>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
    const auto enqueue = [&](std::size_t left) {
      if (const auto* merge = merge_of(symbols, left)) queue.emplace(merge->rank, left, merge->result);
    };
    for (std::size_t i = 0; i < symbols.size(); ++i) enqueue(i);
    while (!queue.empty()) {
      const auto [rank, left, result] = queue.top();
      queue.pop();
      if (!symbols[left].alive) continue;
      const auto* merge = merge_of(symbols, left);
      if (!merge || merge->rank != rank) continue;
      Symbol& symbol = symbols[left];
      symbols[symbol.next].alive = false;
      symbol.id = result;
      symbol.next = symbols[symbol.next].next;
      if (symbol.next < symbols.size()) symbols[symbol.next].previous = left;
      enqueue(left);
      if (left > 0) enqueue(symbol.previous);  // position 0 never dies, so only it has no left neighbour
    }
    for (std::size_t at = 0; at < symbols.size(); at = symbols[at].next) ids.push_back(symbols[at].id);
  }

  BpeOptions options_;
  std::vector<std::string> tokens_{};  // [V] as the vocabulary writes them
  std::vector<std::string> bytes_{};   // [V] what they decode to
  std::unordered_map<std::string, TokenId> ids_{};
  std::unordered_map<std::uint64_t, Merge> merges_{};  // by (left, right)
  std::array<TokenId, 256> inner_{}, last_{};          // ids of byte symbols within a piece and at its end
};

}  // namespace gatefold
