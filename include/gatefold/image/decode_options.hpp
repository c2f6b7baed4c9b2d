#pragma once
#include <algorithm>
#include <functional>
#include <string>

#include "gatefold/image/image.hpp"
#include "gatefold/image/kind.hpp"

namespace gatefold {

/// What becomes of transparency.
enum class Alpha {
  over_white,  ///< Composited over white: v' = (a v + (255 - a) 255) / 255, rounded. What a person sees.
  ignored      ///< The colours that stand beneath, as Pillow's convert("RGB") has them. What most CLIPs were given.
};
/// What becomes of a camera's note how it was held. A HEIC or AVIF is turned in either case: there it is no note, but
/// a part of the picture.
enum class Orientation {
  as_stored,  ///< Ignored, as by Pillow's Image.open.
  upright     ///< Followed, as by Pillow's ImageOps.exif_transpose and Hugging Face's load_image.
};

struct DecodeOptions {
  std::string name = "decode_image: image";  ///< Begins each message; decode_image_file puts the path here.
  Index max_pixels = kUsualPixels;           ///< Larger images are refused from their header; at most kMaxPixels.
  Alpha alpha = Alpha::over_white;
  Orientation orientation = Orientation::as_stored;
  std::string limit_name = "DecodeOptions::max_pixels";  ///< How a message tells to raise the limit.
  /// Is told from the header, before the first pixel, how many bytes decoding will need at its peak, the file's own
  /// among them. It may wait (MemoryBudget) or throw.
  std::function<void(std::size_t bytes)> reserve{};
};

namespace detail {

[[noreturn]] inline void refuse_image(const DecodeOptions& options, const std::string& why) {
  throw FormatError(options.name + ": " + why);
}
[[noreturn]] inline void refuse_for_memory(const DecodeOptions& options, ImageSize size) {
  throw MemoryError(options.name + ": there is not enough memory to decode " + to_string(size) +
                    " pixels; decode fewer at a time, or scale it down first");
}

/// The door for a size that a header states: within the limit, and the memory there.
inline void admit_image(ImageSize size, std::size_t bytes_per_pixel, std::size_t file_bytes,
                        const DecodeOptions& options) {
  const Index limit = std::min(options.max_pixels, kMaxPixels);
  if (size.width <= 0 || size.height <= 0 || size.width > limit / size.height)
    refuse_image(options, "is " + to_string(size) + ", expected at least 1 x 1 and at most " + std::to_string(limit) +
                              " pixels; scale it down first" +
                              (limit < kMaxPixels ? ", or raise " + options.limit_name : ""));
  if (options.reserve)
    options.reserve(static_cast<std::size_t>(size.width * size.height) * bytes_per_pixel + file_bytes);
}

/// RGB of decoded pixels with 1 (grey), 2 (grey, alpha), 3 or 4 (alpha) bytes each, `stride` bytes from row to row.
inline Image flatten(const std::uint8_t* from, ImageSize size, int channels, std::size_t stride, Alpha alpha) {
  auto image = Image::of_size(size);
  const bool blend = (channels == 2 || channels == 4) && alpha == Alpha::over_white, grey = channels <= 2;
  auto* to = image.rgb.data();
  for (Index y = 0; y < size.height; ++y) {
    const std::uint8_t* pixel = from + static_cast<std::size_t>(y) * stride;
    for (Index x = 0; x < size.width; ++x, pixel += channels) {
      const unsigned a = blend ? pixel[channels - 1] : 255u;
      for (std::size_t c = 0; c < 3; ++c)
        *to++ = static_cast<std::uint8_t>((a * pixel[grey ? 0 : c] + (255u - a) * 255u + 127u) / 255u);
    }
  }
  return image;
}

}  // namespace detail
}  // namespace gatefold
