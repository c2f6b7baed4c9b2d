#include "zero_shot/print.hpp"

#include <gmock/gmock.h>

#include <sstream>

#include "tests/zero_shot/tiny_reader.hpp"

namespace zero_shot {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string printed(const Reading& reading, const PrintOptions& options) {
  std::ostringstream out;
  print(out, reading, options);
  return out.str();
}

TEST(Print, FitsTheTerminalAndHoldsNoEscapes) {
  Reader reader = tiny::reader();
  Reading reading = tiny::plan(2,
                               {"a pink bag", "a blue bag", "a zebra", "\033[2J",
                                "a label that is a good deal longer than any line can hold, and on"},
                               reader);
  reading.pictures[0].name = std::string(200, 'n') + ".png";
  gatefold::Context ctx;
  read(reading, reader, ctx);
  reading.pictures[1].ranked[1].probability = std::nan("");
  reading.unread.push_back({std::string(200, 'u'), "", 1});
  for (const Index width : {40, 60, 80}) {
    std::istringstream lines(printed(reading, {.terminal = {.width = width}, .top = 10}));
    for (std::string line; std::getline(lines, line);) {
      EXPECT_LE(columns(line), width) << line;
      EXPECT_EQ(line, printable(line));
    }
  }
  const std::string text = printed(reading, {.top = 10});
  EXPECT_THAT(text, HasSubstr("…\n  cannot be read\n\n✗ picture 1"));
  EXPECT_THAT(text, HasSubstr("never seen"));
  EXPECT_THAT(text, HasSubstr("no number"));
  EXPECT_THAT(text, HasSubstr("Some labels are longer"));
  EXPECT_THAT(text, HasSubstr("of 2 pictures are named right (guessing: 0.4)"));
}

TEST(Print, OfOneLabelFillsTheBar) {
  Reader reader = tiny::reader();
  Reading reading = tiny::plan(1, {"a blue bag"}, reader);
  gatefold::Context ctx;
  read(reading, reader, ctx);
  const std::string text = printed(reading, {});
  EXPECT_THAT(text, HasSubstr("100.0 %  seen"));
  EXPECT_THAT(text, HasSubstr("1 label\n"));
  EXPECT_THAT(text, Not(HasSubstr("other")));
}

TEST(Print, ShowsTheRightLabelWhereverItRanks) {
  Reader reader = tiny::reader();
  Reading reading = tiny::plan(1, {"a pink bag", "a blue bag", "a red bag"}, reader);
  gatefold::Context ctx;
  read(reading, reader, ctx);
  reading.pictures[0].expected = reading.pictures[0].ranked.back().label;
  const std::string right = reading.labels[static_cast<std::size_t>(*reading.pictures[0].expected)].text;
  const std::string text = printed(reading, {.top = 1});
  EXPECT_THAT(text, HasSubstr("→ " + right));
  EXPECT_THAT(text, HasSubstr("1 other "));
  EXPECT_THAT(text, HasSubstr("✗ picture 0"));
}

}  // namespace
}  // namespace zero_shot
