#include "train_clip/word_pieces.hpp"

#include <nlohmann/json.hpp>

#include "gatefold/io/atomic_file.hpp"
#include "gatefold/text/bpe.hpp"

namespace train_clip {
namespace {

std::string byte_symbol(char byte) {
  std::string symbol;
  gatefold::append_utf8(symbol, gatefold::byte_characters()[static_cast<std::uint8_t>(byte)]);
  return symbol;
}

constexpr const char* kEndOfWord = "</w>";

}  // namespace

std::map<std::string, Index> count_pieces(const std::vector<std::string>& texts) {
  std::map<std::string, Index> count;
  for (const auto& text : texts) {
    const auto lower = gatefold::to_lower(text);
    for (const auto piece : gatefold::hugging_face_clip_pieces(lower)) ++count[std::string(piece)];
  }
  return count;
}

std::vector<std::string> learn_merges(const std::map<std::string, Index>& word_count, Index most) {
  struct Word {
    std::vector<std::string> symbols;
    Index count;
  };
  std::vector<Word> words;
  for (const auto& [text, count] : word_count) {
    auto& word = words.emplace_back(Word{{}, count});
    for (const char byte : text) word.symbols.push_back(byte_symbol(byte));
    if (!word.symbols.empty()) word.symbols.back() += kEndOfWord;
  }
  std::vector<std::string> merges;
  while (std::ssize(merges) < most) {
    std::map<std::pair<std::string, std::string>, Index> pairs;
    for (const auto& word : words)
      for (std::size_t i = 1; i < word.symbols.size(); ++i) pairs[{word.symbols[i - 1], word.symbols[i]}] += word.count;
    const auto best = std::ranges::max_element(pairs, [](const auto& a, const auto& b) { return a.second < b.second; });
    if (best == pairs.end()) break;
    const auto [left, right] = best->first;
    merges.push_back(left + " " + right);
    for (auto& word : words) {
      std::vector<std::string> merged;
      for (std::size_t i = 0; i < word.symbols.size(); ++i) {
        const bool here = i + 1 < word.symbols.size() && word.symbols[i] == left && word.symbols[i + 1] == right;
        merged.push_back(here ? left + right : word.symbols[i]);
        i += here;
      }
      word.symbols = std::move(merged);
    }
  }
  return merges;
}

void write_tokenizer(const std::vector<std::string>& merges, const std::filesystem::path& folder) {
  nlohmann::ordered_json vocabulary;
  Index next = 0;
  auto characters = gatefold::byte_characters();
  std::ranges::sort(characters);
  for (const auto* end : {"", kEndOfWord})
    for (const auto code : characters) {
      std::string symbol;
      gatefold::append_utf8(symbol, code);
      vocabulary[symbol + end] = next++;
    }
  std::string lines = "#version: 0.2\n";
  for (const auto& merge : merges) {
    lines += merge + "\n";
    auto token = merge;
    token.erase(token.find(' '), 1);
    if (!vocabulary.contains(token)) vocabulary[token] = next++;  // two merges may give the same
  }
  vocabulary["<|startoftext|>"] = next++;
  vocabulary["<|endoftext|>"] = next++;
  gatefold::write_file(folder / "vocab.json", vocabulary.dump());
  gatefold::write_file(folder / "merges.txt", lines);
}

}  // namespace train_clip
