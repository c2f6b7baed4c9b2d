#include "gatefold/train/progress.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace gatefold {
namespace {

struct Screen {
  double now = 100;
  std::string text;
  ProgressOptions options() {
    return {.total_steps = 200,
            .terminal = true,
            .clock = [this] { return now; },
            .sink = [this](std::string_view t) { text += t; }};
  }
};

TEST(Progress, RewritesOneLineOnATerminal) {
  Screen screen;
  {
    Progress progress(screen.options());
    screen.now += 2;
    progress.update(50, "loss 1.25");
    EXPECT_EQ(screen.text, "\rstep 50/200  25%  25.0/s  left 0:00:06  loss 1.25\x1b[K");
    EXPECT_EQ(progress.elapsed_seconds(), 2);
    screen.text.clear();
    screen.now += 0.01;
    progress.update(51);
    EXPECT_EQ(screen.text, "");  // too soon to redraw
    screen.now += 1.99;
    progress.update(200);
    EXPECT_EQ(screen.text, "\rstep 200/200  100%  50.0/s\x1b[K");
    screen.text.clear();
  }
  EXPECT_EQ(screen.text, "\n");
}

TEST(Progress, TheLastStepIsAlwaysShown) {
  Screen screen;
  Progress progress(screen.options());
  progress.update(1);
  screen.text.clear();
  progress.update(200);
  EXPECT_NE(screen.text.find("200/200"), std::string::npos);
}

TEST(Progress, SilentWithoutATerminal) {
  Screen screen;
  auto options = screen.options();
  options.terminal = false;
  {
    Progress progress(options);
    for (Index i = 1; i <= 200; ++i) {
      screen.now += 10;
      progress.update(i);
    }
  }
  EXPECT_EQ(screen.text, "");
}

TEST(Progress, LogsEverySoManySteps) {
  Screen screen;
  auto options = screen.options();
  options.terminal = false;
  options.total_steps = 0;
  options.log_steps = 100;
  options.label = "image";
  Progress progress(options);
  for (Index i = 1; i <= 250; ++i) {
    screen.now += 0.5;
    progress.update(i);
  }
  EXPECT_EQ(screen.text, "image 100  2.00/s\nimage 200  2.00/s\n");
}

TEST(Progress, LogsEverySoManySecondsAndAtTheEnd) {
  Screen screen;
  auto options = screen.options();
  options.terminal = false;
  options.total_steps = 10;
  options.log_seconds = 60;
  Progress progress(options);
  for (Index i = 1; i <= 10; ++i) {
    screen.now += 16;
    progress.update(i);
  }
  EXPECT_EQ(screen.text,
            "step 4/10  40%  0.06/s  left 0:01:36\nstep 8/10  80%  0.06/s  left 0:00:32\nstep 10/10  100%  0.06/s\n");
}

TEST(Progress, AResumedRunDoesNotCountOldSteps) {
  Screen screen;
  auto options = screen.options();
  options.first_step = 100;
  Progress progress(options);
  screen.now += 10;
  progress.update(110);
  EXPECT_EQ(screen.text, "\rstep 110/200  55%  1.00/s  left 0:01:30\x1b[K");
}

TEST(FormatDuration, HoursMinutesSeconds) {
  EXPECT_EQ(format_duration(0), "0:00:00");
  EXPECT_EQ(format_duration(59.6), "0:01:00");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(360000), "100:00:00");
  EXPECT_EQ(format_duration(-1), "?");
  EXPECT_EQ(format_duration(std::numeric_limits<double>::infinity()), "?");
}

}  // namespace
}  // namespace gatefold
