#include "gatefold/core/read_file.hpp"

#include <gmock/gmock.h>

#include <thread>

#include "tests/io/temporary_folder.hpp"

namespace gatefold {
namespace {

using gatefold::test::message_of;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::HasSubstr;

std::string refusal(const std::filesystem::path& path, std::size_t most = 100) {
  return message_of<FormatError>([&] { (void)read_file<std::string>(path, most); });
}

TEST(ReadFile, GivesAllBytes) {
  const TemporaryFolder folder;
  const std::string text(300'000, 'x');
  write_text(folder / "a", text);
  EXPECT_EQ(read_file<std::string>(folder / "a", 300'000), text);
  EXPECT_EQ(read_file<std::vector<std::uint8_t>>(folder / "a", 400'000).size(), text.size());
  write_text(folder / "empty", "");
  EXPECT_EQ(read_file<std::string>(folder / "empty", 0), "");
  // Linux states a size of 0 for the files of /proc, which are not empty.
  EXPECT_GT(read_file<std::string>("/proc/self/status", 1 << 20).size(), 0u);
}

TEST(ReadFile, SaysWhyNot) {
  const TemporaryFolder folder;
  EXPECT_EQ(refusal(folder / "none"), (folder / "none").string() + ": cannot be read: No such file or directory");
  EXPECT_THAT(refusal(folder / "."), HasSubstr("Is a directory"));
  std::filesystem::create_symlink("loop", folder / "loop");
  EXPECT_THAT(refusal(folder / "loop"), HasSubstr("Too many levels of symbolic links"));
  write_text(folder / "a", std::string(101, 'x'));
  EXPECT_THAT(refusal(folder / "a"), HasSubstr("a: has 101 bytes, expected at most 100"));
}

TEST(ReadFile, DoesNotWaitForAPipeNorSwallowWhatHasNoEnd) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(refusal(folder / "pipe"), HasSubstr("a pipe that nobody writes into"));
  EXPECT_THAT(refusal("/dev/zero", 1 << 20), HasSubstr("has more than 1048576 bytes"));
}

TEST(ReadFile, TakesWhatAShellPipesIn) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::thread writer([end = ends[1]] {
    for (const char* word : {"cat\n", "dog\n"}) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      EXPECT_EQ(::write(end, word, 4), 4);
    }
    ::close(end);
  });
  EXPECT_EQ(read_file<std::string>("/proc/self/fd/" + std::to_string(ends[0]), 100), "cat\ndog\n");
  writer.join();
  ::close(ends[0]);
}

TEST(ReadFile, NoticesAnErrorHalfWay) {
  // A descriptor that cannot be read stands for a disk that fails.
  const TemporaryFolder folder;
  const int file = ::open((folder / "a").c_str(), O_WRONLY | O_CREAT, 0600);
  EXPECT_THAT(message_of<FormatError>([&] { (void)read_descriptor<std::string>(file, "labels", 100); }),
              HasSubstr("labels: cannot be read: Bad file descriptor"));
  ::close(file);
}

}  // namespace
}  // namespace gatefold
