#pragma once
#include <algorithm>
#include <optional>
#include <span>
#include <string_view>

#include "gatefold/image/image.hpp"
#include "gatefold/image/png_text.hpp"

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

/// The orientation in a block of TIFF, which «Exif» may precede: nothing when it has no such tag, 1 when that is not
/// sound. Reads the first directory only: no loops.
inline std::optional<int> tiff_orientation(std::span<const std::uint8_t> tiff) {
  using namespace std::string_view_literals;
  constexpr std::size_t kOrientationTag = 0x112, kShort = 3, kLong = 4;
  for (int i = 0; i < 2 && starts_with(tiff, "Exif\0\0"sv); ++i) tiff = tiff.subspan(6);
  if (!starts_with(tiff, "II") && !starts_with(tiff, "MM")) return std::nullopt;
  const auto order = tiff[0] == 'I' ? ByteOrder::little : ByteOrder::big;
  const auto directory = number_at(tiff, 4, 4, order);
  if (!directory) return std::nullopt;
  const auto count = number_at(tiff, *directory, 2, order).value_or(0);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t entry = *directory + 2 + 12 * i;
    const auto tag = number_at(tiff, entry, 2, order);
    if (!tag) return std::nullopt;
    if (*tag != kOrientationTag) continue;
    const auto kind = number_at(tiff, entry + 2, 2, order);
    const auto value = number_at(tiff, entry + 8, kind == kLong ? 4 : 2, order);
    if ((kind != kShort && kind != kLong) || !value || *value < 1 || *value > 8) return 1;
    return static_cast<int>(*value);
  }
  return std::nullopt;
}

/// The orientation in a packet of XMP: what first follows tiff:Orientation, as an attribute or an element. As Pillow
/// does it takes the packet for text and not for XML, which is safe with any bytes and all that writers of XMP need.
inline std::optional<int> xmp_orientation(std::string_view packet) {
  constexpr std::string_view kName = "tiff:Orientation";
  for (auto at = packet.find(kName); at != packet.npos; at = packet.find(kName, at + 1)) {
    auto value = packet.substr(at + kName.size());
    if (value.starts_with("=\""))
      value.remove_prefix(2);
    else if (value.starts_with(">"))
      value.remove_prefix(1);
    else
      continue;
    if (value.empty() || value[0] < '0' || value[0] > '9') continue;
    return value[0] >= '1' && value[0] <= '8' ? value[0] - '0' : 1;
  }
  return std::nullopt;
}

/// What was found where; EXIF's own note stands above XMP's.
struct OrientationNotes {
  std::optional<int> exif{}, xmp{};
  int orientation() const { return exif ? *exif : xmp.value_or(1); }
};

/// Of several packets of XMP the last counts; EXIF in several segments is one.
inline int jpeg_orientation(std::span<const std::uint8_t> bytes) {
  using namespace std::string_view_literals;
  constexpr auto kExif = "Exif\0\0"sv, kXmp = "http://ns.adobe.com/xap/1.0/\0"sv;
  OrientationNotes notes;
  std::vector<std::uint8_t> exif;
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
    if (marker == 0xe1 && starts_with(segment, kExif))
      exif.insert(exif.end(), segment.begin() + static_cast<std::ptrdiff_t>(kExif.size()), segment.end());
    if (marker == 0xe1 && starts_with(segment, kXmp))
      notes.xmp =
          xmp_orientation({reinterpret_cast<const char*>(segment.data()) + kXmp.size(), segment.size() - kXmp.size()});
    at += 2 + length;
  }
  notes.exif = tiff_orientation(exif);
  return notes.orientation();
}

/// The bytes of ImageMagick's «Raw profile type exif»: two lines, a length, then hexadecimal digits. Empty when
/// damaged.
inline std::vector<std::uint8_t> raw_profile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const auto end = text.find('\n');
    if (end == text.npos) return {};
    text.remove_prefix(end + 1);
  }
  std::vector<std::uint8_t> bytes;
  int high = -1;
  for (const char c : text) {
    if (c == ' ' || (c >= '\t' && c <= '\r')) continue;
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return {};
    if (high < 0)
      high = digit;
    else
      bytes.push_back(static_cast<std::uint8_t>(high << 4 | digit)), high = -1;
  }
  return bytes;
}

/// EXIF stands in an eXIf chunk or, from before there was one, as a raw profile in a text; XMP in a text. Of several
/// the last counts, but nobody needs more than kMaxTexts: unpacking thousands would take minutes.
inline int png_orientation(std::span<const std::uint8_t> bytes) {
  constexpr int kMaxTexts = 64;
  OrientationNotes notes;
  bool chunk = false;
  int texts = 0;
  for (std::size_t at = 8; at + 12 <= bytes.size();) {
    const std::size_t length = *number_at(bytes, at, 4, ByteOrder::big);
    if (length > bytes.size() - at - 12) break;
    const std::string_view kind(reinterpret_cast<const char*>(bytes.data()) + at + 4, 4);
    const auto data = bytes.subspan(at + 8, length);
    if (kind == "IEND") break;
    if (kind == "eXIf") notes.exif = tiff_orientation(data), chunk = true;
    if (texts < kMaxTexts) {
      const auto profile = png_text(kind, data, "Raw profile type exif");
      const auto packet = png_text(kind, data, "XML:com.adobe.xmp");
      if (!profile.empty() && !chunk) notes.exif = tiff_orientation(raw_profile(profile));
      if (!packet.empty()) notes.xmp = xmp_orientation(packet);
      texts += !profile.empty() || !packet.empty();
    }
    at += 12 + length;
  }
  return notes.orientation();
}

}  // namespace detail

/// How a camera held the pixels of a JPEG or PNG, 1..8 as EXIF numbers it (CIPA DC-008, tag 274), from where Pillow's
/// exif_transpose takes it: EXIF, in PNGs also as ImageMagick's raw profile, else XMP. 1, upright, when the file says
/// nothing or nothing sound; never throws but for want of memory.
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
