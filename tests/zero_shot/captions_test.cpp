#include "search/captions.hpp"

#include <gmock/gmock.h>

#include "tests/io/temporary_folder.hpp"

namespace search {
namespace {

using gatefold::test::message_of;
using gatefold::test::write_text;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CaptionsTest : public ::testing::Test {
 protected:
  Captions read(const std::string& name, const std::string& text) const {
    write_text(folder_ / name, text);
    return read_captions(folder_ / name);
  }
  std::string refusal(const std::string& name, const std::string& text) const {
    return message_of<gatefold::FormatError>([&] { (void)read(name, text); });
  }
  const gatefold::test::TemporaryFolder folder_;
};

TEST_F(CaptionsTest, OfLinesMayShareAPhotograph) {
  const auto captions = read("c.tsv", "# mine\nb.jpg\tthe sea\r\n\n/a/x.png\ta\tcat\nb.jpg\twaves\n");
  EXPECT_THAT(captions.photos, ElementsAre(folder_ / "b.jpg", "/a/x.png"));
  EXPECT_THAT(captions.texts, ElementsAre("the sea", "a\tcat", "waves"));
  EXPECT_THAT(captions.photo_of, ElementsAre(0, 1, 0));
}

TEST_F(CaptionsTest, OfJsonMayBeLists) {
  const auto captions =
      read("c.json", R"([{"image": "b.jpg", "caption": ["the sea", "waves"]}, {"image": "a.png", "caption": "cat"}])");
  EXPECT_THAT(captions.photos, ElementsAre(folder_ / "b.jpg", folder_ / "a.png"));
  EXPECT_THAT(captions.texts, ElementsAre("the sea", "waves", "cat"));
  EXPECT_THAT(captions.photo_of, ElementsAre(0, 0, 1));
}

TEST_F(CaptionsTest, DoNotCareWhoWroteTheFile) {
  const auto captions = read("c.tsv",
                             "\xef\xbb\xbf"
                             "b.jpg\tthe sea\r#1.jpg\t#waves\r\n#\n");
  EXPECT_THAT(captions.photos, ElementsAre(folder_ / "b.jpg", folder_ / "#1.jpg"));
  EXPECT_THAT(captions.texts, ElementsAre("the sea", "#waves"));
  EXPECT_EQ(read("c.json",
                 "\xef\xbb\xbf"
                 R"([{"image": "b.jpg", "caption": "x"}])")
                .texts.size(),
            1u);
  EXPECT_THAT(refusal("c.tsv",
                      "\xff\xfe"
                      "b"),
              HasSubstr("is UTF-16"));
  EXPECT_THAT(refusal("c.json", std::string(100, '[')), HasSubstr("c.json: is nested deeper than 64 levels"));
}

TEST_F(CaptionsTest, OfAPipeThatNobodyWritesIntoAreNotWaitedFor) {
  ASSERT_EQ(::mkfifo((folder_ / "pipe.tsv").c_str(), 0600), 0);
  EXPECT_THAT(message_of<gatefold::FormatError>([&] { (void)read_captions(folder_ / "pipe.tsv"); }),
              HasSubstr("a pipe that nobody writes into"));
}

TEST_F(CaptionsTest, SayWhereSomethingIsWrong) {
  EXPECT_THAT(refusal("c.tsv", "a.png\tcat\nb.png the sea\n"), HasSubstr("c.tsv:2: expected a photograph's path"));
  EXPECT_THAT(refusal("c.tsv", "# nothing\n"), HasSubstr("holds no captions"));
  EXPECT_THAT(refusal("c.json", "[{"), HasSubstr("is no JSON list"));
  EXPECT_THAT(refusal("c.json", R"([{"image": "a", "caption": "x"}, {"image": "a"}])"), HasSubstr("item 2 is another"));
  EXPECT_THAT(refusal("c.json", R"([{"image": "a", "caption": [7]}])"), HasSubstr("item 1 is another"));
  EXPECT_THAT(message_of<gatefold::FormatError>([&] { (void)read_captions(folder_ / "gone.tsv"); }),
              HasSubstr("cannot be read"));
}

}  // namespace
}  // namespace search
