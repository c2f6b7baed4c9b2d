#include "zero_shot/clip_photos.hpp"

#include <gmock/gmock.h>

#include "tests/io/temporary_folder.hpp"

namespace zero_shot {
namespace {

namespace fs = std::filesystem;
using gatefold::testing::message_of;
using gatefold::testing::TemporaryFolder;
using gatefold::testing::write_text;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<fs::path> found(const std::vector<fs::path>& places) { return find_photos(places); }

TEST(ClipPhotos, OfAFolderComeSortedFromBelowByTheirNames) {
  const TemporaryFolder folder;
  for (const char* name : {"b", "a", ".hidden"}) fs::create_directories(folder / "in" / name);
  for (const char* name : {"b/2.JPG", "b/1.jpeg", "a/x.png", "z.Png", "a/notes.txt", "a/._x.png", ".hidden/y.png"})
    write_text(folder / "in" / name, "");
  fs::create_directories(folder / "in" / "folder.png");
  EXPECT_THAT(found({folder / "in"}), ElementsAre(folder / "in" / "a" / "x.png", folder / "in" / "b" / "1.jpeg",
                                                  folder / "in" / "b" / "2.JPG", folder / "in" / "z.Png"));
}

TEST(ClipPhotos, FilesStandAsNamedAndEachOnce) {
  const TemporaryFolder folder;
  for (const char* name : {"b.png", "a.webp", "c.png"}) write_text(folder / name, "");
  EXPECT_THAT(found({folder / "c.png", folder / "a.webp"}), ElementsAre(folder / "c.png", folder / "a.webp"));
  EXPECT_THAT(found({folder / "c.png", folder / "c.png", folder / "b.png", folder / "c.png"}),
              ElementsAre(folder / "c.png", folder / "b.png"));
}

TEST(ClipPhotos, SaysWhatIsNotThere) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "empty");
  const auto refusal = [&](const fs::path& place) {
    return message_of<gatefold::FormatError>([&] { (void)found({place}); });
  };
  EXPECT_THAT(refusal(folder / "empty"), HasSubstr("expected files that end in .png, .jpg or .jpeg"));
  EXPECT_THAT(refusal(folder / "gone.png"), HasSubstr("is the name right?"));
  EXPECT_THAT(refusal("a red dress"), HasSubstr("Labels come behind --labels"));
}

}  // namespace
}  // namespace zero_shot
