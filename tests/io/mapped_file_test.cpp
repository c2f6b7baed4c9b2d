#include "gatefold/io/mapped_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/io/temporary_folder.hpp"

namespace gatefold::mapped_file_test {
namespace {

using ::testing::HasSubstr;
using test::message_of;

std::string text(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

static_assert(!std::is_copy_constructible_v<MappedFile> && std::is_nothrow_move_constructible_v<MappedFile>);

TEST(MappedFile, ShowsTheBytesOfTheFile) {
  test::TemporaryFolder folder;
  std::string content(10000, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 37);
  test::write_text(folder / "file", content);
  EXPECT_EQ(text(MappedFile(folder / "file")), content);
}

TEST(MappedFile, AnEmptyFileIsFine) {
  test::TemporaryFolder folder;
  test::write_text(folder / "file", "");
  EXPECT_TRUE(MappedFile(folder / "file").bytes().empty());
}

TEST(MappedFile, NobodyCanTakeASmallFileAway) {
  test::TemporaryFolder folder;
  test::write_text(folder / "file", "as it was");
  const MappedFile file(folder / "file");
  test::write_text(folder / "file", "");  // in place, where a page of a mapping would be gone
  file.forget(file.bytes());
  EXPECT_EQ(text(file), "as it was");
}

TEST(MappedFile, LargeFilesAreNotCopied) {
  test::TemporaryFolder folder;
  const std::string content(MappedFile::kCopied + 1, 'x');
  test::write_text(folder / "file", content);
  const MappedFile file(folder / "file");
  EXPECT_EQ(text(file), content);
  file.forget(file.bytes());
  EXPECT_EQ(text(file), content);
}

TEST(MappedFile, MovingKeepsTheAddress) {
  test::TemporaryFolder folder;
  test::write_text(folder / "a", "alpha");
  test::write_text(folder / "b", "beta");
  MappedFile a(folder / "a");
  const auto* const data = a.bytes().data();
  MappedFile moved = std::move(a);
  EXPECT_EQ(moved.bytes().data(), data);
  EXPECT_TRUE(a.bytes().empty());  // NOLINT(bugprone-use-after-move): a moved-from map is an empty one
  MappedFile b(folder / "b");
  b = std::move(moved);
  EXPECT_EQ(text(b), "alpha");
  EXPECT_EQ(b.path().filename(), "a");
}

TEST(MappedFile, SurvivesTheRemovalOfTheName) {
  test::TemporaryFolder folder;
  test::write_text(folder / "file", "still here");
  const MappedFile file(folder / "file");
  std::filesystem::remove(folder / "file");
  EXPECT_EQ(text(file), "still here");
}

TEST(MappedFile, ErrorsNameThePathAndTheReason) {
  test::TemporaryFolder folder;
  const auto missing = message_of<std::system_error>([&] { MappedFile file(folder / "absent.safetensors"); });
  EXPECT_THAT(missing, HasSubstr((folder / "absent.safetensors").string()));
  EXPECT_THAT(missing, HasSubstr("No such file or directory"));
  std::filesystem::create_directory(folder / "folder");
  EXPECT_THAT(message_of<std::system_error>([&] { MappedFile file(folder / "folder"); }), HasSubstr("Is a directory"));
}

TEST(MappedFile, RefusesAPipeInsteadOfWaitingForIt) {
  test::TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THROW(MappedFile(folder / "pipe"), std::system_error);
}

}  // namespace
}  // namespace gatefold::mapped_file_test
