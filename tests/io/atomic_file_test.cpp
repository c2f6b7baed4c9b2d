#include "gatefold/io/atomic_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/io/temporary_folder.hpp"

namespace gatefold::atomic_file_test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using test::message_of;
using test::read_text;

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

/// Writes beyond this size fail, as on a full disk (EFBIG instead of ENOSPC).
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t size_bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{size_bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_{};
  void (*handler_)(int);
};

TEST(AtomicFile, AppearsOnlyWithCommit) {
  test::TemporaryFolder folder;
  {
    AtomicFile file(folder / "file");
    file.write(bytes("one "));
    file.write(bytes("two"));
    EXPECT_FALSE(std::filesystem::exists(folder / "file"));
    file.commit();
    EXPECT_EQ(read_text(folder / "file"), "one two");
  }
  EXPECT_EQ(read_text(folder / "file"), "one two");
  EXPECT_EQ(folder.count(), 1);
}

TEST(AtomicFile, WithoutCommitTheOldFileStaysAndNothingIsLeftBehind) {
  test::TemporaryFolder folder;
  test::write_text(folder / "file", "old");
  { AtomicFile(folder / "file").write(bytes("new")); }
  EXPECT_EQ(read_text(folder / "file"), "old");
  EXPECT_EQ(folder.count(), 1);
}

TEST(AtomicFile, TheOldFileSurvivesAFullDisk) {
  test::TemporaryFolder folder;
  test::write_text(folder / "file", "old");
  const auto message = message_of<std::system_error>([&] {
    const FileSizeLimit limit(4096);
    AtomicFile file(folder / "file");
    file.write(bytes(std::string(10000, 'x')));
    file.commit();
  });
  EXPECT_THAT(message, AllOf(HasSubstr("write " + (folder / "file").string()), HasSubstr("File too large")));
  EXPECT_EQ(read_text(folder / "file"), "old");
  EXPECT_EQ(folder.count(), 1);
}

TEST(AtomicFile, OverwritesInTheMiddleAndGoesOnAtTheEnd) {
  test::TemporaryFolder folder;
  AtomicFile file(folder / "file");
  file.write(bytes("one two"));
  file.overwrite(1, bytes("NE T"));
  file.write(bytes(" three"));
  file.commit();
  EXPECT_EQ(read_text(folder / "file"), "oNE Two three");
}

/// A process that writes, waits in the middle, and is killed there.
class Writer {
 public:
  explicit Writer(const std::filesystem::path& path) {
    int ready[2];
    if (::pipe(ready) != 0) throw std::runtime_error("pipe");
    child_ = ::fork();
    if (child_ == 0) {
      AtomicFile file(path);
      file.write(bytes("half"));
      (void)!::write(ready[1], "x", 1);
      for (;;) ::pause();
    }
    char x;
    (void)!::read(ready[0], &x, 1);
    ::close(ready[0]), ::close(ready[1]);
  }
  ~Writer() { kill(); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void kill() {
    if (child_ < 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(std::exchange(child_, -1), nullptr, 0);
  }

 private:
  pid_t child_;
};

TEST(AtomicFile, RemovesWhatKilledWritersLeft) {
  test::TemporaryFolder folder;
  Writer one(folder / "file"), two(folder / "file");
  EXPECT_EQ(folder.count(), 2);
  one.kill();
  AtomicFile file(folder / "file");  // `two` is alive
  EXPECT_EQ(folder.count(), 2);
  two.kill();
  file.write(bytes("whole"));
  file.commit();
  EXPECT_EQ(folder.count(), 2);
  AtomicFile(folder / "file").commit();
  EXPECT_EQ(folder.count(), 1);
}

TEST(AtomicFile, NumbersOfProcessesSayNothing) {
  test::TemporaryFolder folder;
  // Of a process that lives, but is no longer the writer.
  test::write_text(folder / ("file.tmp-" + std::to_string(::getppid()) + "-0"), "left");
  test::write_text(folder / ("file.tmp-" + std::to_string(::getpid()) + "-0"), "left");
  // Neither of this name nor one of ours.
  for (const char* name : {"other.tmp-7-0", "file.tmp-copy", "file.tmp-7-0.bak", "myfile.tmp-7-0"})
    test::write_text(folder / name, "mine");
  std::filesystem::create_directory(folder / "file.tmp-8-0");
  std::filesystem::create_symlink("other.tmp-7-0", folder / "file.tmp-9-0");
  AtomicFile(folder / "file").commit();
  EXPECT_EQ(folder.count(), 7);
  EXPECT_EQ(read_text(folder / "other.tmp-7-0"), "mine");
}

TEST(AtomicFile, TextsAndRenamedFilesReplaceWhatWasThere) {
  test::TemporaryFolder folder;
  write_file(folder / "file", "a text");
  EXPECT_EQ(read_text(folder / "file"), "a text");
  write_file(folder / "other", "another");
  replace_file(folder / "other", folder / "file");
  EXPECT_EQ(read_text(folder / "file"), "another");
  EXPECT_EQ(folder.count(), 1);
  EXPECT_THAT(message_of<std::system_error>([&] { replace_file(folder / "absent", folder / "file"); }),
              HasSubstr("replace " + (folder / "file").string()));
}

TEST(AtomicFile, ErrorsNameThePathAndTheReason) {
  test::TemporaryFolder folder;
  EXPECT_THAT(message_of<std::system_error>([&] { AtomicFile file(folder / "absent" / "file"); }),
              AllOf(HasSubstr("absent/file"), HasSubstr("No such file or directory")));
  std::filesystem::create_directory(folder / "folder");
  EXPECT_THAT(message_of<std::system_error>([&] { AtomicFile(folder / "folder").commit(); }),
              AllOf(HasSubstr("replace"), HasSubstr("Is a directory")));
  EXPECT_EQ(folder.count(), 1);
}

TEST(AtomicFile, KeepsThePermissionsOfTheFileItReplaces) {
  test::TemporaryFolder folder;
  test::write_text(folder / "file", "secret");
  std::filesystem::permissions(folder / "file", std::filesystem::perms::owner_read);
  AtomicFile file(folder / "file");
  file.write(bytes("new secret"));
  file.commit();
  EXPECT_EQ(std::filesystem::status(folder / "file").permissions(), std::filesystem::perms::owner_read);
}

TEST(AtomicFile, TwoWritersOfOneNameDoNotMix) {
  test::TemporaryFolder folder;
  AtomicFile a(folder / "file"), b(folder / "file");
  a.write(bytes("aaaa"));
  b.write(bytes("bb"));
  b.commit();
  EXPECT_EQ(read_text(folder / "file"), "bb");
  a.commit();
  EXPECT_EQ(read_text(folder / "file"), "aaaa");
}

}  // namespace
}  // namespace gatefold::atomic_file_test
