#include "gatefold/image/stb.hpp"

#include <gtest/gtest.h>

#include "gatefold/image/decode.hpp"

// A program's own stb, whole and after ours: it must come out as if ours were not there.
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

namespace gatefold::stb_test {
namespace {

/// One green pixel as a BMP: file header, info header (1 x 1, 1 plane, 24 bits), blue green red and padding.
std::vector<std::uint8_t> bmp() {
  std::vector<std::uint8_t> bytes(58);
  bytes[0] = 'B', bytes[1] = 'M', bytes[2] = 58, bytes[10] = 54;
  bytes[14] = 40, bytes[18] = 1, bytes[22] = 1, bytes[26] = 1, bytes[28] = 24, bytes[34] = 4;
  bytes[55] = 255;
  return bytes;
}

TEST(Stb, LeavesAProgramsOwnCopyWhole) {
  int width = 0, height = 0, channels = 0;
  const auto bytes = bmp();
  auto* pixels = ::stbi_load_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width, &height, &channels, 0);
  ASSERT_NE(pixels, nullptr) << ::stbi_failure_reason();
  EXPECT_EQ(width * height, 1);
  EXPECT_EQ(pixels[1], 255);
  ::stbi_image_free(pixels);
  EXPECT_THROW(decode_image(bytes), FormatError);  // ours has PNG and JPEG only
}

TEST(Stb, GivesTheDecoderNoMoreThanItsLimit) {
  detail::stb_allocation_limit = 100;
  EXPECT_EQ(detail::stb_allocate(101), nullptr);
  auto* block = static_cast<char*>(detail::stb_allocate(100));
  ASSERT_NE(block, nullptr);
  EXPECT_TRUE(std::all_of(block, block + 100, [](char byte) { return byte == 0; }));
  EXPECT_EQ(detail::stb_reallocate(block, 101), nullptr);  // and the block is still ours
  std::free(block);
}

}  // namespace
}  // namespace gatefold::stb_test
