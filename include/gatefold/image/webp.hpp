#pragma once
#ifdef GATEFOLD_HAS_WEBP
#include <webp/decode.h>

#include "gatefold/image/decode_options.hpp"
#include "gatefold/image/exif.hpp"

namespace gatefold::detail {

/// The orientation in the chunks of a WebP (its container: developers.google.com/speed/webp, RIFF), 1 without.
inline int webp_orientation(std::span<const std::uint8_t> bytes) {
  OrientationNotes notes;
  for (std::size_t at = 12; at + 8 <= bytes.size();) {
    const std::size_t length = *number_at(bytes, at + 4, 4, ByteOrder::little);
    if (length > bytes.size() - at - 8) break;
    const auto chunk = bytes.subspan(at + 8, length);
    if (starts_with(bytes.subspan(at), "EXIF")) notes.exif = tiff_orientation(chunk);
    if (starts_with(bytes.subspan(at), "XMP "))
      notes.xmp = xmp_orientation({reinterpret_cast<const char*>(chunk.data()), chunk.size()});
    at += 8 + length + length % 2;
  }
  return notes.orientation();
}

/// Needs libwebp. Pixels as Pillow's, which decodes with the same library.
inline Image decode_webp(std::span<const std::uint8_t> bytes, const DecodeOptions& options) {
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) refuse_image(options, "is a WebP, and libwebp is of another version");
  if (WebPGetFeatures(bytes.data(), bytes.size(), &config.input) != VP8_STATUS_OK)
    refuse_image(options, "is a WebP, but its header is not readable; the file is damaged");
  if (config.input.has_animation)
    refuse_image(options, "is an animated WebP; save one of its pictures as a WebP, PNG or JPEG");
  const ImageSize size{config.input.width, config.input.height};
  const int channels = config.input.has_alpha ? 4 : 3;
  constexpr std::size_t kBytesPerPixel = 13;  // 4 of lossless decoding, 1 of alpha, the pixels twice
  admit_image(size, kBytesPerPixel, bytes.size(), options);
  auto image = channels == 3 ? Image::of_size(size) : Image();
  std::vector<std::uint8_t> with_alpha(channels == 4 ? static_cast<std::size_t>(size.width * size.height * 4) : 0);
  auto& pixels = channels == 4 ? with_alpha : image.rgb;
  const auto stride = static_cast<std::size_t>(size.width) * static_cast<std::size_t>(channels);
  config.output.colorspace = channels == 4 ? MODE_RGBA : MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA = {.rgba = pixels.data(), .stride = static_cast<int>(stride), .size = pixels.size()};
  const auto status = WebPDecode(bytes.data(), bytes.size(), &config);
  if (status == VP8_STATUS_OUT_OF_MEMORY) refuse_for_memory(options, size);
  if (status != VP8_STATUS_OK) refuse_image(options, "is a WebP, but its pixels are not readable; the file is damaged");
  if (channels == 4) image = flatten(with_alpha.data(), size, channels, stride, options.alpha);
  return options.orientation == Orientation::upright ? upright(image, webp_orientation(bytes)) : image;
}

}  // namespace gatefold::detail
#endif
