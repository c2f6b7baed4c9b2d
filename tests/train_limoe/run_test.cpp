#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gatefold/module/ops.hpp"
#include "tests/io/damage.hpp"
#include "tests/wardrobe/fake_photos.hpp"
#include "train_limoe/results.hpp"
#include "train_limoe/training.hpp"

namespace train_limoe {
namespace {

using gatefold::CheckpointReader;
using gatefold::FormatError;
using gatefold::test::message_of;
using gatefold::test::read_text;
using gatefold::test::TemporaryFolder;
using gatefold::test::write_text;
using ::testing::AllOf;
using ::testing::HasSubstr;

using TrainingRun = Run;  // GoogleTest has a Run of its own

const wardrobe::FashionMnist& data() {
  static const wardrobe::FashionMnist photos{wardrobe::fake::photos(), wardrobe::fake::photos()};
  return photos;
}

Settings tiny() {
  Settings s;
  s.width = 16, s.hidden = 16, s.heads = 2, s.layers = 2, s.experts = 4, s.patch = 16, s.embedding = 8;
  s.batch = 4, s.steps = 9, s.warmup = 2;
  return s;
}

/// A checkpoint in which the text `from` is `to`, of any length, as a hostile hand would make it: its checksum is
/// right.
void replace(const std::filesystem::path& path, const std::string& from, const std::string& to) {
  auto text = read_text(path);
  const auto at = text.find(from);
  ASSERT_NE(at, text.npos) << from;
  text.replace(at, from.size(), to);
  std::uint64_t length = 0;
  std::memcpy(&length, text.data(), sizeof length);
  length += to.size() - from.size();
  std::memcpy(text.data(), &length, sizeof length);
  write_text(path, gatefold::test::with_checksum(text));
}

class RunTest : public testing::Test {
 protected:
  RunTest() {
    TrainingRun run(tiny(), 1, data());
    run.advance(), run.advance(), run.advance();
    run.save(path_, 0);
  }
  std::string refusal() const {
    return message_of<FormatError>([&] { TrainingRun(CheckpointReader(path_), 1, data()); });
  }
  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "run.safetensors";
};

TEST_F(RunTest, GoesOnFromACheckpointToTheSameBytes) {
  TrainingRun straight(tiny(), 1, data());
  while (straight.step < 5) straight.advance();
  straight.save(folder_ / "straight", 0);
  TrainingRun resumed(CheckpointReader(path_), 2, data());
  EXPECT_EQ(resumed.step, 3);
  while (resumed.step < 5) resumed.advance();
  resumed.save(folder_ / "resumed", 0);
  EXPECT_EQ(read_text(folder_ / "resumed"), read_text(folder_ / "straight"));
}

TEST_F(RunTest, EveryFlippedBitIsNoticed) {
  EXPECT_EQ(gatefold::test::unnoticed_flips(path_, 200, [](const auto& path) { CheckpointReader{path}; }), 0);
}

TEST_F(RunTest, HostileCheckpointsAreRefusedWithTheFilesName) {
  const auto whole = read_text(path_);
  for (const auto& [from, to, why] : std::vector<std::array<std::string, 3>>{
           {"\\\"layers\\\":2", "\\\"layers\\\":1000000000", "«layers» is 1000000000"},
           {"\\\"experts\\\":4", "\\\"experts\\\":2", "«min_image_experts» is 4, expected 1 to «experts», 2"},
           {"\\\"heads\\\":2", "\\\"heads\\\":3", "settings: "},   // no divisor of the width
           {"\\\"patch\\\":16", "\\\"patch\\\":7", "settings: "},  // nor this of the picture
           {"\\\"width\\\":16", "\\\"width\\\":32", "does not fit the module"},
           {"\\\"layers\\\":2", "\\\"layers\\\":256", "does not fit the module"},
           {"\\\"hidden\\\":16", "\\\"hidden\\\":65536", "does not fit the module"},
           {"\\\"hidden\\\":16,\\\"layers\\\":2", "\\\"hidden\\\":65536,\\\"layers\\\":256",
            "asks for more than the file"},
           {"\"step\":\"3\"", "\"step\":\"-1\"", "«step» is -1"},
           {"\"step\":\"3\"", "\"step\":\"10\"", "«step» is 10"},
           {"\"step\":\"3\"", "\"step\":\"x\"", "'step' came as 'x'"},
           {"\"settings\":\"{", "\"settings\":\"[{", "settings: is not a JSON object"}}) {
    write_text(path_, whole);
    replace(path_, from, to);
    EXPECT_THAT(refusal(), AllOf(HasSubstr(path_.string()), HasSubstr(why))) << from;
  }
}

TEST_F(RunTest, WeightsThatAreNoNumbersAreNotTrainedOn) {
  auto text = read_text(path_);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(&text[text.size() - sizeof nan], &nan, sizeof nan);
  write_text(path_, gatefold::test::with_checksum(text));
  EXPECT_THAT(refusal(), HasSubstr("holds NaN or infinity"));
}

TEST_F(RunTest, MinutesThatWereMeantAreKept) {
  EXPECT_EQ(TrainingRun::minutes_of(CheckpointReader(path_)), 0);
  const TrainingRun run(CheckpointReader(path_), 1, data());
  run.save(path_, 2.5);
  EXPECT_EQ(TrainingRun::minutes_of(CheckpointReader(path_)), 2.5);
  for (const char* bad : {"-1", "nan", "1e300", "2.5x", "two"}) {
    run.save(path_, 2.5);
    replace(path_, "\"minutes\":\"2.5\"", "\"minutes\":\"" + std::string(bad) + "\"");
    EXPECT_THAT(message_of<FormatError>([&] { (void)TrainingRun::minutes_of(CheckpointReader(path_)); }),
                HasSubstr("«minutes» is '" + std::string(bad) + "'"));
  }
}

TEST_F(RunTest, AGradientThatIsNotFiniteChangesNothing) {
  TrainingRun run(CheckpointReader(path_), 1, data());
  run.model.log_temperature.flat()[0] = 1e30f;  // finite, and its exponential is not
  const auto before = run.model;
  const auto result = run.advance();
  EXPECT_TRUE(result.skipped);
  EXPECT_TRUE(result.finite);
  gatefold::for_each_param([](std::string_view at, const auto& a, const auto& b) { EXPECT_EQ(a, b) << at; }, run.model,
                           before);
  run.model.log_temperature.flat()[0] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(run.advance().finite);
}

TEST_F(RunTest, AModelIsPublishedOnlyIfItAnswersAsItShould) {
  TrainingRun run(CheckpointReader(path_), 1, data());
  const auto model = folder_ / "model.safetensors";
  publish(run, data(), model);
  EXPECT_EQ(folder_.count(), 2);
  EXPECT_EQ(load_verified(model, run.ctx).card.at("pairs"), "12");
  const auto good = read_text(model);
  run.model.image_projection.weight.flat()[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(message_of<FormatError>([&] { publish(run, data(), model); }), HasSubstr("holds NaN or infinity"));
  EXPECT_EQ(read_text(model), good);
  EXPECT_EQ(folder_.count(), 2);
}

TEST_F(RunTest, ARunThatDivergesStopsAndKeepsItsCheckpoint) {
  TrainingRun run(CheckpointReader(path_), 1, data());
  const auto good = read_text(path_);
  run.model.log_temperature.flat()[0] = 1e30f;
  training::LoopOptions args;
  args.save_every = 1, args.max_skipped = 3;
  const training::RunFolder folder(folder_ / "", training::RunFolder::Use::resume);
  EXPECT_THAT(message_of<FormatError>([&] { (void)train(run, folder, args); }),
              AllOf(HasSubstr("step 6: the gradient has not been finite for 3 steps in a row"),
                    HasSubstr("the checkpoint of step 3 is as it was")));
  EXPECT_EQ(read_text(path_), good);
  // Nor does the end of the run come to its rescue.
  args.max_skipped = 100;
  EXPECT_THAT(message_of<FormatError>([&] { (void)train(run, folder, args); }), HasSubstr("the run has diverged"));
  EXPECT_EQ(read_text(path_), good);
}

TEST_F(RunTest, MetricsGoOnBehindTheStepThatIsResumed) {
  const training::RunFolder folder(folder_ / "", training::RunFolder::Use::resume);
  training::LoopOptions args;
  args.log_every = 1, args.save_every = 100;
  const auto rows = [&] {
    std::vector<std::string> all;
    std::istringstream lines(read_text(folder / training::RunFolder::kMetrics));
    for (std::string line; std::getline(lines, line);) all.push_back(line.substr(0, line.find(',')));
    return all;
  };
  for (int time = 0; time < 2; ++time) {  // the second as after a kill at the end of the first
    TrainingRun run(CheckpointReader(path_), 1, data());
    const auto checkpoint = read_text(path_);
    EXPECT_EQ(train(run, folder, args), 0);
    EXPECT_EQ(rows(), (std::vector<std::string>{"step", "4", "5", "6", "7", "8", "9"}));
    write_text(path_, checkpoint);
  }
}

}  // namespace
}  // namespace train_limoe
