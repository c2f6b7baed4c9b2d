// The bytes up to the first 0 are a vocabulary file, refused with a FormatError or read and written back; the rest is
// a text, and texts never fail.
#include <cstdlib>

#include "gatefold/text/vocabulary.hpp"

namespace {

void expect(bool holds) {
  if (!holds) std::abort();
}

void expect_laws(const gatefold::Vocabulary& vocabulary, std::string_view text) {
  using gatefold::Vocabulary;
  const auto ids = vocabulary.encode(text);
  expect(!ids.empty() && ids.back() == Vocabulary::kEnd);
  std::string joined;
  for (const auto& word : gatefold::split_words(text)) joined += (joined.empty() ? "" : " ") + word;
  const auto decoded = vocabulary.decode(ids);
  expect(decoded == joined);
  expect(vocabulary.encode(decoded) == ids);
  const auto shown = vocabulary.words(ids);
  expect(shown.size() == ids.size());
  for (const auto& piece : shown) expect(gatefold::is_utf8(piece));
  const auto cut = vocabulary.encode(text, 3);
  expect(cut.size() <= 3 && cut.back() == Vocabulary::kEnd);
  expect(std::equal(cut.begin(), cut.end() - 1, ids.begin()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using gatefold::Vocabulary;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto end = std::min(input.find('\0'), input.size());
  const auto text = input.substr(end);
  expect_laws(Vocabulary(), text);
  Vocabulary vocabulary;
  try {
    vocabulary = Vocabulary::parse(input.substr(0, end));
  } catch (const gatefold::FormatError&) {
    return 0;
  }
  expect(Vocabulary::parse(vocabulary.serialize()) == vocabulary);
  expect_laws(vocabulary, text);
  const std::vector<std::string> corpus{std::string(input)};
  expect_laws(Vocabulary::of_corpus(corpus, {.max_words = 8}), text);
  return 0;
}
