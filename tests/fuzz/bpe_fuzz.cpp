// The bytes up to the first 0 are lines of merges, refused with a FormatError or used; the rest is a text, and texts
// never fail.
#include <cstdlib>

#include "gatefold/text/bpe.hpp"

namespace {

using gatefold::Bpe;
using gatefold::TokenId;

void expect(bool holds) {
  if (!holds) std::abort();
}

std::map<std::string, TokenId> byte_symbols(const std::string& end_of_word) {
  std::map<std::string, TokenId> map;
  for (const auto& end : {std::string(), end_of_word})
    for (const auto code : gatefold::byte_characters()) {
      std::string symbol;
      gatefold::append_utf8(symbol, code);
      map.emplace(symbol + end, static_cast<TokenId>(map.size()));
    }
  return map;
}

void run(const std::vector<std::string>& lines, std::string_view text, const gatefold::BpeOptions& options) {
  static std::map<std::string, std::map<std::string, TokenId>> symbols;  // making them is most of the time
  auto& base = symbols[options.end_of_word];
  if (base.empty()) base = byte_symbols(options.end_of_word);
  auto vocabulary = base;
  for (std::size_t i = 0; i < lines.size(); ++i) {  // most merges' results are tokens, so that most lines are read
    const auto space = lines[i].find(' ');
    if (space == std::string::npos || i % 16 == 15) continue;
    vocabulary.emplace(lines[i].substr(0, space) + lines[i].substr(space + 1), static_cast<TokenId>(vocabulary.size()));
  }
  std::optional<Bpe> bpe;
  try {
    bpe.emplace(vocabulary, lines, options);
  } catch (const gatefold::FormatError&) {
    return;
  }
  const auto ids = bpe->encode(text);
  expect(ids.size() <= text.size() + 2 * text.size());  // lower-casing may lengthen a character
  const auto decoded = bpe->decode(ids);
  if (options.end_of_word.empty()) expect(decoded == text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto end = std::min(input.find('\0'), input.size());
  const auto text = input.substr(end);
  std::vector<std::string> lines;
  for (auto rest = input.substr(0, end); !rest.empty();) {
    const auto length = std::min(rest.find('\n'), rest.size());
    lines.emplace_back(rest.substr(0, length));
    rest.remove_prefix(std::min(length + 1, rest.size()));
  }
  if (size % 3 == 0)
    run(lines, text, {});
  else if (size % 3 == 1)
    run(lines, text, {.pre_tokenizer = [](std::string_view all) { return std::vector{all}; }});
  else
    run(lines, text,
        {.end_of_word = "</w>", .letter_case = gatefold::LetterCase::lower, .pre_tokenizer = gatefold::clip_pieces});
  return 0;
}
