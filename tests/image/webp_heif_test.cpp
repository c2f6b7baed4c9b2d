// WebP, HEIC and AVIF, where this build has their libraries.
#include <gmock/gmock.h>

#include <fstream>
#include <sstream>

#include "gatefold/image/decode.hpp"
#include "tests/support/test_data.hpp"

namespace gatefold::webp_heif_test {
namespace {

using ::testing::HasSubstr;

struct Golden {
  std::string name;
  int tolerance = 0;
  Image image;
  std::vector<std::uint8_t> file;
};

std::vector<std::uint8_t> from_hexadecimal(const std::string& text) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

bool decodable(const std::string& name) {
  const auto& endings = decodable_endings();
  const auto ending = name.substr(0, name.find('_'));
  return std::find(endings.begin(), endings.end(), ending) != endings.end();
}

/// Of the kinds that this build decodes, and of the others.
std::vector<Golden> goldens(bool wanted) {
  std::ifstream file(gatefold::test::test_data("webp_heif_goldens.txt"));
  std::vector<Golden> all;
  Golden golden;
  std::string rgb, bytes;
  while (file >> golden.name >> golden.tolerance >> golden.image.width >> golden.image.height >> rgb >> bytes) {
    golden.image.rgb = from_hexadecimal(rgb);
    golden.file = from_hexadecimal(bytes);
    if (decodable(golden.name) == wanted) all.push_back(golden);
  }
  return all;
}

std::string refusal(std::span<const std::uint8_t> bytes, const DecodeOptions& options) {
  try {
    (void)decode_image(bytes, options);
  } catch (const FormatError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(WebpHeif, GiveThePixelsOfPillowUpright) {
  std::size_t seen = 0;
  for (const auto& golden : goldens(true)) {
    if (golden.name == "webp_animated") continue;
    ++seen;
    const auto image = decode_image(golden.file, {.alpha = Alpha::ignored, .orientation = Orientation::upright});
    ASSERT_EQ(image.size(), golden.image.size()) << golden.name;
    int most = 0;
    for (std::size_t i = 0; i < image.rgb.size(); ++i)
      most = std::max(most, std::abs(int{image.rgb[i]} - int{golden.image.rgb[i]}));
    EXPECT_LE(most, golden.tolerance) << golden.name;
  }
  EXPECT_EQ(seen, (decodable("webp") ? 7u : 0u) + (decodable("heic") ? 5u : 0u));
}

TEST(WebpHeif, PutTransparencyOverWhiteWhereThatIsAsked) {
  for (const auto& golden : goldens(true)) {
    if (golden.name != "webp_lossless_alpha") continue;
    const auto image = decode_image(golden.file);
    for (std::size_t i = 0; i < image.rgb.size(); ++i) {
      const unsigned a = i / 3 % 20 < 10 ? 255 : 128;  // as the script that made it has it
      EXPECT_EQ(image.rgb[i], (a * golden.image.rgb[i] + (255 - a) * 255 + 127) / 255) << i;
    }
  }
}

TEST(WebpHeif, AreRefusedInWordsWhenCutShortDamagedOrLarge) {
  for (const auto& golden : goldens(true)) {
    if (golden.name == "webp_animated") {
      EXPECT_THAT(refusal(golden.file, {.name = "x"}), HasSubstr("x: is an animated WebP; save one"));
      continue;
    }
    for (std::size_t length = 16; length < golden.file.size(); length += 7) {
      const auto cut = std::span(golden.file).first(length);
      try {
        (void)decode_image(cut);  // a few end in a chunk that is not needed
      } catch (const FormatError&) {
      }
    }
    const auto half = std::span(golden.file).first(golden.file.size() / 2);
    EXPECT_THAT(refusal(half, {.name = "x"}), HasSubstr("not readable")) << golden.name;
    EXPECT_THAT(refusal(golden.file, {.name = "x", .max_pixels = 239}), HasSubstr("x: is ")) << golden.name;
    EXPECT_NE(refusal(golden.file, {.max_pixels = 239}), "accepted") << golden.name;
    EXPECT_EQ(refusal(golden.file, {.max_pixels = 400}), "accepted") << golden.name;
    std::size_t needed = 0;
    (void)decode_image(golden.file, {.reserve = [&](std::size_t bytes) { needed = bytes; }});
    EXPECT_GE(needed, std::size_t{240 * 12} + golden.file.size()) << golden.name;
  }
}

TEST(WebpHeif, AreNamedWhereTheyCannotBeDecoded) {
  for (const auto& golden : goldens(false))
    EXPECT_THAT(refusal(golden.file, {}), HasSubstr("; convert it")) << golden.name;
}

}  // namespace
}  // namespace gatefold::webp_heif_test
