#include "training/run_folder.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/io/temporary_folder.hpp"

namespace training {
namespace {

using gatefold::FormatError;
using gatefold::test::message_of;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Use = RunFolder::Use;

std::string refusal(const std::filesystem::path& path, Use use) {
  return message_of<FormatError>([&] { RunFolder(path, use); });
}

TEST(RunFolder, ThatHoldsARunIsRefusedUnlessItIsAskedFor) {
  const TemporaryFolder folder;
  for (const char* name : {RunFolder::kCheckpoint, RunFolder::kModel}) {
    std::filesystem::create_directory(folder / "run");
    write_text(folder / "run" / name, "precious");
    EXPECT_THAT(refusal(folder / "run", Use::begin),
                AllOf(HasSubstr(name), HasSubstr("--resume"), HasSubstr("--out"), HasSubstr("--overwrite")));
    {
      const RunFolder taken(folder / "run", Use::overwrite);
      EXPECT_TRUE(std::filesystem::exists(taken / name));  // until there is something to replace it
      taken.remove_run();
      EXPECT_FALSE(std::filesystem::exists(taken / name));
    }
    EXPECT_EQ(refusal(folder / "run", Use::begin), "nothing thrown");
    std::filesystem::remove_all(folder / "run");
  }
}

TEST(RunFolder, OverwritingLeavesWhatIsNoRuns) {
  const TemporaryFolder folder;
  for (const char* name : {"run.safetensors", "metrics.csv", "report.md", "summary.json", "notes.txt"})
    write_text(folder / name, "x");
  RunFolder(folder / "", Use::overwrite).remove_run();
  EXPECT_EQ(folder.count(), 1);
  EXPECT_TRUE(std::filesystem::exists(folder / "notes.txt"));
}

TEST(RunFolder, WithoutARunThereIsNothingToGoOnWith) {
  const TemporaryFolder folder;
  EXPECT_THAT(refusal(folder / "nosuch", Use::resume), AllOf(HasSubstr("holds no run"), HasSubstr("--out")));
  EXPECT_THAT(refusal(folder / "", Use::resume), HasSubstr("no run.safetensors"));
  EXPECT_EQ(folder.count(), 0);
}

TEST(RunFolder, IsOneTrainersAlone) {
  const TemporaryFolder folder;
  {
    const RunFolder mine(folder / "run", Use::begin);
    for (const auto use : {Use::begin, Use::overwrite, Use::resume})
      EXPECT_THAT(refusal(folder / "run", use), HasSubstr("where another process trains"));
    EXPECT_THAT(refusal(folder / "run", Use::begin), HasSubstr("(its number is " + std::to_string(::getpid()) + ")"));
  }
  EXPECT_EQ(refusal(folder / "run", Use::begin), "nothing thrown");
}

TEST(RunFolder, NothingIsLeftOfAnAttempt) {
  const TemporaryFolder folder;
  { const RunFolder made(folder / "run", Use::begin); }
  EXPECT_EQ(folder.count(), 0);
  std::filesystem::create_directory(folder / "was here");
  { const RunFolder found(folder / "was here", Use::begin); }
  EXPECT_EQ(folder.count(), 1);
}

TEST(RunFolder, TheOwnerIsReadFromTheKernelsList) {
  const auto owner = [](const std::string& text) {
    std::istringstream lines(text);
    return detail::owner_of_lock(4711, lines);
  };
  EXPECT_EQ(owner("1: POSIX  ADVISORY  WRITE 5 fe:01:4711 0 EOF\n"
                  "2: FLOCK  ADVISORY  WRITE 6 fe:01:14711 0 EOF\n"
                  "2: -> FLOCK  ADVISORY  WRITE 7 fe:01:4711 0 EOF\n"
                  "3: FLOCK  ADVISORY  WRITE 8 fe:01:4711 0 EOF\n"),
            8);
  EXPECT_EQ(owner("1: FLOCK  ADVISORY  WRITE 0 fe:01:4711 0 EOF\n"), std::nullopt);  // of another container
  EXPECT_EQ(owner(""), std::nullopt);
}

}  // namespace
}  // namespace training
