#include "gatefold/text/pre_tokenizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/core/random.hpp"

namespace gatefold {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(PreTokenizer, ClipDropsSpacesAndTakesDigitsOneByOne) {
  EXPECT_THAT(clip_pieces("it's  a t-shirt/top."), ElementsAre("it", "'s", "a", "t", "-", "shirt", "/", "top", "."));
  EXPECT_THAT(clip_pieces("Hello World! 123"), ElementsAre("Hello", "World", "!", "1", "2", "3"));
  EXPECT_THAT(clip_pieces("WE'LL we'Re 'x ''s"), ElementsAre("WE", "'LL", "we", "'Re", "'", "x", "''", "s"));
  EXPECT_THAT(clip_pieces(" \t\u00a0\n"), IsEmpty());
}

TEST(PreTokenizer, HuggingFacesClipKnowsContractionsInLowerCaseOnly) {
  EXPECT_THAT(hugging_face_clip_pieces("it's  a t-shirt 12"),
              ElementsAre("it", "'s", "a", "t", "-", "shirt", "1", "2"));
  EXPECT_THAT(hugging_face_clip_pieces("WE'LL '\u017f"), ElementsAre("WE", "'", "LL", "'", "\u017f"));
  EXPECT_THAT(clip_pieces("'\u017f"), ElementsAre("'\u017f"));  // without regard to case, the long s is an s
}

TEST(PreTokenizer, Gpt2HangsOneSpaceOnTheWord) {
  EXPECT_THAT(gpt2_pieces("it's  a top!! 123 "), ElementsAre("it", "'s", " ", " a", " top", "!!", " 123", " "));
  EXPECT_THAT(gpt2_pieces("a\n\n b\nc"), ElementsAre("a", "\n\n", " b", "\n", "c"));
  EXPECT_THAT(gpt2_pieces("IT'S 's"), ElementsAre("IT", "'", "S", " '", "s"));
  EXPECT_THAT(gpt2_pieces(""), IsEmpty());
}

TEST(PreTokenizer, PiecesAreTheTextInOrder) {
  Rng rng(3);
  const std::string_view letters = "a' 1\n\xc3\xa9\xff!";
  for (int round = 0; round < 500; ++round) {
    std::string text, joined, kept;
    for (Index i = rng.below(20); i > 0; --i) text += letters[static_cast<std::size_t>(rng.below(std::ssize(letters)))];
    for (const auto piece : gpt2_pieces(text)) joined += piece;
    EXPECT_EQ(joined, text);
    joined.clear();
    for (const auto piece : clip_pieces(text)) joined += piece;
    for (const char c : text)
      if (c != ' ' && c != '\n') kept += c;
    EXPECT_EQ(joined, kept);
  }
}

}  // namespace
}  // namespace gatefold
