#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "gatefold/core/error.hpp"
#include "gatefold/core/scalar.hpp"
#include "gatefold/core/view.hpp"

namespace gatefold {

/// No image has more: what stb_image can hold of four channels, 768 MiB as RGB.
inline constexpr Index kMaxPixels = Index{256} * 1024 * 1024;
/// Where files from outside are refused before a pixel is touched, unless somebody says otherwise: Pillow warns of a
/// decompression bomb from here on (Image.MAX_IMAGE_PIXELS).
inline constexpr Index kUsualPixels = 89'478'485;

struct ImageSize {
  Index width = 0, height = 0;
  bool operator==(const ImageSize&) const = default;
};

/// «640 x 480», for messages.
inline std::string to_string(ImageSize size) {
  return std::to_string(size.width) + " x " + std::to_string(size.height);
}

/// Throws OptionError unless both sides are positive and the area is at most kMaxPixels (so 3 * area never overflows).
inline void expect_size(ImageSize size, const std::string& who) {
  expect_option(size.width > 0 && size.height > 0 && size.width <= kMaxPixels / size.height,
                who + ": size is " + to_string(size) + ", expected at least 1 x 1 and at most " +
                    std::to_string(kMaxPixels) + " pixels");
}

/// Eight-bit RGB, row after row, three bytes a pixel. A value.
struct Image {
  Index width = 0, height = 0;
  std::vector<std::uint8_t> rgb{};  // [height, width, 3]

  /// A black image. Throws OptionError on a size without pixels or above kMaxPixels.
  static Image of_size(ImageSize size) {
    expect_size(size, "Image::of_size");
    return {size.width, size.height, std::vector<std::uint8_t>(static_cast<std::size_t>(size.width * size.height * 3))};
  }

  ImageSize size() const { return {width, height}; }
  View<std::uint8_t, 3> pixels() { return {rgb.data(), {height, width, 3}}; }              // [height, width, 3]
  View<const std::uint8_t, 3> pixels() const { return {rgb.data(), {height, width, 3}}; }  // [height, width, 3]
  bool operator==(const Image&) const = default;
};

/// Throws OptionError unless the sides are positive and `rgb` holds exactly width * height pixels.
inline void expect_image(const Image& image, const std::string& who) {
  expect_size(image.size(), who);
  expect_option(static_cast<Index>(image.rgb.size()) == image.width * image.height * 3,
                who + ": image of " + to_string(image.size()) + " holds " + std::to_string(image.rgb.size()) +
                    " bytes, expected " + std::to_string(image.width * image.height * 3));
}

/// What a model sees of a byte v: (v / 255 - mean) / deviation for each channel. The default maps 0..255 to [-1, 1].
struct Normalization {
  std::array<double, 3> mean{0.5, 0.5, 0.5};
  std::array<double, 3> deviation{0.5, 0.5, 0.5};
};

namespace detail {
/// One table look-up a value instead of two divisions; there are only 3 * 256 results.
template <Real T>
std::array<std::array<T, 256>, 3> normalized_bytes(const Normalization& normalization, const std::string& who) {
  std::array<std::array<T, 256>, 3> table{};
  for (std::size_t c = 0; c < 3; ++c) {
    expect_option(normalization.deviation[c] > 0, who + ": deviation of channel " + std::to_string(c) + " is " +
                                                      std::to_string(normalization.deviation[c]) +
                                                      ", expected a positive number");
    for (std::size_t v = 0; v < 256; ++v)
      table[c][v] = T((static_cast<double>(v) / 255.0 - normalization.mean[c]) / normalization.deviation[c]);
  }
  return table;
}
}  // namespace detail

/// Normalised colour planes, the layout of torchvision and CLIP (CHW). Throws ShapeError, OptionError.
template <Real T>
void to_planes(const Image& image, std::type_identity_t<View<T, 3>> planes,  // [3, height, width]
               const Normalization& normalization = {}) {
  expect_image(image, "to_planes");
  expect_shape(planes, {3, image.height, image.width}, "to_planes: planes");
  const auto table = detail::normalized_bytes<T>(normalization, "to_planes");
  const auto pixels = image.pixels();
  for (Index c = 0; c < 3; ++c)
    for (Index y = 0; y < image.height; ++y)
      for (Index x = 0; x < image.width; ++x) planes(c, y, x) = table[static_cast<std::size_t>(c)][pixels(y, x, c)];
}

/// Normalised patches, one row a patch, patches in reading order. Inside a row the channel is outermost, then y, then
/// x: the order of a flattened convolution weight [D, 3, P, P], so that weight is the patch embedding's weight as it
/// stands. `side` is the patch side P and must divide both sides of the image. Throws ShapeError, OptionError.
template <Real T>
void to_patches(const Image& image, Index side, std::type_identity_t<Rows<T>> rows,  // [T, 3 * P * P]
                const Normalization& normalization = {}) {
  expect_image(image, "to_patches");
  expect_option(side > 0 && image.width % side == 0 && image.height % side == 0,
                "to_patches: side is " + std::to_string(side) + ", expected a divisor of both sides of an image of " +
                    to_string(image.size()));
  const Index across = image.width / side, down = image.height / side;
  expect_shape(rows, {across * down, 3 * side * side}, "to_patches: rows");
  const auto table = detail::normalized_bytes<T>(normalization, "to_patches");
  const auto pixels = image.pixels();
  for (Index patch = 0; patch < across * down; ++patch) {
    const Index top = patch / across * side, left = patch % across * side;
    Index at = 0;
    for (Index c = 0; c < 3; ++c)
      for (Index y = top; y < top + side; ++y)
        for (Index x = left; x < left + side; ++x)
          rows(patch, at++) = table[static_cast<std::size_t>(c)][pixels(y, x, c)];
  }
}

}  // namespace gatefold
