#include "zero_shot/saving.hpp"

#include <gmock/gmock.h>

#include "gatefold/io/safetensors_writer.hpp"
#include "stop_signals.hpp"
#include "tests/io/temporary_folder.hpp"
#include "zero_shot/file_sums.hpp"

namespace zero_shot {
namespace {

using gatefold::test::message_of;
using gatefold::test::write_text;
using ::testing::HasSubstr;

TEST(SaveClock, SavesSoOftenAndTakesATwentiethOfTheTime) {
  double now = 0;
  SaveClock clock({.every_seconds = 10, .clock = [&] { return now; }});
  int saved = 0;
  const auto at = [&](double time, double takes) {
    now = time;
    clock.save_if_due([&] { ++saved, now += takes; });
    return saved;
  };
  EXPECT_EQ(at(9, 0), 0);
  EXPECT_EQ(at(10, 0), 1);
  EXPECT_EQ(at(19, 0), 1);
  EXPECT_EQ(at(20, 5), 2);  // until 25; saving takes 5, so the next is due at 125
  EXPECT_EQ(at(124, 0), 2);
  EXPECT_EQ(at(125, 0), 3);
}

TEST(StopSignals, NotesTheFirstAndRestoresWhatWas) {
  const auto handler_of = [](int signal) {
    struct sigaction now {};
    ::sigaction(signal, nullptr, &now);
    return now.sa_handler;
  };
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    {
      const gatefold::StopSignals signals;
      EXPECT_FALSE(gatefold::StopSignals::came());
      EXPECT_NE(handler_of(signal), SIG_DFL);
      ::raise(signal);
      EXPECT_TRUE(gatefold::StopSignals::came());
      EXPECT_EQ(gatefold::StopSignals::signal(), signal);
      EXPECT_EQ(gatefold::StopSignals::exit_status(), 128 + signal);
      EXPECT_EQ(handler_of(signal), SIG_DFL);  // the second ends the program
    }
    EXPECT_EQ(handler_of(signal), SIG_DFL);
  }
  std::signal(SIGHUP, SIG_IGN);  // nohup
  {
    const gatefold::StopSignals signals;
    EXPECT_EQ(handler_of(SIGHUP), SIG_IGN);
  }
  std::signal(SIGHUP, SIG_DFL);
}

TEST(Saving, AsksFirstWhetherAFileCanBeWritten) {
  const gatefold::test::TemporaryFolder folder;
  write_text(folder / "old", "words");
  expect_writable(folder / "old", "the index");
  expect_writable(folder / "new", "the index");
  EXPECT_EQ(gatefold::test::read_text(folder / "old"), "words");
  EXPECT_EQ(folder.count(), 1);
  const auto refusal = [](const std::filesystem::path& path) {
    return message_of<gatefold::FormatError>([&] { expect_writable(path, "the index"); });
  };
  EXPECT_THAT(refusal(folder / "no" / "index"), HasSubstr("the index: create "));
  EXPECT_THAT(refusal(folder / ""), HasSubstr("is no file that could be replaced"));
}

TEST(Saving, TheLockIsOfOneWriterAndLeavesNothing) {
  const gatefold::test::TemporaryFolder folder;
  const int file = ::open((folder / "").c_str(), O_RDONLY | O_DIRECTORY);
  {
    const WriterLock lock(folder / "cache");
    EXPECT_NE(::flock(file, LOCK_EX | LOCK_NB), 0);
  }
  EXPECT_EQ(::flock(file, LOCK_EX | LOCK_NB), 0);
  ::close(file);
  EXPECT_EQ(folder.count(), 0);
}

TEST(FileSums, AreKeptInWhatDependsOnThem) {
  const gatefold::test::TemporaryFolder folder;
  const auto weights = folder / "weights", index = folder / "index";
  write_text(weights, std::string(600'000, 'w'));
  const auto keep = [&](const FileSums& sums) {
    gatefold::SafeTensorsWriter writer;
    writer.add_metadata(FileSums::kKey, sums.text());
    writer.write(index);
  };
  FileSums first;
  const auto sum = first.of(weights);
  gatefold::Checksum whole;
  const std::string bytes(600'000, 'w');
  whole.add(std::as_bytes(std::span(bytes)));
  EXPECT_EQ(sum, whole.value());
  keep(first);
  auto second = FileSums::kept_in(index);
  EXPECT_EQ(second.of(weights), sum);
  EXPECT_EQ(second.summed(), 0);
  EXPECT_EQ(second.text(), first.text());

  const auto time = std::filesystem::last_write_time(weights);
  write_text(weights, std::string(599'999, 'w') + "v");
  std::filesystem::last_write_time(weights, time);
  auto third = FileSums::kept_in(index);
  EXPECT_NE(third.of(weights), sum);
  EXPECT_EQ(third.summed(), 1);

  EXPECT_EQ(FileSums::kept_in(folder / "nothing").text(), "[]");
  gatefold::SafeTensorsWriter writer;
  writer.add_metadata(FileSums::kKey, R"([{"file": [1, 2], "sum": 3}])");
  writer.write(index);
  EXPECT_NE(FileSums::kept_in(index).of(weights), 3u);
}

TEST(FileSums, DoesNotWaitForAPipe) {
  const gatefold::test::TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THROW((void)sum_file(folder / "pipe"), std::system_error);
  EXPECT_THROW((void)sum_file(folder / ""), std::system_error);
  EXPECT_THROW((void)sum_file(folder / "nothing"), std::system_error);
}

}  // namespace
}  // namespace zero_shot
