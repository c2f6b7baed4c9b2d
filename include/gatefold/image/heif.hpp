#pragma once
#ifdef GATEFOLD_HAS_HEIF
#include <libheif/heif.h>

#include <cmath>
#include <memory>

#include "gatefold/image/decode_options.hpp"

namespace gatefold::detail {

/// HEIC and AVIF: the primary picture of the file, turned as its boxes say; more than 8 bits are rounded to 8. Needs
/// libheif with a decoder for what is inside. Pixels may differ by a unit or two between versions of libheif.
inline Image decode_heif(std::span<const std::uint8_t> bytes, const std::string& kind, const DecodeOptions& options) {
  const auto expect = [&](const heif_error& error, ImageSize size, const char* what) {
    if (error.code == heif_error_Ok) return;
    if (error.code == heif_error_Memory_allocation_error && error.subcode != heif_suberror_Security_limit_exceeded)
      refuse_for_memory(options, size);
    refuse_image(options, "is " + kind + ", but " + what + " not readable (" + error.message +
                              "); it is damaged or of a rare kind: convert it to JPEG or PNG");
  };
  const std::unique_ptr<heif_context, void (*)(heif_context*)> context(heif_context_alloc(), heif_context_free);
  if (!context) refuse_for_memory(options, {});
#if LIBHEIF_HAVE_VERSION(1, 13, 0)
  heif_context_set_max_decoding_threads(context.get(), 0);  // who decodes many pictures has threads of its own
#endif
  expect(heif_context_read_from_memory_without_copy(context.get(), bytes.data(), bytes.size(), nullptr), {},
         "its header is");
  heif_image_handle* handle = nullptr;
  expect(heif_context_get_primary_image_handle(context.get(), &handle), {}, "its header is");
  const std::unique_ptr<heif_image_handle, void (*)(const heif_image_handle*)> owner(handle, heif_image_handle_release);
  const ImageSize size{heif_image_handle_get_width(handle), heif_image_handle_get_height(handle)};
  constexpr std::size_t kBytesPerPixel = 16;  // the planes of up to 16 bits, the turned ones, the pixels twice
  admit_image(size, kBytesPerPixel, bytes.size(), options);
  // What is inside may be larger than the header says; a little, since it is coded in whole blocks and tiles, which
  // libheif counts from 1.19 on.
  constexpr int kMostTile = 1024;
  const Index limit = std::min(options.max_pixels, kMaxPixels);
  heif_context_set_maximum_image_size_limit(
      context.get(), static_cast<int>(std::ceil(std::sqrt(static_cast<double>(limit)))) + kMostTile);

  const bool alpha = heif_image_handle_has_alpha_channel(handle) != 0;
  const std::unique_ptr<heif_decoding_options, void (*)(heif_decoding_options*)> how(heif_decoding_options_alloc(),
                                                                                     heif_decoding_options_free);
  if (!how) refuse_for_memory(options, size);
  how->convert_hdr_to_8bit = 1;
  heif_image* decoded = nullptr;
  expect(heif_decode_image(handle, &decoded, heif_colorspace_RGB,
                           alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB, how.get()),
         size, "its pixels are");
  const std::unique_ptr<heif_image, void (*)(const heif_image*)> pixels(decoded, heif_image_release);
  int stride = 0;
  const std::uint8_t* from = heif_image_get_plane_readonly(decoded, heif_channel_interleaved, &stride);
  const ImageSize came{heif_image_get_primary_width(decoded), heif_image_get_primary_height(decoded)};
  if (!from || came != size || stride < size.width * (alpha ? 4 : 3))
    refuse_image(options, "is " + kind + " whose pixels are " + to_string(came) + ", expected " + to_string(size) +
                              " as its header says; the file is damaged");
  return flatten(from, size, alpha ? 4 : 3, static_cast<std::size_t>(stride), options.alpha);
}

}  // namespace gatefold::detail
#endif
