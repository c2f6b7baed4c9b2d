#include "gatefold/image/png_check.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gatefold::detail::png_check_test {
namespace {

using ::testing::HasSubstr;

std::string fault_of(const std::string& text) {
  return png_fault({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

std::string chunk(const std::string& type, const std::string& data) {
  const auto length = data.size();  // below 256 here
  return std::string(3, '\0') + static_cast<char>(length) + type + data + "crc.";
}

TEST(PngCheck, WalksToTheEnd) {
  const auto whole =
      "\x89PNG\r\n\x1a\n" + chunk("IHDR", "IEND") + chunk("IDAT", "x") + chunk("IDAT", "") + chunk("IEND", "");
  EXPECT_EQ(fault_of(whole), "");
  EXPECT_EQ(fault_of(whole + "trailing bytes"), "");
  for (std::size_t length = 8; length < whole.size(); ++length)
    EXPECT_THAT(fault_of(whole.substr(0, length)), HasSubstr("cut short?")) << length;
}

TEST(PngCheck, RefusesLengthsBeyondTheFile) {
  EXPECT_THAT(fault_of("\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR____________"), HasSubstr("cut short?"));
}

TEST(PngCheck, RefusesAnEmptyFirstData) {
  EXPECT_THAT(fault_of("\x89PNG\r\n\x1a\n" + chunk("IDAT", "") + chunk("IDAT", "x") + chunk("IEND", "")),
              HasSubstr("empty IDAT"));
}

}  // namespace
}  // namespace gatefold::detail::png_check_test
