#pragma once
#include <algorithm>
#include <array>

#include "gatefold/image/resize.hpp"

namespace zero_shot {

using gatefold::Image;
using gatefold::Index;

enum class Fit {
  whole,   ///< All of the picture, its missing sides filled with the mean colour of its own border.
  centre,  ///< The square in the middle, as CLIP takes it.
};

/// The mean colour of the outermost pixels: what stands behind the thing, in most pictures of one thing.
inline std::array<std::uint8_t, 3> border_colour(const Image& image) {
  std::array<double, 3> sum{};
  double count = 0;
  const auto pixels = image.pixels();
  for (Index y = 0; y < image.height; ++y) {
    const bool whole_row = y == 0 || y == image.height - 1;
    for (Index x = 0; x < image.width; x += whole_row ? 1 : std::max<Index>(1, image.width - 1)) {
      for (Index c = 0; c < 3; ++c) sum[static_cast<std::size_t>(c)] += pixels(y, x, c);
      ++count;
    }
  }
  std::array<std::uint8_t, 3> mean{};
  for (std::size_t c = 0; c < 3; ++c) mean[c] = static_cast<std::uint8_t>(sum[c] / count + 0.5);
  return mean;
}

/// A square of `side` pixels for the model, by antialiased bicubic resampling. Throws OptionError for Fit::centre when
/// the image is so elongated that it would not fit into memory.
inline Image fit(const Image& image, Index side, Fit how) {
  if (image.width == side && image.height == side) return image;
  if (how == Fit::centre) return gatefold::fit_square(image, side);
  const Index longer = std::max(image.width, image.height);
  const auto scaled = [&](Index edge) { return std::max<Index>(1, (edge * side + longer / 2) / longer); };
  const Image small = gatefold::resize(image, {.width = scaled(image.width), .height = scaled(image.height)});
  Image square = Image::of_size({side, side});
  const auto colour = border_colour(image);
  for (std::size_t i = 0; i < square.rgb.size(); ++i) square.rgb[i] = colour[i % 3];
  const Index left = (side - small.width) / 2, top = (side - small.height) / 2;
  for (Index y = 0; y < small.height; ++y)
    std::copy_n(small.rgb.begin() + y * small.width * 3, small.width * 3,
                square.rgb.begin() + ((top + y) * side + left) * 3);
  return square;
}

}  // namespace zero_shot
