#pragma once
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>

#include "gatefold/image/exif.hpp"
#include "gatefold/image/image.hpp"
#include "gatefold/image/jpeg_check.hpp"
#include "gatefold/image/png_check.hpp"
#include "gatefold/image/stb.hpp"

namespace gatefold {

/// What becomes of transparency.
enum class Alpha {
  over_white,  ///< Composited over white: v' = (a v + (255 - a) 255) / 255, rounded. What a person sees.
  ignored      ///< The colours that stand beneath, as Pillow's convert("RGB") has them. What CLIP was given.
};
/// What becomes of a camera's note how it was held.
enum class Orientation {
  as_stored,  ///< Ignored, as by Pillow's Image.open.
  upright     ///< Followed, as by Pillow's ImageOps.exif_transpose and Hugging Face's load_image.
};

struct DecodeOptions {
  std::string name = "image";     ///< Stands in messages; decode_image_file puts the path here.
  Index max_pixels = kMaxPixels;  ///< Larger images are refused from their header; at most kMaxPixels.
  Alpha alpha = Alpha::over_white;
  Orientation orientation = Orientation::as_stored;
};

namespace detail {

inline constexpr std::size_t kMaxImageBytes = std::size_t{256} << 20;  ///< 64 megapixels of stored RGB, and some.

inline bool is_png(std::span<const std::uint8_t> bytes) {
  static constexpr std::array<std::uint8_t, 8> kMagic{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  return bytes.size() >= kMagic.size() && std::equal(kMagic.begin(), kMagic.end(), bytes.begin());
}
inline bool is_jpeg(std::span<const std::uint8_t> bytes) {
  return bytes.size() >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

}  // namespace detail

/// Decodes PNG or JPEG (progressive ones too) to RGB, the pixels of Pillow (libjpeg-turbo) bit for bit; only of JPEGs
/// with half the chroma rows and all its columns some are off by one. Grey becomes three equal channels, palettes their
/// colours, 16 bits keep their upper 8 (so does Pillow with colours; of 16-bit grey it makes everything from 255 on
/// white), CMYK of Adobe's kind is converted as Pillow does, other CMYK refused. Colour profiles are ignored, as by
/// Pillow. PNG checksums are not verified. Throws FormatError on anything else than a whole PNG or JPEG within the
/// limits. Memory: 11 bytes a pixel at the peak, 23 for 16-bit files with alpha.
inline Image decode_image(std::span<const std::uint8_t> bytes, const DecodeOptions& options = {}) {
  const auto refuse = [&](const std::string& why) { throw FormatError("decode_image: " + options.name + ": " + why); };
  if (bytes.size() > detail::kMaxImageBytes)
    refuse("has " + std::to_string(bytes.size()) + " bytes, expected at most " +
           std::to_string(detail::kMaxImageBytes));
  if (bytes.empty()) refuse("is empty");
  const bool png = detail::is_png(bytes);
  if (!png && !detail::is_jpeg(bytes)) refuse("is neither PNG nor JPEG; convert it to one of them");
  if (const auto fault = png ? detail::png_fault(bytes) : detail::jpeg_fault(bytes); !fault.empty()) refuse(fault);

  const auto length = static_cast<int>(bytes.size());
  int width = 0, height = 0, channels = 0;
  detail::stb_allocation_limit = std::size_t{1} << 20;  // a header needs 18 KiB
  const auto failure = [&](const std::string& what) {
    const char* reason = detail::stb::stbi_failure_reason();
    refuse(what + " (" + (reason ? reason : "no reason given") +
           "); the file is damaged or of a rare kind: write it anew as an 8-bit PNG or a baseline JPEG");
  };
  if (!detail::stb::stbi_info_from_memory(bytes.data(), length, &width, &height, &channels))
    failure("header is not readable");
  const Index limit = std::min(options.max_pixels, kMaxPixels);
  if (width <= 0 || height <= 0 || width > limit / height)
    refuse("is " + to_string(ImageSize{width, height}) + ", expected at least 1 x 1 and at most " +
           std::to_string(limit) + " pixels; scale it down first");

  // The largest block a sound image can need: 4 channels of 16 bits, doubled by the growing zlib buffer, sides padded
  // to whole JPEG units of at most 32 pixels.
  detail::stb_allocation_limit =
      (static_cast<std::size_t>(width) + 32) * (static_cast<std::size_t>(height) + 32) * 16 + (std::size_t{1} << 20);
  const std::unique_ptr<std::uint8_t, void (*)(void*)> decoded(
      detail::stb::stbi_load_from_memory(bytes.data(), length, &width, &height, &channels, 0), std::free);
  if (!decoded) failure("pixels are not readable");

  auto image = Image::of_size({width, height});
  const bool alpha = (channels == 2 || channels == 4) && options.alpha == Alpha::over_white, grey = channels <= 2;
  const std::uint8_t* from = decoded.get();
  for (std::size_t at = 0; at < image.rgb.size(); at += 3, from += channels) {
    const unsigned a = alpha ? from[channels - 1] : 255u;
    for (std::size_t c = 0; c < 3; ++c)
      image.rgb[at + c] = static_cast<std::uint8_t>((a * from[grey ? 0 : c] + (255u - a) * 255u + 127u) / 255u);
  }
  return options.orientation == Orientation::upright ? upright(image, exif_orientation(bytes)) : image;
}

/// The same from a file, whose name stands in each message. Throws FormatError, also when the file cannot be read.
inline Image decode_image_file(const std::filesystem::path& path, DecodeOptions options = {}) {
  options.name = path.string();
  const auto refuse = [&](const std::string& why) { throw FormatError("decode_image_file: " + options.name + why); };
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file || !std::filesystem::is_regular_file(path)) refuse(": cannot be opened as a file");
  const auto size = static_cast<std::streamoff>(file.tellg());
  if (size < 0 || static_cast<std::size_t>(size) > detail::kMaxImageBytes)
    refuse(" has " + std::to_string(size) + " bytes, expected at most " + std::to_string(detail::kMaxImageBytes));
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
  file.seekg(0);
  if (!file.read(reinterpret_cast<char*>(bytes.data()), size)) refuse(": cannot be read");
  return decode_image(bytes, options);
}

}  // namespace gatefold
