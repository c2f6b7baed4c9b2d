#include "train_clip/captions_file.hpp"

#include <gmock/gmock.h>

#include "gatefold/core/error.hpp"
#include "tests/io/temporary_folder.hpp"

namespace train_clip {
namespace {

using gatefold::FormatError;
using gatefold::test::message_of;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CaptionsFile : public ::testing::Test {
 protected:
  CaptionsFile() {
    for (const char* name : {"a.jpg", "b.png", "c, d.jpg"}) write_text(folder_ / name, "pixels");
  }
  std::filesystem::path file(const char* name, const std::string& text) const {
    write_text(folder_ / name, text);
    return folder_ / name;
  }
  const TemporaryFolder folder_;
};

TEST_F(CaptionsFile, APhotographMayHaveSeveralCaptions) {
  const auto read = read_captions(file("x.tsv",
                                       "\xef\xbb\xbf"
                                       "a.jpg\tone\r\nb.png\ttwo\n\n a.jpg\t three \t4\r"),
                                  false);
  ASSERT_EQ(read.photos.size(), 2u);
  EXPECT_EQ(read.photos[0].photo, folder_ / "a.jpg");
  EXPECT_THAT(read.photos[0].captions, ElementsAre("one", "three \t4"));
  EXPECT_THAT(read.photos[1].captions, ElementsAre("two"));
}

TEST_F(CaptionsFile, OfCommasNamesItsColumns) {
  const auto read = read_captions(
      file("x.CSV", "id,Caption,filepath\n1,\"a \"\"red\"\",\ncat\",\"c, d.jpg\"\r\n2,grass,a.jpg\n"), false);
  ASSERT_EQ(read.photos.size(), 2u);
  EXPECT_EQ(read.photos[0].photo, folder_ / "c, d.jpg");
  EXPECT_THAT(read.photos[0].captions, ElementsAre("a \"red\",\ncat"));
  EXPECT_THAT(message_of<FormatError>([&] { (void)read_captions(file("y.csv", "a.jpg,grass\n"), true); }),
              HasSubstr("names no columns «image» and «caption»"));
}

TEST_F(CaptionsFile, AFolderHasTextsBesidePhotographs) {
  std::filesystem::create_directory(folder_ / "deep");
  write_text(folder_ / "deep" / "e.jpg", "pixels");
  file("deep/e.txt", "one\n\ntwo\n");
  file("b.txt", "three");
  const auto read = read_captions(folder_ / "", false);
  ASSERT_EQ(read.photos.size(), 2u);
  EXPECT_THAT(read.photos[0].captions, ElementsAre("three"));
  EXPECT_THAT(read.photos[1].captions, ElementsAre("one", "two"));
  file("lost.txt", "of nothing");
  EXPECT_THAT(message_of<FormatError>([&] { (void)read_captions(folder_ / "", false); }),
              HasSubstr("lost.txt: has no photograph of its name beside it"));
}

TEST_F(CaptionsFile, EachFaultIsNamedAndCountedAndMayBeSkipped) {
  const auto path = file("x.tsv",
                         "a.jpg\tgood\n"
                         "no tab here\n"
                         "missing.jpg\ttext\n"
                         "b.png\t \n"
                         "a.jpg\tgood\n"
                         "a.jpg\tcaf\xe9\n"
                         "\tnobody\n"

                         "b.png\talso good\n");
  const auto why = message_of<FormatError>([&] { (void)read_captions(path, false); });
  EXPECT_THAT(why, AllOf(HasSubstr("6 lines or files are of no use; --skip-bad true"), HasSubstr(":2: has no tab"),
                         HasSubstr(":3: " + (folder_ / "missing.jpg").string() + " is not there"),
                         HasSubstr(":4: has an empty caption"), HasSubstr(":5: says the same of a.jpg again"),
                         HasSubstr(":6: is not UTF-8"), HasSubstr(":7: names no photograph")));
  const auto read = read_captions(path, true);
  EXPECT_EQ(read.faults.size(), 6u);
  EXPECT_EQ(read.photos.size(), 2u);
}

TEST_F(CaptionsFile, OfWhichNothingIsLeftIsRefusedInAnyCase) {
  for (const bool skip : {false, true})
    EXPECT_THAT(message_of<FormatError>([&] { (void)read_captions(file("x.tsv", "missing.jpg\ttext\n"), skip); }),
                HasSubstr("nothing is left"));
  EXPECT_THAT(message_of<FormatError>([&] { (void)read_captions(file("x.tsv", ""), true); }),
              HasSubstr("holds no captions"));
  EXPECT_THAT(message_of<FormatError>([&] {
                (void)read_captions(file("x.tsv",
                                         "\xff\xfe"
                                         "a"),
                                    true);
              }),
              HasSubstr("is UTF-16"));
  EXPECT_THAT(message_of<FormatError>([&] { (void)read_captions(folder_ / "nosuch.tsv", true); }),
              HasSubstr("is not there"));
}

}  // namespace
}  // namespace train_clip
