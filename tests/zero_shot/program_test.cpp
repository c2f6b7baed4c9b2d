#include "program.hpp"

#include <gmock/gmock.h>

#include "gatefold/io/mapped_file.hpp"
#include "tests/io/temporary_folder.hpp"

namespace gatefold {
namespace {

using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

TEST(Program, EndsWithTheStatusOfItsWork) {
  EXPECT_EQ(run_program(
                "x", [](int argc, char**) { return argc; }, 3, nullptr),
            3);
}

TEST(Program, SaysWhatWentWrong) {
  CaptureStderr();
  EXPECT_EQ(run_program(
                "x", [](int, char**) -> int { throw FormatError("a.png: is no picture"); }, 0, nullptr),
            1);
  EXPECT_EQ(GetCapturedStderr(), "x: a.png: is no picture\n");
}

TEST(Program, SaysItInCharactersThatDoNothingToATerminal) {
  CaptureStderr();
  (void)run_program(
      "x", [](int, char**) -> int { throw FormatError("vocab.json: «\033]0;OWNED\007\u202egnp»"); }, 0, nullptr);
  EXPECT_EQ(GetCapturedStderr(), "x: vocab.json: «?]0;OWNED??gnp»\n");
}

TEST(Program, KeepsTheLinesOfAdvice) {
  CaptureStderr();
  (void)run_program(
      "x", [](int, char**) -> int { throw FormatError("is no model\nGet \033one:\n  hf download"); }, 0, nullptr);
  EXPECT_EQ(GetCapturedStderr(), "x: is no model\nGet ?one:\n  hf download\n");
}

TEST(Program, WrapsItsMessagesWhereAWidthIsTold) {
  const std::string what = "a.png: is no picture that is known; give others\n  a command that is to be copied as it is";
  ::unsetenv("COLUMNS");
  EXPECT_EQ(message(what), what + "\n");  // a pipe
  ::setenv("COLUMNS", "40", 1);
  EXPECT_EQ(message(what),
            "a.png: is no picture that is known; give\nothers\n  a command that is to be copied as it is\n");
  ::unsetenv("COLUMNS");
}

TEST(Program, SaysWhatToDoWithoutMemory) {
  CaptureStderr();
  EXPECT_EQ(run_program(
                "x", [](int, char**) -> int { throw std::bad_alloc(); }, 0, nullptr),
            kFailed);
  EXPECT_THAT(GetCapturedStderr(), ::testing::HasSubstr("not enough memory for this; fewer --threads"));
}

TEST(Program, AMisuseHasAStatusOfItsOwn) {
  CaptureStderr();
  EXPECT_EQ(run_program(
                "x", [](int, char**) -> int { throw UsageError("--top: is 0"); }, 0, nullptr),
            2);
  EXPECT_EQ(GetCapturedStderr(), "x: --top: is 0\n");
}

TEST(ProgramDeathTest, SaysThatAFileWasShortenedWhileItWasRead) {
  const test::TemporaryFolder folder;
  test::write_text(folder / "model", std::string(MappedFile::kCopied + 100'000, 'x'));
  static std::filesystem::path path;
  path = folder / "model";
  const auto work = [](int, char**) -> int {
    const MappedFile file(path);
    std::filesystem::resize_file(path, 0);
    const volatile std::byte& touched = file.bytes()[MappedFile::kCopied];  // which no compiler may leave out
    return static_cast<int>(touched);
  };
  EXPECT_EXIT((void)run_program("x", work, 0, nullptr), ::testing::ExitedWithCode(1),
              "a file was shortened or replaced while it was read");
}

TEST(Program, FailsWhenNotAllCouldBePrinted) {
  CaptureStderr();
  std::cout.setstate(std::ios::badbit);  // as a full disk does
  EXPECT_EQ(run_program(
                "x", [](int, char**) { return 0; }, 0, nullptr),
            1);
  std::cout.clear();
  EXPECT_THAT(GetCapturedStderr(), ::testing::HasSubstr("could not be written"));
}

}  // namespace
}  // namespace gatefold
