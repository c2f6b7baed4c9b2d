#pragma once
#include <algorithm>
#include <optional>
#include <span>
#include <string_view>

#include "gatefold/image/image.hpp"

namespace gatefold {

namespace detail {

/// The whole number of `count` bytes at `at`, or nothing when the bytes end before it.
enum class ByteOrder { little, big };
inline std::optional<std::size_t> number_at(std::span<const std::uint8_t> bytes, std::size_t at, std::size_t count,
                                            ByteOrder order) {
  if (at > bytes.size() || count > bytes.size() - at) return std::nullopt;
  std::size_t number = 0;
  for (std::size_t i = 0; i < count; ++i)
    number = number << 8 | bytes[at + (order == ByteOrder::big ? i : count - 1 - i)];
  return number;
}

inline bool starts_with(std::span<const std::uint8_t> bytes, std::string_view prefix) {
  return bytes.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), bytes.begin(),
                                                     [](char a, auto b) { return static_cast<std::uint8_t>(a) == b; });
}

/// The orientation in a block of TIFF, 1 when it says nothing sound. Reads the first directory only: no loops.
inline int tiff_orientation(std::span<const std::uint8_t> tiff) {
  constexpr std::size_t kOrientationTag = 0x112, kShort = 3, kLong = 4;
  if (!starts_with(tiff, "II") && !starts_with(tiff, "MM")) return 1;
  const auto order = tiff[0] == 'I' ? ByteOrder::little : ByteOrder::big;
  const auto directory = number_at(tiff, 4, 4, order);
  if (!directory) return 1;
  const auto count = number_at(tiff, *directory, 2, order).value_or(0);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t entry = *directory + 2 + 12 * i;
    const auto tag = number_at(tiff, entry, 2, order);
    if (!tag) return 1;
    if (*tag != kOrientationTag) continue;
    const auto kind = number_at(tiff, entry + 2, 2, order);
    const auto value = number_at(tiff, entry + 8, kind == kLong ? 4 : 2, order);
    if ((kind != kShort && kind != kLong) || !value || *value < 1 || *value > 8) return 1;
    return static_cast<int>(*value);
  }
  return 1;
}

inline int jpeg_orientation(std::span<const std::uint8_t> bytes) {
  using namespace std::string_view_literals;
  for (std::size_t at = 2; at + 4 <= bytes.size() && bytes[at] == 0xff;) {
    const auto marker = bytes[at + 1];
    if (marker == 0xff) {  // a fill byte
      ++at;
      continue;
    }
    if (marker == 0xda || marker == 0xd9) break;  // pixels, end
    const std::size_t length = *number_at(bytes, at + 2, 2, ByteOrder::big);
    if (length < 2 || length > bytes.size() - at - 2) break;
    const auto segment = bytes.subspan(at + 4, length - 2);
    if (marker == 0xe1 && starts_with(segment, "Exif\0\0"sv)) return tiff_orientation(segment.subspan(6));
    at += 2 + length;
  }
  return 1;
}

inline int png_orientation(std::span<const std::uint8_t> bytes) {
  for (std::size_t at = 8; at + 12 <= bytes.size();) {
    const std::size_t length = *number_at(bytes, at, 4, ByteOrder::big);
    if (length > bytes.size() - at - 12) break;
    if (starts_with(bytes.subspan(at + 4), "eXIf")) return tiff_orientation(bytes.subspan(at + 8, length));
    at += 12 + length;
  }
  return 1;
}

}  // namespace detail

/// How a camera held the pixels of a JPEG or PNG, 1..8 as EXIF numbers it (CIPA DC-008, tag 274). 1, upright, when the
/// file says nothing or nothing sound; never throws.
inline int exif_orientation(std::span<const std::uint8_t> bytes) {
  return detail::starts_with(bytes, "\x89PNG") ? detail::png_orientation(bytes) : detail::jpeg_orientation(bytes);
}

/// The image as it was meant to be seen, given its EXIF orientation; Pillow's ImageOps.exif_transpose. Throws
/// OptionError on an orientation outside 1..8.
inline Image upright(const Image& image, int orientation) {
  expect_image(image, "upright");
  expect_option(orientation >= 1 && orientation <= 8,
                "upright: orientation is " + std::to_string(orientation) + ", expected 1..8");
  if (orientation == 1) return image;
  const bool swapped = orientation >= 5;  // rows become columns
  auto result = Image::of_size(swapped ? ImageSize{image.height, image.width} : image.size());
  const Index right = image.width - 1, bottom = image.height - 1;
  auto to = result.rgb.begin();
  for (Index y = 0; y < result.height; ++y)
    for (Index x = 0; x < result.width; ++x) {
      const Index along = swapped ? y : x, down = swapped ? x : y;
      const bool mirrored = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
      const bool flipped = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
      const Index from = 3 * ((flipped ? bottom - down : down) * image.width + (mirrored ? right - along : along));
      to = std::copy_n(image.rgb.begin() + from, 3, to);
    }
  return result;
}

}  // namespace gatefold
