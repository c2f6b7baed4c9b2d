#include "program.hpp"

#include <gmock/gmock.h>

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
