#include "gatefold/text/bpe.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "gatefold/core/random.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using Map = std::map<std::string, TokenId>;
using Lines = std::vector<std::string>;

/// CLIP's layout: byte symbols by code point, the same with the end of word, the merges' results.
Map vocabulary_of(const Lines& merges, const std::string& end_of_word) {
  auto characters = byte_characters();
  std::sort(characters.begin(), characters.end());
  Map map;
  const auto add = [&](const std::string& token) { map.emplace(token, static_cast<TokenId>(map.size())); };
  for (const auto& end : end_of_word.empty() ? Lines{""} : Lines{"", end_of_word})
    for (const auto code : characters) {
      std::string symbol;
      append_utf8(symbol, code);
      add(symbol + end);
    }
  for (auto token : merges) {
    token.erase(token.find(' '), 1);
    add(token);
  }
  return map;
}

Bpe bpe_of(const Lines& merges, BpeOptions options = {}) {
  return Bpe(vocabulary_of(merges, options.end_of_word), merges, options);
}

BpeOptions clip() { return {.end_of_word = "</w>", .letter_case = LetterCase::lower, .pre_tokenizer = clip_pieces}; }

std::vector<std::string_view> whole(std::string_view text) { return {text}; }

std::string random_bytes(Rng& rng, Index length, Index alphabet) {
  std::string text;
  for (Index i = 0; i < length; ++i) text += static_cast<char>(rng.below(alphabet) + (alphabet < 26 ? 'a' : 0));
  return text;
}

std::vector<std::string> tokens(const Bpe& bpe, const std::vector<TokenId>& ids) {
  std::vector<std::string> tokens;
  for (const auto id : ids) tokens.push_back(bpe.token(id));
  return tokens;
}

struct Model {
  std::string name;
  Lines merges;
  std::vector<std::pair<std::string, std::vector<TokenId>>> texts;
};

std::vector<Model> goldens() {
  std::ifstream file(gatefold::test::test_data("bpe_goldens.txt"));
  std::vector<Model> models;
  for (std::string line; std::getline(file, line);) {
    const auto rest = line.substr(line.find(' ') + 1);
    if (line.starts_with("model ")) models.push_back({rest, {}, {}});
    if (line.starts_with("merge ")) models.back().merges.push_back(rest);
    if (line.starts_with("text ")) {
      std::string text;
      for (std::size_t i = 0; rest[i] != ' ' && rest[i] != ':'; i += 2)
        text += static_cast<char>(std::stoi(rest.substr(i, 2), nullptr, 16));
      std::istringstream numbers(rest.substr(rest.find(':') + 1));
      models.back().texts.emplace_back(text, std::vector<TokenId>(std::istream_iterator<TokenId>(numbers), {}));
    }
  }
  return models;
}

TEST(Bpe, GivesTheIdsOfHuggingFaceTokenizers) {
  const auto models = goldens();
  ASSERT_EQ(models.size(), 2u);
  for (const auto& model : models) {
    const auto bpe = bpe_of(model.merges, model.name == "clip" ? clip() : BpeOptions{});
    ASSERT_EQ(model.texts.size(), 16u);
    for (const auto& [text, ids] : model.texts) EXPECT_EQ(bpe.encode(text), ids) << model.name << ": " << text;
  }
}

TEST(Bpe, BytesStandInClipsOrder) {
  const auto bpe = bpe_of({}, clip());  // ids from the published vocabulary of CLIP
  EXPECT_EQ(bpe.find("!"), 0);
  EXPECT_EQ(bpe.find("!</w>"), 256);
  EXPECT_EQ(bpe.find("a</w>"), 320);
  EXPECT_EQ(bpe.find("\u0100"), 188);
  EXPECT_EQ(bpe.find("aa"), std::nullopt);
  EXPECT_EQ(bpe.size(), 512);
}

TEST(Bpe, MergesTheLowestRankThenTheLeftmost) {
  EXPECT_THAT(tokens(bpe_of({"b c", "a b"}), bpe_of({"b c", "a b"}).encode("abc")), ElementsAre("a", "bc"));
  EXPECT_THAT(tokens(bpe_of({"a b", "b c"}), bpe_of({"a b", "b c"}).encode("abc")), ElementsAre("ab", "c"));
  EXPECT_THAT(tokens(bpe_of({"a a"}), bpe_of({"a a"}).encode("aaaaa")), ElementsAre("aa", "aa", "a"));
}

