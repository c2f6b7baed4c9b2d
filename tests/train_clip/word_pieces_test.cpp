#include "train_clip/word_pieces.hpp"

#include <gmock/gmock.h>

#include "gatefold/models/clip_tokenizer_file.hpp"
#include "tests/io/temporary_folder.hpp"
#include "wardrobe/told.hpp"

namespace train_clip {
namespace {

using ::testing::ElementsAre;

TEST(WordPieces, TheMostFrequentPairIsMergedFirst) {
  EXPECT_THAT(learn_merges({{"aab", 3}, {"ab", 2}, {"b", 9}}, 3), ElementsAre("a b</w>", "a ab</w>"));
  EXPECT_THAT(learn_merges({{"xy", 1}, {"ab", 1}}, 1), ElementsAre("a b</w>"));  // in byte order
  EXPECT_THAT(learn_merges({}, 5), ElementsAre());
}

TEST(WordPieces, EachWordOfTheWardrobeIsOneTokenAndOtherTextsHaveSome) {
  const gatefold::test::TemporaryFolder folder;
  write_tokenizer(learn_merges(count_pieces(wardrobe::told_words()), 4000), folder / "");
  const auto tokenizer = gatefold::load_clip_tokenizer(folder / "", {.context = 24});
  const std::string text = "the image shows a small striped red dress in the upper left on a grainy green background";
  EXPECT_EQ(std::ssize(tokenizer.encode(text)), 17 + 2);
  EXPECT_EQ(std::ssize(tokenizer.encode("t-shirt")), 3 + 2);
  EXPECT_GT(std::ssize(tokenizer.encode("zebra")), 1 + 2);
  EXPECT_EQ(tokenizer.end(), tokenizer.size() - 1);
}

}  // namespace
}  // namespace train_clip
