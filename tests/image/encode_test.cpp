#include "gatefold/image/encode.hpp"

#include <gtest/gtest.h>

#include "gatefold/image/decode.hpp"

namespace gatefold::encode_test {
namespace {

Image gradient(ImageSize size) {
  auto image = Image::of_size(size);
  for (std::size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = static_cast<std::uint8_t>(i * i / 7 + 3 * i);
  return image;
}

std::vector<std::uint8_t> bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

TEST(Encode, PngIsLossless) {
  for (const ImageSize size : {ImageSize{1, 1}, ImageSize{1, 50}, ImageSize{37, 1}, ImageSize{33, 21}})
    EXPECT_EQ(decode_image(encode_png(gradient(size))), gradient(size)) << to_string(size);
}

TEST(Encode, RefusesAnImageThatIsNone) {
  EXPECT_THROW(encode_png(Image{}), OptionError);
  EXPECT_THROW(encode_png(Image{2, 2, {1, 2, 3}}), OptionError);
}

TEST(Encode, WritesWholeFilesOverOldOnesAndLeavesNothingElse) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / "gatefold_encode_test";
  std::filesystem::create_directories(folder);
  const auto image = gradient({.width = 9, .height = 4});
  write_png(gradient({.width = 30, .height = 30}), folder / "a.png");
  write_png(image, folder / "a.png");
  EXPECT_EQ(decode_image_file(folder / "a.png"), image);
  EXPECT_THROW(write_png(image, folder / "missing" / "a.png"), FormatError);
  std::filesystem::create_directories(folder / "b.png" / "c");
  EXPECT_THROW(write_png(image, folder / "b.png"), FormatError);  // a folder of that name stands there
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 2);
  std::filesystem::remove_all(folder);
}

TEST(Encode, Base64HoldsTheVectorsOfRfc4648) {
  EXPECT_EQ(base64(bytes_of("")), "");
  EXPECT_EQ(base64(bytes_of("f")), "Zg==");
  EXPECT_EQ(base64(bytes_of("fo")), "Zm8=");
  EXPECT_EQ(base64(bytes_of("foo")), "Zm9v");
  EXPECT_EQ(base64(bytes_of("foob")), "Zm9vYg==");
  EXPECT_EQ(base64(bytes_of("fooba")), "Zm9vYmE=");
  EXPECT_EQ(base64(bytes_of("foobar")), "Zm9vYmFy");
  EXPECT_EQ(base64(std::vector<std::uint8_t>{0xfb, 0xff, 0xfe}), "+//+");
}

TEST(Encode, DataUriStartsLikeAPng) {
  EXPECT_EQ(png_data_uri(gradient({.width = 2, .height = 2})).substr(0, 33), "data:image/png;base64,iVBORw0KGgo");
}

}  // namespace
}  // namespace gatefold::encode_test