TEST(Bpe, EqualsTheQuadraticAlgorithm) {
  const Lines merges{"a a", "b a", "aa b", "c c", "ba ba", "a c", "aab ba", "ac cc", "b b"};
  const auto bpe = bpe_of(merges, {.pre_tokenizer = whole});
  Rng rng(5);
  for (int round = 0; round < 300; ++round) {
    const auto text = random_bytes(rng, rng.below(40) + 1, 3);
    Lines expected;
    for (const char c : text) expected.emplace_back(1, c);
    const auto rank = [&](std::size_t i) {
      return std::find(merges.begin(), merges.end(), expected[i] + " " + expected[i + 1]) - merges.begin();
    };
    for (;;) {
      std::size_t best = 0;
      for (std::size_t i = 0; i + 1 < expected.size(); ++i)
        if (rank(i) < rank(best)) best = i;
      if (expected.size() < 2 || rank(best) == static_cast<Index>(merges.size())) break;
      expected[best] += expected[best + 1];
      expected.erase(expected.begin() + static_cast<Index>(best) + 1);
    }
    EXPECT_EQ(tokens(bpe, bpe.encode(text)), expected) << text;
  }
}

TEST(Bpe, DecodesAnyBytesToThemselves) {
  Rng rng(7);
  const auto gpt2 = bpe_of(goldens().front().merges);
  for (int round = 0; round < 200; ++round) {
    const auto text = random_bytes(rng, rng.below(60), 256);
    EXPECT_EQ(gpt2.decode(gpt2.encode(text)), text);
  }
}

TEST(Bpe, DecodesAnEndOfWordToASpace) {
  const auto bpe = bpe_of(goldens().back().merges, clip());
  EXPECT_EQ(bpe.decode(bpe.encode("A RED  shirt, it's wei\u00dfe")), "a red shirt , it 's wei\u00dfe ");
}

TEST(Bpe, TakesALongPieceInItsStride) {
  const auto bpe = bpe_of({"a a", "aa aa", "aaaa aaaa"}, {.pre_tokenizer = whole});
  EXPECT_EQ(bpe.encode(std::string(1 << 17, 'a')).size(), (1u << 17) / 8);  // quadratic would take minutes
}

TEST(Bpe, SkipsTheVersionLineAndAnEmptyLastOne) {
  const Lines merges{"#version: 0.2", "a b", ""};
  EXPECT_EQ(Bpe(vocabulary_of({"a b"}, ""), merges, {}).encode("ab").size(), 1u);
}

TEST(Bpe, RefusesWhatContradictsItself) {
  const auto making = [](Map map, Lines merges, BpeOptions options = {}) { return [=] { Bpe(map, merges, options); }; };
  const auto good = vocabulary_of({"a b"}, "");
  EXPECT_NO_THROW(making(good, {"a b"})());
  EXPECT_THAT(making(good, {"a b", "ab"}), ThrowsMessage<FormatError>(HasSubstr("merge line 2 is not two tokens")));
  EXPECT_THAT(making(good, {"a  b"}), ThrowsMessage<FormatError>(HasSubstr("merge line 1 is not two tokens")));
  EXPECT_THAT(making(good, {"a b "}), ThrowsMessage<FormatError>(HasSubstr("merge line 1 is not two tokens")));
  EXPECT_THAT(making(good, {"", "a b"}), ThrowsMessage<FormatError>(HasSubstr("merge line 1 is not two tokens")));
  EXPECT_THAT(making(good, {"a b", "a b"}), ThrowsMessage<FormatError>(HasSubstr("merge line 2 stands there twice")));
  EXPECT_THAT(making(good, {"a c"}), ThrowsMessage<FormatError>(HasSubstr("«ac» is not in the vocabulary")));
  EXPECT_THAT(making(good, {}, clip()), ThrowsMessage<FormatError>(HasSubstr("lacks «\u0100</w>»")));
  auto map = good;
  map["ab"] = 3;
  EXPECT_THAT(making(map, {}), ThrowsMessage<FormatError>(HasSubstr("share id 3")));
  map["ab"] = 257;
  EXPECT_THAT(making(map, {}), ThrowsMessage<FormatError>(HasSubstr("«ab» has id 257, expected 0..256")));
  map["ab"] = -1;
  EXPECT_THAT(making(map, {}), ThrowsMessage<FormatError>(HasSubstr("has id -1")));
  map.erase("ab");
  map["\xff"] = 256;
  EXPECT_THAT(making(map, {}), ThrowsMessage<FormatError>(HasSubstr("token of id 256 is empty, not UTF-8")));
  EXPECT_THROW(bpe_of({}).decode(std::vector<TokenId>{256}), OptionError);
  EXPECT_THROW(bpe_of({}).token(-1), OptionError);
}

}  // namespace
}  // namespace gatefold
