#include "zero_shot/terminal.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>

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

TEST(Printable, TakesOutWhatTurnsTheTextAndKeepsWhatJoinsIt) {
  EXPECT_EQ(printable("photo\u202egnp.exe"), "photo?gnp.exe");
  EXPECT_EQ(printable("\u2067a\u2069\u200f\ufeff"), "?a???");
  EXPECT_EQ(printable("\U0001F468\u200d\U0001F469 \u0646\u200c\u0647"),
            "\U0001F468\u200d\U0001F469 \u0646\u200c\u0647");
}

class TerminalTest : public ::testing::Test {
 protected:
  /// A terminal of so many columns, as a program sees it.
  static Terminal of(unsigned short width) {
    const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
    EXPECT_TRUE(master >= 0 && ::grantpt(master) == 0 && ::unlockpt(master) == 0);
    const int screen = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
    EXPECT_GE(screen, 0);
    winsize size{.ws_row = 25, .ws_col = width, .ws_xpixel = 0, .ws_ypixel = 0};
    EXPECT_EQ(::ioctl(screen, TIOCSWINSZ, &size), 0);
    const auto terminal = terminal_of(screen);
    ::close(screen);
    ::close(master);
    return terminal;
  }
  void SetUp() override {
    ::unsetenv("NO_COLOR");
    ::unsetenv("COLUMNS");
    ::setenv("TERM", "xterm", 1);
  }
};

TEST_F(TerminalTest, IsAsWideAsItIsWithinLimits) {
  EXPECT_EQ(of(60).width, 60);
  EXPECT_EQ(of(200).width, 80);
  EXPECT_EQ(of(10).width, 40);
  EXPECT_EQ(of(0).width, 80);  // nobody has said
  ::setenv("COLUMNS", "50", 1);
  EXPECT_EQ(of(70).width, 50);
  EXPECT_EQ(terminal_of(-1).width, 50);
  ::unsetenv("COLUMNS");
  EXPECT_EQ(terminal_of(-1).width, 80);
}

TEST_F(TerminalTest, HasColourUnlessSomebodyWantsNone) {
  EXPECT_TRUE(of(80).colour);
  EXPECT_FALSE(terminal_of(-1).colour);
  ::setenv("NO_COLOR", "", 1);
  EXPECT_TRUE(of(80).colour);  // empty counts as not set
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(of(80).colour);
  ::unsetenv("NO_COLOR");
  ::setenv("TERM", "dumb", 1);
  EXPECT_FALSE(of(80).colour);
}

TEST(Wrapped, BreaksAtSpaces) {
  EXPECT_EQ(wrapped("one two three", 8), "one two\nthree");
  EXPECT_EQ(wrapped("one two three", 80, 2), "  one two three");
  EXPECT_EQ(wrapped("one two three", 7, 2), "  one\n  two\n  three");
  EXPECT_EQ(wrapped("红色 红色", 8), "红色\n红色");
  EXPECT_EQ(wrapped("incomprehensible", 4), "incomprehensible");
  EXPECT_EQ(wrapped("", 4), "");
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
