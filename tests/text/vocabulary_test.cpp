#include "gatefold/text/vocabulary.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/core/random.hpp"

namespace gatefold {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

const Vocabulary kClothes({"red", "shirt", "a", "t", "caf\u00e9", "\u20ac"});
constexpr TokenId kByte = Vocabulary::kFirstByte;

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

TEST(Vocabulary, SplitsAtSpacesAndPunctuationAndKeepsSymbols) {
  EXPECT_THAT(split_words("A Red  T-Shirt's, \u201cCAF\u00c9\u201d 5\u20ac+\U0001f457"),
              ElementsAre("a", "red", "t", "shirt", "s", "caf\u00e9", "5", "\u20ac", "+", "\U0001f457"));
  EXPECT_THAT(split_words("cafe\u0301 \u0915\u092e\u0940\u091c\u093c"),  // marks belong to their word
              ElementsAre("cafe\u0301", "\u0915\u092e\u0940\u091c\u093c"));
  EXPECT_THAT(split_words(" \t\r\n\u3000...\u200b"), IsEmpty());
  EXPECT_THAT(split_words("x\xffy \xe2\x82"), ElementsAre("x\xffy", "\xe2\x82"));
}

TEST(Vocabulary, NumbersWordsAfterSpecialsAndBytes) {
  EXPECT_EQ(kClothes.size(), 258 + 6);
  EXPECT_THAT(kClothes.encode("A red shirt"), ElementsAre(260, 258, 259, Vocabulary::kEnd));
  EXPECT_THAT(Vocabulary().encode(""), ElementsAre(Vocabulary::kEnd));
}

TEST(Vocabulary, SpellsUnknownWordsInBytes) {
  EXPECT_THAT(kClothes.encode("red hat"), ElementsAre(258, kByte + 'h', kByte + 'a', kByte + 't', 1));
  EXPECT_THAT(kClothes.encode("no go red"),  // a space keeps two unknown words apart
              ElementsAre(kByte + 'n', kByte + 'o', kByte + ' ', kByte + 'g', kByte + 'o', 258, 1));
  EXPECT_THAT(kClothes.encode("\u00fc\xff"), ElementsAre(kByte + 0xc3, kByte + 0xbc, kByte + 0xff, 1));
}

TEST(Vocabulary, CutsToMaxTokensAndKeepsTheEnd) {
  EXPECT_THAT(kClothes.encode("a red shirt", 4), ElementsAre(260, 258, 259, 1));
  EXPECT_THAT(kClothes.encode("a red shirt", 3), ElementsAre(260, 258, 1));
  EXPECT_THAT(kClothes.encode("a hat", 3), ElementsAre(260, kByte + 'h', 1));
  EXPECT_THAT(kClothes.encode("a red shirt", 1), ElementsAre(1));
  EXPECT_THROW(kClothes.encode("a", 0), OptionError);
}

TEST(Vocabulary, DecodesAnyTextToItsWords) {
  Rng rng(11);
  const std::vector<std::string> parts{"red",  "RED",  " ",    " ",      "-", "hat", "\u20ac",
                                       "\xe2", "\x82", "\xac", "\u0130", "a", "\n"};
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (Index i = rng.below(12); i > 0; --i) text += parts[static_cast<std::size_t>(rng.below(13))];
    const auto ids = kClothes.encode(text);
    EXPECT_EQ(kClothes.decode(ids), join(split_words(text)));
    EXPECT_EQ(kClothes.encode(kClothes.decode(ids)), ids);
  }
}

TEST(Vocabulary, ShowsEachIdInUtf8) {
  EXPECT_THAT(kClothes.words(std::vector<TokenId>{258, kByte + 'h', kByte + ' ', kByte + 0xe2, 1, 0}),
              ElementsAre("red", "h", "<20>", "<e2>", "<end>", "<padding>"));
  EXPECT_THROW(kClothes.words(std::vector<TokenId>{264}), OptionError);
  EXPECT_THROW(kClothes.decode(std::vector<TokenId>{-1}), OptionError);
}

TEST(Vocabulary, SurvivesSerialization) {
  EXPECT_EQ(kClothes.serialize(), "red\nshirt\na\nt\ncaf\u00e9\n\u20ac\n");
  EXPECT_EQ(Vocabulary::parse(kClothes.serialize()), kClothes);
  EXPECT_EQ(Vocabulary::parse("red\nshirt"), Vocabulary({"red", "shirt"}));  // the last line end may be missing
  EXPECT_EQ(Vocabulary::parse(""), Vocabulary());
}

TEST(Vocabulary, HashIsFnv1aOfTheText) {
  EXPECT_EQ(Vocabulary().hash(), 0xcbf29ce484222325u);  // the offset basis
  EXPECT_NE(Vocabulary({"a", "b"}).hash(), Vocabulary({"b", "a"}).hash());
  EXPECT_NE(Vocabulary({"a", "b"}).hash(), Vocabulary({"ab"}).hash());
}

TEST(Vocabulary, RefusesBadLinesByNumber) {
  const auto parsing = [](std::string text) { return [text] { Vocabulary::parse(text); }; };
  EXPECT_THAT(parsing("a\n\nb\n"), ThrowsMessage<FormatError>(HasSubstr("line 2 is empty")));
  EXPECT_THAT(parsing("a\nb\na\n"), ThrowsMessage<FormatError>(HasSubstr("line 3: «a» stands already on line 1")));
  EXPECT_THAT(parsing("a\r\n"), ThrowsMessage<FormatError>(HasSubstr("line 1 holds control character 13")));
  EXPECT_THAT(parsing(std::string("a\nb\0c\n", 6)), ThrowsMessage<FormatError>(HasSubstr("line 2 holds control")));
  EXPECT_THAT(parsing("a\n\xc3\n"), ThrowsMessage<FormatError>(HasSubstr("line 2 is not UTF-8")));
  EXPECT_THAT(parsing("Red\n"), ThrowsMessage<FormatError>(HasSubstr("line 1: «Red» is not a lower-case word")));
  EXPECT_THAT(parsing("t-shirt\n"), ThrowsMessage<FormatError>(HasSubstr("without spaces and punctuation")));
  EXPECT_THAT(parsing("red shirt\n"), ThrowsMessage<FormatError>(HasSubstr("line 1")));
  EXPECT_THAT(parsing("a\n" + std::string(257, 'b')), ThrowsMessage<FormatError>(HasSubstr("line 2 has 257 bytes")));
  std::string many;
  for (std::size_t i = 0; i <= Vocabulary::kMaxWords; ++i) many += "a\n";
  EXPECT_THAT(parsing(many), ThrowsMessage<FormatError>(HasSubstr("more than 1048576 lines")));
}

TEST(Vocabulary, TakesTheFrequentWordsOfACorpus) {
  const std::vector<std::string> texts{"a red shirt", "a Blue shirt, a hat", "\xff\xff \xff\xff"};
  EXPECT_EQ(Vocabulary::of_corpus(texts, {}), Vocabulary({"a", "shirt", "blue", "hat", "red"}));
  EXPECT_EQ(Vocabulary::of_corpus(texts, {.min_count = 2}), Vocabulary({"a", "shirt"}));
  EXPECT_EQ(Vocabulary::of_corpus(texts, {.max_words = 1}), Vocabulary({"a"}));
}

}  // namespace
}  // namespace gatefold
