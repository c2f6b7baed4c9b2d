#include "gatefold/train/metrics.hpp"

#include <gtest/gtest.h>

#include <sstream>

#include "gatefold/core/random.hpp"

namespace gatefold {
namespace {

class CsvWriterTest : public testing::Test {
 protected:
  std::filesystem::path path_ =
      std::filesystem::path(testing::TempDir()) /
      (std::string("gatefold_") + testing::UnitTest::GetInstance()->current_test_info()->name() + ".csv");
  CsvWriterTest() { std::filesystem::remove(path_); }
  ~CsvWriterTest() override { std::filesystem::remove(path_); }

  std::string text() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
};

TEST_F(CsvWriterTest, HeaderOnceAndAppendOnResume) {
  {
    CsvWriter csv(path_, {"step", "loss"});
    csv.write({0, 2.5});
    EXPECT_EQ(text(), "step,loss\n0,2.5\n");  // there at once, not at the end
  }
  CsvWriter csv(path_, {"step", "loss"});
  csv.write({1000000, 0.1});
  EXPECT_EQ(text(), "step,loss\n0,2.5\n1000000,0.1\n");
}

TEST_F(CsvWriterTest, DoublesReadBackToTheBit) {
  std::vector<double> values{
      0, -0.0, 1.0 / 3, 1e300, 5e-324, std::numeric_limits<double>::max(), 123456789012345678.0, -1e15, 0.1};
  Rng rng(1);
  for (int i = 0; i < 300; ++i) values.push_back(std::ldexp(rng.normal(), static_cast<int>(rng.below(200)) - 100));
  {
    CsvWriter csv(path_, {"x"});
    for (const double x : values) csv.write({x});
  }
  std::istringstream lines(text());
  std::string line;
  std::getline(lines, line);
  for (const double x : values) {
    ASSERT_TRUE(std::getline(lines, line));
    const double back = std::strtod(line.c_str(), nullptr);
    EXPECT_EQ(std::bit_cast<std::uint64_t>(back), std::bit_cast<std::uint64_t>(x)) << line;
  }
}

TEST_F(CsvWriterTest, NotFinite) {
  const double inf = std::numeric_limits<double>::infinity();
  CsvWriter(path_, {"a", "b", "c"}).write({std::numeric_limits<double>::quiet_NaN(), inf, -inf});
  EXPECT_EQ(text(), "a,b,c\nnan,inf,-inf\n");
}

TEST_F(CsvWriterTest, CutsTheHalfLineOfACrash) {
  std::ofstream(path_, std::ios::binary) << "step,loss\n1,2\n2,3.1";
  CsvWriter(path_, {"step", "loss"}).write({2, 3.14});
  EXPECT_EQ(text(), "step,loss\n1,2\n2,3.14\n");
  std::ofstream(path_, std::ios::binary) << "step,lo";
  CsvWriter(path_, {"step", "loss"}).write({1, 2});
  EXPECT_EQ(text(), "step,loss\n1,2\n");
}

TEST_F(CsvWriterTest, CutsWhatALaterStepHadWritten) {
  {
    CsvWriter csv(path_, {"step", "loss"}, 0.0);
    EXPECT_TRUE(csv.last_row().empty());
    csv.write({1, 2.5}), csv.write({2, std::numeric_limits<double>::quiet_NaN()}), csv.write({3, 1.5});
  }
  std::ofstream(path_, std::ios::binary | std::ios::app) << "4,1.2";
  {
    CsvWriter csv(path_, {"step", "loss"}, 2.0);
    ASSERT_EQ(csv.last_row().size(), 2u);
    EXPECT_EQ(csv.last_row()[0], 2);
    EXPECT_TRUE(std::isnan(csv.last_row()[1]));
    csv.write({3, 1.25});
  }
  EXPECT_EQ(text(), "step,loss\n1,2.5\n2,nan\n3,1.25\n");
  EXPECT_EQ(CsvWriter(path_, {"step", "loss"}, 7.0).last_row(), (std::vector<double>{3, 1.25}));
  EXPECT_EQ(text(), "step,loss\n1,2.5\n2,nan\n3,1.25\n");
  CsvWriter(path_, {"step", "loss"}, 0.0);
  EXPECT_EQ(text(), "step,loss\n");
}

TEST_F(CsvWriterTest, LeavesWhatIsNoTableOfOurs) {
  for (const std::string other :
       {"dear diary", "dear diary\n", "step,loss\n1,2,3\n", "step,loss\n1\n", "step,loss\n1,\n", "step,loss\n\n",
        "step,loss\n1,x\n", "step,loss\n1 ,2\n", "step,loss\n,2\n"}) {
    std::ofstream(path_, std::ios::binary) << other;
    EXPECT_THROW(CsvWriter(path_, {"step", "loss"}, 9.0), FormatError) << other;
    EXPECT_EQ(text(), other);
  }
}

TEST_F(CsvWriterTest, RefusesWhatDoesNotFit) {
  EXPECT_THROW(CsvWriter(path_, {}), OptionError);
  EXPECT_THROW(CsvWriter(path_, {"a,b"}), OptionError);
  EXPECT_THROW(CsvWriter(path_ / "no" / "such" / "folder", {"a"}), std::system_error);
  CsvWriter csv(path_, {"step", "loss"});
  EXPECT_THROW(csv.write({1}), ShapeError);
  EXPECT_THROW(CsvWriter(path_, {"step", "accuracy"}), FormatError);
  EXPECT_EQ(text(), "step,loss\n");
}

TEST(Ema, StartsAtTheFirstValueAndForgets) {
  Ema ema{.decay = 0.5};
  EXPECT_TRUE(std::isnan(ema.value()));
  EXPECT_DOUBLE_EQ(ema.update(8), 8);
  EXPECT_DOUBLE_EQ(ema.update(2), 4);  // (8/2 + 2) / (1 + 1/2)
  EXPECT_DOUBLE_EQ(ema.update(std::numeric_limits<double>::quiet_NaN()), 4);
  for (int i = 0; i < 100; ++i) ema.update(3);
  EXPECT_DOUBLE_EQ(ema.value(), 3);
}

TEST(Ema, RefusesADecayThatForgetsNothing) {
  for (const double decay : {1.0, -0.1, std::numeric_limits<double>::quiet_NaN()}) {
    Ema ema{.decay = decay};
    EXPECT_THROW(ema.update(1), OptionError);
  }
}

}  // namespace
}  // namespace gatefold
