#include "gatefold/image/exif.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "gatefold/image/decode.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold::exif_test {
namespace {

using Bytes = std::vector<std::uint8_t>;

/// 2 x 3 pixels, each its own number in red.
Image numbered(ImageSize size, const std::vector<std::uint8_t>& numbers) {
  auto image = Image::of_size(size);
  for (std::size_t i = 0; i < numbers.size(); ++i) image.rgb[3 * i] = numbers[i];
  return image;
}

/// A JPEG's beginning with one segment of EXIF.
Bytes jpeg_of(const Bytes& tiff) {
  Bytes bytes{0xff, 0xd8, 0xff, 0xff, 0xe1, 0, static_cast<std::uint8_t>(8 + tiff.size()), 'E', 'x', 'i', 'f', 0, 0};
  bytes.insert(bytes.end(), tiff.begin(), tiff.end());
  bytes.insert(bytes.end(), {0xff, 0xd9});
  return bytes;
}

const Bytes kBig{'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0};
const Bytes kLittleLong{'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 0x01, 4, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0};

TEST(Exif, TurnsAndMirrorsAsTheStandardSays) {
  // Where the standard says that row 0 and column 0 of the file belong: 1 top left, 2 top right, 3 bottom right, ...
  const auto stored = numbered({3, 2}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(upright(stored, 1), stored);
  EXPECT_EQ(upright(stored, 2), numbered({3, 2}, {3, 2, 1, 6, 5, 4}));
  EXPECT_EQ(upright(stored, 3), numbered({3, 2}, {6, 5, 4, 3, 2, 1}));
  EXPECT_EQ(upright(stored, 4), numbered({3, 2}, {4, 5, 6, 1, 2, 3}));
  EXPECT_EQ(upright(stored, 5), numbered({2, 3}, {1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(upright(stored, 6), numbered({2, 3}, {4, 1, 5, 2, 6, 3}));
  EXPECT_EQ(upright(stored, 7), numbered({2, 3}, {6, 3, 5, 2, 4, 1}));
  EXPECT_EQ(upright(stored, 8), numbered({2, 3}, {3, 6, 2, 5, 1, 4}));
  EXPECT_THROW(upright(stored, 0), OptionError);
  EXPECT_THROW(upright(stored, 9), OptionError);
}

TEST(Exif, ReadsEitherByteOrderAndBothWidths) {
  EXPECT_EQ(exif_orientation(jpeg_of(kBig)), 6);
  EXPECT_EQ(exif_orientation(jpeg_of(kLittleLong)), 8);
}

Bytes from_hexadecimal(const std::string& text) {
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

// Of make_exif_goldens.py: EXIF, raw profiles and XMP, in JPEG and PNG, sound and not.
TEST(Exif, FollowsWhatPillowFollows) {
  std::ifstream file(gatefold::test::test_data("exif_goldens.txt"));
  std::string name, text;
  int orientation = 0, cases = 0;
  for (; file >> name >> orientation >> text; ++cases) {
    const auto bytes = from_hexadecimal(text);
    EXPECT_EQ(exif_orientation(bytes), orientation) << name;
    const auto seen = decode_image(bytes, {.orientation = Orientation::upright}).size();
    EXPECT_EQ(seen, orientation >= 5 ? (ImageSize{2, 3}) : (ImageSize{3, 2})) << name;
    for (std::size_t length = 0; length < bytes.size(); length += 7)  // cut anywhere: some answer, and no more
      EXPECT_GE(exif_orientation(std::span(bytes).first(length)), 1) << name;
  }
  EXPECT_EQ(cases, 76);
}

TEST(Exif, TakesAnythingElseForUpright) {
  EXPECT_EQ(exif_orientation({}), 1);
  EXPECT_EQ(exif_orientation(Bytes{0xff, 0xd8, 0xff, 0xd9}), 1);
  const auto whole = jpeg_of(kBig);
  for (std::size_t length = 0; length + 8 < whole.size(); ++length)  // before the value is whole
    EXPECT_EQ(exif_orientation(std::span(whole).first(length)), 1) << length;
  for (std::size_t i = 0; i < kBig.size(); ++i) {  // any byte of it damaged
    auto damaged = kBig;
    damaged[i] = 0xff;
    const int orientation = exif_orientation(jpeg_of(damaged));
    EXPECT_TRUE(orientation == 1 || orientation == 6) << i;
  }
}

}  // namespace
}  // namespace gatefold::exif_test
