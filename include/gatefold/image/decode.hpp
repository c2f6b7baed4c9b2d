#pragma once
#include <limits>
#include <memory>
#include <new>

#include "gatefold/core/read_file.hpp"
#include "gatefold/image/decode_options.hpp"
#include "gatefold/image/exif.hpp"
#include "gatefold/image/heif.hpp"
#include "gatefold/image/jpeg_check.hpp"
#include "gatefold/image/png_check.hpp"
#include "gatefold/image/stb.hpp"
#include "gatefold/image/webp.hpp"

namespace gatefold {

namespace detail {

/// No sound image of the limit has a larger file: 256 MiB, and more where the limit was raised.
inline std::size_t max_image_bytes(const DecodeOptions& options) {
  const auto raised = static_cast<std::size_t>(std::clamp<Index>(options.max_pixels, 0, kMaxPixels)) * 4;
  return std::min<std::size_t>(std::max(std::size_t{256} << 20, raised), std::numeric_limits<int>::max());
}

/// PNG and JPEG.
inline Image decode_stb(std::span<const std::uint8_t> bytes, ImageKind kind, const DecodeOptions& options) {
  const auto refuse = [&](const std::string& why) { refuse_image(options, why); };
  if (const auto fault = kind == ImageKind::png ? png_fault(bytes) : jpeg_fault(bytes); !fault.empty()) refuse(fault);

  const auto length = static_cast<int>(bytes.size());
  int width = 0, height = 0, channels = 0;
  stb_allocation_limit = std::size_t{1} << 20;  // a header needs 18 KiB
  stb_out_of_memory = false;
  const auto failure = [&](const std::string& what) {
    if (stb_out_of_memory) refuse_for_memory(options, {width, height});
    const char* reason = stb::gatefold_stbi_failure_reason();
    refuse(what + " (" + (reason ? reason : "no reason given") +
           "); the file is damaged or of a rare kind: write it anew as an 8-bit PNG or a baseline JPEG");
  };
  if (!stb::gatefold_stbi_info_from_memory(bytes.data(), length, &width, &height, &channels))
    failure("header is not readable");
  const bool deep = stb::gatefold_stbi_is_16_bit_from_memory(bytes.data(), length) != 0;
  admit_image({width, height}, deep ? 23 : 12, bytes.size(), options);

  // The largest block a sound image can need: 4 channels of 16 bits, doubled by the growing zlib buffer, sides padded
  // to whole JPEG units of at most 32 pixels.
  stb_allocation_limit =
      (static_cast<std::size_t>(width) + 32) * (static_cast<std::size_t>(height) + 32) * 16 + (std::size_t{1} << 20);
  const std::unique_ptr<std::uint8_t, void (*)(void*)> decoded(
      stb::gatefold_stbi_load_from_memory(bytes.data(), length, &width, &height, &channels, 0), std::free);
  if (!decoded) failure("pixels are not readable");

  const auto image = flatten(decoded.get(), {width, height}, channels,
                             static_cast<std::size_t>(width) * static_cast<std::size_t>(channels), options.alpha);
  return options.orientation == Orientation::upright ? upright(image, exif_orientation(bytes)) : image;
}

}  // namespace detail

/// Decodes PNG or JPEG (progressive ones too) to RGB, the pixels of Pillow (libjpeg-turbo) bit for bit; only of JPEGs
/// with half the chroma rows and all its columns some are off by one. Grey becomes three equal channels, palettes their
/// colours, 16 bits keep their upper 8 (so does Pillow with colours; of 16-bit grey it makes everything from 255 on
/// white), CMYK of Adobe's kind is converted as Pillow does, other CMYK refused. Colour profiles are ignored, as by
/// Pillow. PNG checksums are not verified. WebP where the build has libwebp, HEIC and AVIF where it has libheif
/// (image/webp.hpp, image/heif.hpp). Throws FormatError on anything else than a whole picture of these kinds within the
/// limits, and says what it is; MemoryError when there is not enough memory for it. Memory: 12 bytes a pixel at the
/// peak, 13 of WebP, 16 of HEIC, 23 for 16-bit files.
inline Image decode_image(std::span<const std::uint8_t> bytes, const DecodeOptions& options = {}) {
  const auto refuse = [&](const std::string& why) { detail::refuse_image(options, why); };
  if (bytes.size() > detail::max_image_bytes(options))
    refuse("has " + std::to_string(bytes.size()) + " bytes, expected at most " +
           std::to_string(detail::max_image_bytes(options)));
  if (bytes.empty()) refuse("is empty");
  const auto kind = detail::kind_of(bytes);
  try {
    switch (kind.kind) {
      case detail::ImageKind::png:
      case detail::ImageKind::jpeg:
        return detail::decode_stb(bytes, kind.kind, options);
#ifdef GATEFOLD_HAS_WEBP
      case detail::ImageKind::webp:
        return detail::decode_webp(bytes, options);
#endif
#ifdef GATEFOLD_HAS_HEIF
      case detail::ImageKind::heif:
        return detail::decode_heif(bytes, kind.name, options);
#endif
      default:
        break;
    }
  } catch (const std::bad_alloc&) {
    throw MemoryError(options.name +
                      ": there is not enough memory to decode it; decode fewer at a time, or scale it "
                      "down first");
  }
  refuse("is " + (kind.name.empty() ? "no picture that is known" : kind.name) + ", expected " +
         std::string(detail::kDecodable) + "; " + (kind.advice.empty() ? "convert it to one of them" : kind.advice));
  return {};
}

/// The same from a file, whose name begins each message. Throws FormatError, also when the file cannot be read, with
/// the reason of the system.
inline Image decode_image_file(const std::filesystem::path& path, DecodeOptions options = {}) {
  options.name = path.string();
  return decode_image(read_file<std::vector<std::uint8_t>>(path, detail::max_image_bytes(options)), options);
}

}  // namespace gatefold
