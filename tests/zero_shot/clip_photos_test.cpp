#include "zero_shot/clip_photos.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/io/temporary_folder.hpp"

namespace zero_shot {
namespace {

namespace fs = std::filesystem;
using gatefold::test::message_of;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<fs::path> found(const std::vector<fs::path>& places) { return find_photos(places); }

TEST(ClipPhotos, OfAFolderComeSortedFromBelowByTheirNames) {
  const TemporaryFolder folder;
  for (const char* name : {"b", "a", ".hidden"}) fs::create_directories(folder / "in" / name);
  for (const char* name :
       {"b/2.JPG", "b/1.jpeg", "a/x.png", "z.Png", "c.jfif", "d.jpe", "a/notes.txt", "a/._x.png", ".hidden/y.png"})
    write_text(folder / "in" / name, "");
  fs::create_directories(folder / "in" / "folder.png");
  EXPECT_THAT(found({folder / "in"}),
              ElementsAre(folder / "in" / "a" / "x.png", folder / "in" / "b" / "1.jpeg", folder / "in" / "b" / "2.JPG",
                          folder / "in" / "c.jfif", folder / "in" / "d.jpe", folder / "in" / "z.Png"));
}

TEST(ClipPhotos, FilesStandAsNamedAndEachOnce) {
  const TemporaryFolder folder;
  for (const char* name : {"b.png", "a.webp", "c.png"}) write_text(folder / name, "");
  EXPECT_THAT(found({folder / "c.png", folder / "a.webp"}), ElementsAre(folder / "c.png", folder / "a.webp"));
  EXPECT_THAT(found({folder / "c.png", folder / "c.png", folder / "b.png", folder / "c.png"}),
              ElementsAre(folder / "c.png", folder / "b.png"));
}

TEST(ClipPhotos, ALinkThatLeadsNowhereOrToItselfIsLeftToItsReader) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "in" / "deep");
  fs::create_symlink("loop.png", folder / "in" / "loop.png");
  fs::create_symlink("gone", folder / "in" / "lost.png");
  fs::create_symlink("..", folder / "in" / "deep" / "up");  // to a folder: not followed
  fs::create_symlink("loop", folder / "in" / "loop");       // no photograph by its name
  write_text(folder / "in" / "a.png", "");
  ASSERT_EQ(::mkfifo((folder / "in" / "pipe.png").c_str(), 0600), 0);
  EXPECT_THAT(found({folder / "in"}),
              ElementsAre(folder / "in" / "a.png", folder / "in" / "loop.png", folder / "in" / "lost.png"));
  EXPECT_THAT(found({folder / "in" / "loop.png"}), ElementsAre(folder / "in" / "loop.png"));
}

/// Somebody who may not do everything, for as long as it lives, where the tests run as root.
class AsNobody {
 public:
  AsNobody() {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) throw std::runtime_error("seteuid");
  }
  ~AsNobody() {
    if (::getuid() == 0 && ::seteuid(0) != 0) std::abort();
  }
};

TEST(ClipPhotos, NamesFoldersThatMayNotBeOpenedAndCountsOtherKinds) {
  const TemporaryFolder folder;
  fs::permissions(folder / ".", fs::perms::all);  // for nobody
  fs::create_directories(folder / "in" / "closed");
  for (const char* name : {"a.png", "b.GIF", "c.gif", "d.tiff", "e.txt", ".f.gif", "closed/x.png"})
    write_text(folder / "in" / name, "");
  fs::permissions(folder / "in" / "closed", fs::perms::none);
  LeftOut left;
  const std::vector<fs::path> places{folder / "in"}, closed{folder / "in" / "closed"};
  std::string alone, unasked;
  {
    const AsNobody nobody;
    EXPECT_THAT(find_photos(places, left), ElementsAre(folder / "in" / "a.png"));
    LeftOut again;
    alone = message_of<gatefold::FormatError>([&] { (void)find_photos(closed, again); });
    unasked = message_of<gatefold::FormatError>([&] { (void)find_photos(places); });
  }
  fs::permissions(folder / "in" / "closed", fs::perms::all);
  const auto why = (folder / "in" / "closed").string() + ": Permission denied";
  EXPECT_THAT(left.closed, ElementsAre(why));
  EXPECT_EQ(left.of_other_kinds(), "3 files of other kinds were left (GIF 2, TIFF 1)");
  EXPECT_THAT(alone, HasSubstr(why));
  EXPECT_EQ(unasked, why);
  EXPECT_EQ(LeftOut().of_other_kinds(), "");
  left.kinds = {{"SVG", 1}};
  EXPECT_EQ(left.of_other_kinds(), "1 file of another kind was left (SVG 1)");
}

TEST(ClipPhotos, SaysWhatIsNotThere) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "empty");
  const auto refusal = [&](const fs::path& place) {
    return message_of<gatefold::FormatError>([&] { (void)found({place}); });
  };
  EXPECT_THAT(refusal(folder / "empty"), AllOf(HasSubstr("expected files that end in .png, .jpg, .jpeg, .jpe"),
                                               HasSubstr("there or in folders below")));
  EXPECT_THAT(refusal(folder / "gone.png"), HasSubstr("is the name right?"));
  EXPECT_THAT(refusal("a red dress"), HasSubstr("Labels come behind --labels"));
}

}  // namespace
}  // namespace zero_shot
