#include "zero_shot/terminal.hpp"

#include <gtest/gtest.h>

namespace zero_shot {
namespace {

TEST(Bar, CountsEighthsOfAColumn) {
  EXPECT_EQ(bar(1, 4), "████");
  EXPECT_EQ(bar(0.5, 4), "██");
  EXPECT_EQ(bar(0.375, 4), "█▌");
  EXPECT_EQ(bar(2.0, 3), "███");
  for (int i = 0; i <= 1000; ++i) EXPECT_LE(columns(bar(i / 1000.0, 20)), 20) << i;
}

TEST(Bar, ShowsLittleAsASliverAndNothingAsNothing) {
  EXPECT_EQ(bar(1e-9, 10), "▏");
  EXPECT_EQ(bar(0, 10), "");
  EXPECT_EQ(bar(-1, 10), "");
  EXPECT_EQ(bar(std::nan(""), 10), "");
  EXPECT_EQ(bar(0.5, 0), "");
}

TEST(Printable, LeavesNoControlCharacter) {
  EXPECT_EQ(printable("a\033[31mb\n\x7f"), "a?[31mb??");
  EXPECT_EQ(printable("\xff\xc3"), "??");
  EXPECT_EQ(printable("schön 红 «»"), "schön 红 «»");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "?31m");  // the one-character form of an escape sequence
}

TEST(Columns, CountWhatATerminalShows) {
  EXPECT_EQ(columns("abc"), 3);
  EXPECT_EQ(columns("schön"), 5);
  EXPECT_EQ(columns("红色"), 4);
  EXPECT_EQ(columns("o\xcc\x88"), 1);  // o and a combining diaeresis
}

TEST(InColumns, FillsAndCuts) {
  EXPECT_EQ(in_columns("ab", 4), "ab  ");
  EXPECT_EQ(in_columns("abcd", 4), "abcd");
  EXPECT_EQ(in_columns("abcde", 4), "abc…");
  EXPECT_EQ(in_columns("红色的", 4), "红… ");  // half a wide character is no character
  EXPECT_EQ(columns(in_columns("红色的裙子", 8)), 8);
}

TEST(Percent, HasOneDigit) {
  EXPECT_EQ(percent(0.8125), "81.2 %");
  EXPECT_EQ(percent(1), "100.0 %");
  EXPECT_EQ(percent(0), "0.0 %");
  EXPECT_EQ(percent(0.0004), "< 0.1 %");
  EXPECT_EQ(percent(std::nan("")), "no number");
}

}  // namespace
}  // namespace zero_shot
