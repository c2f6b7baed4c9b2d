#include "gatefold/image/kind.hpp"

#include <gmock/gmock.h>

#include "gatefold/image/decode.hpp"

namespace gatefold::kind_test {
namespace {

using namespace std::string_literals;
using ::testing::HasSubstr;

std::string refusal(const std::string& begin) {
  const std::vector<std::uint8_t> bytes(begin.begin(), begin.end());
  try {
    (void)decode_image(bytes, {.name = "x"});
  } catch (const FormatError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ImageKind, IsNamedByTheFirstBytes) {
  EXPECT_THAT(refusal("GIF89a..."), HasSubstr("x: is a GIF, expected PNG, JPEG"));
  EXPECT_THAT(refusal("BM......"), HasSubstr("is a BMP"));
  EXPECT_THAT(refusal("II*\0...."s), HasSubstr("is a TIFF"));
  EXPECT_THAT(refusal("MM\0*...."s), HasSubstr("is a TIFF"));
  EXPECT_THAT(refusal("8BPS...."), HasSubstr("is a Photoshop file"));
  EXPECT_THAT(refusal("\0\0\0\x0cJXL \r\n\x87\n"s), HasSubstr("is a JPEG XL"));
  EXPECT_THAT(refusal("%PDF-1.7"), HasSubstr("is a PDF"));
  EXPECT_THAT(refusal("\0\0\0\x18"
                      "ftypisom\0\0\0\0isomiso2"s),
              HasSubstr("is a video, expected"));
  EXPECT_THAT(refusal("<?xml version='1.0'?><svg width='3'>"), HasSubstr("is an SVG"));
  EXPECT_THAT(refusal("\n<!DOCTYPE HTML><p>404"), HasSubstr("a web page, not a picture"));
  EXPECT_THAT(refusal("<html>404"), HasSubstr("download the picture itself"));
  EXPECT_THAT(refusal("version https://git-lfs.github.com/spec/v1\n"), HasSubstr("git lfs pull"));
  EXPECT_THAT(refusal("no picture"), HasSubstr("is no picture that is known"));
}

TEST(ImageKind, OfAHeicIsInTheFirstBrandOrTheOthers) {
  const auto name = [](const std::string& text) {
    return detail::kind_of(std::vector<std::uint8_t>(text.begin(), text.end())).name;
  };
  EXPECT_EQ(name("\0\0\0\x18"
                 "ftypheic\0\0\0\0mif1heic"s),
            "a HEIC");
  EXPECT_EQ(name("\0\0\0\x18"
                 "ftypmif1\0\0\0\0mif1heic"s),
            "a HEIC");
  EXPECT_EQ(name("\0\0\0\x18"
                 "ftypmif1\0\0\0\0mif1avif"s),
            "an AVIF");
  EXPECT_EQ(name("\0\0\0\x18"
                 "ftypavif\0\0\0\0"s),
            "an AVIF");  // cut short
  EXPECT_EQ(name("\0\0\0\x14"
                 "ftypisom\0\0\0\0isomheic"s),
            "a video");  // behind the box
  EXPECT_EQ(name("RIFF1234WEBPVP8 "), "a WebP");
  EXPECT_EQ(name("RIFF1234WAVE"), "");
}

TEST(ImageKind, DecodableOnesAreKnownByTheirEndings) {
  const auto& endings = decodable_endings();
  for (const char* ending : {"png", "jpg", "jpeg", "jpe", "jfif"})
    EXPECT_NE(std::find(endings.begin(), endings.end(), ending), endings.end()) << ending;
  EXPECT_EQ(std::find(endings.begin(), endings.end(), "gif"), endings.end());
}

}  // namespace
}  // namespace gatefold::kind_test
