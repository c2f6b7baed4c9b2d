#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "gatefold/image/image.hpp"

namespace gatefold {

/// Keys' cubic kernel with a = -0.5 (Keys, 1981), the one Pillow calls BICUBIC; OpenCV and torch have a = -0.75.
struct Bicubic {
  static constexpr double kSupport = 2.0;
  static double weight(double x) {
    constexpr double a = -0.5;
    x = std::abs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
  }
};

/// The triangle kernel, Pillow's BILINEAR; antialiased as well.
struct Bilinear {
  static constexpr double kSupport = 1.0;
  static double weight(double x) { return std::max(0.0, 1.0 - std::abs(x)); }
};

namespace detail {

inline constexpr int kWeightBits = 22;  ///< Pillow's PRECISION_BITS: 32 - 8 bits of a byte - 2 for overshoot.

/// The input positions that one output position is mixed from, and their fixed-point weights.
struct Taps {
  Index begin = 0;
  std::vector<std::int32_t> weights{};
};

/// One axis' taps. The kernel widens by the scale when shrinking (antialiasing) and is cut and renormalised at borders.
template <class Kernel>
Taps taps_at(Index output, Index from, Index to) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double widen = std::max(scale, 1.0), support = Kernel::kSupport * widen;
  const double center = (static_cast<double>(output) + 0.5) * scale;
  const Index begin = std::max<Index>(0, static_cast<Index>(center - support + 0.5));
  const Index end = std::min(from, static_cast<Index>(center + support + 0.5));
  std::vector<double> exact(static_cast<std::size_t>(end - begin));
  double sum = 0.0;
  const double shrink = 1.0 / widen;  // multiplied, not divided: the last bit decides a rounding now and then
  for (Index i = begin; i < end; ++i)
    sum += exact[static_cast<std::size_t>(i - begin)] =
        Kernel::weight((static_cast<double>(i) - center + 0.5) * shrink);
  Taps taps{begin, std::vector<std::int32_t>(exact.size())};
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double weight = (sum != 0.0 ? exact[i] / sum : exact[i]) * (1 << kWeightBits);
    taps.weights[i] = static_cast<std::int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5);
  }
  return taps;
}

template <class Kernel>
std::vector<Taps> taps_of_axis(Index from, Index to) {
  std::vector<Taps> taps;
  taps.reserve(static_cast<std::size_t>(to));
  for (Index output = 0; output < to; ++output) taps.push_back(taps_at<Kernel>(output, from, to));
  return taps;
}

inline std::uint8_t rounded_byte(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}
inline constexpr std::int32_t kHalf = 1 << (kWeightBits - 1);

/// Some positions of an axis of the result: [begin, begin + count).
struct Stretch {
  Index begin = 0, count = 0;
};

/// Taps of those positions of an axis that goes from `from` to `to`; for an axis that keeps its size one tap of weight
/// one, which gives the very byte.
template <class Kernel>
std::vector<Taps> taps_of_axis(Index from, Index to, Stretch stretch) {
  std::vector<Taps> taps;
  taps.reserve(static_cast<std::size_t>(stretch.count));
  for (Index output = stretch.begin; output < stretch.begin + stretch.count; ++output)
    taps.push_back(from == to ? Taps{output, {1 << kWeightBits}} : taps_at<Kernel>(output, from, to));
  return taps;
}

/// One row of pixels, mixed along itself.
inline void resize_row(const std::uint8_t* from, const std::vector<Taps>& columns, std::uint8_t* to) {
  for (const auto& taps : columns) {
    std::int32_t red = kHalf, green = kHalf, blue = kHalf;
    const std::uint8_t* pixel = from + 3 * taps.begin;
    for (const std::int32_t weight : taps.weights) {
      red += pixel[0] * weight;
      green += pixel[1] * weight;
      blue += pixel[2] * weight;
      pixel += 3;
    }
    to[0] = rounded_byte(red);
    to[1] = rounded_byte(green);
    to[2] = rounded_byte(blue);
    to += 3;
  }
}

}  // namespace detail

/// A rectangle of pixels.
struct Region {
  Index left = 0, top = 0;
  ImageSize size{};
};

/// The pixels of `region` of the image resized to `to`, and only what these need is computed: an elongated image costs
/// no more than a square one. Otherwise as `resize`. Throws OptionError on a region that is not within the result.
template <class Kernel>
Image resize_region(const Image& image, ImageSize to, const Region& region) {
  expect_image(image, "resize");
  expect_option(to.width > 0 && to.height > 0, "resize: size is " + to_string(to) + ", expected at least 1 x 1");
  expect_size(region.size, "resize");
  expect_option(region.left >= 0 && region.top >= 0 && region.left <= to.width - region.size.width &&
                    region.top <= to.height - region.size.height,
                "resize: region of " + to_string(region.size) + " at " + std::to_string(region.left) + ", " +
                    std::to_string(region.top) + " is not within " + to_string(to));
  const auto columns = detail::taps_of_axis<Kernel>(image.width, to.width, {region.left, region.size.width});
  const auto rows = detail::taps_of_axis<Kernel>(image.height, to.height, {region.top, region.size.height});
  const Index first = rows.front().begin;
  const Index last = rows.back().begin + static_cast<Index>(rows.back().weights.size());
  expect_size({region.size.width, last - first}, "resize: between the passes");

  auto narrow = Image::of_size({region.size.width, last - first});  // columns done, rows to do
  const Index line = 3 * region.size.width;
  for (Index y = first; y < last; ++y)
    detail::resize_row(&image.rgb[static_cast<std::size_t>(3 * image.width * y)], columns,
                       &narrow.rgb[static_cast<std::size_t>(line * (y - first))]);
  if (image.height == to.height) return narrow;

  auto result = Image::of_size(region.size);
  std::vector<std::int32_t> sums(static_cast<std::size_t>(line));
  auto out = result.rgb.begin();
  for (const auto& taps : rows) {
    std::fill(sums.begin(), sums.end(), detail::kHalf);
    const std::uint8_t* from = &narrow.rgb[static_cast<std::size_t>(line * (taps.begin - first))];
    for (const std::int32_t weight : taps.weights) {
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += from[i] * weight;
      from += line;
    }
    out = std::transform(sums.begin(), sums.end(), out, detail::rounded_byte);
  }
  return result;
}

/// Antialiased separable resampling, bit for bit the `Image.resize` of Pillow 11 and before on RGB (Resample.c):
/// columns first, rounded to bytes, then rows; 22-bit weights; an axis that keeps its size is left alone. (Pillow 13
/// takes the rows of tall images first and so differs by a rounding; models like CLIP were trained and measured with
/// the older.) Throws OptionError on a target without pixels or above kMaxPixels. Cost: about 12 (w' h + w' h')
/// multiplications when enlarging, in proportion to the scale when shrinking.
template <class Kernel = Bicubic>
Image resize(const Image& image, ImageSize to) {
  expect_size(to, "resize");
  return resize_region<Kernel>(image, to, {.size = to});
}

/// The middle of an image; an odd margin leaves its larger half right and below (as Hugging Face's processors do,
/// while torchvision rounds half to even). Throws OptionError when the crop is larger than the image.
inline Image center_crop(const Image& image, ImageSize to) {
  expect_image(image, "center_crop");
  expect_size(to, "center_crop");
  expect_option(to.width <= image.width && to.height <= image.height,
                "center_crop: crop is " + to_string(to) + ", expected at most the image's " + to_string(image.size()));
  const Index left = (image.width - to.width) / 2, top = (image.height - to.height) / 2;
  auto result = Image::of_size(to);
  for (Index y = 0; y < to.height; ++y)
    std::copy_n(image.rgb.begin() + ((top + y) * image.width + left) * 3, to.width * 3,
                result.rgb.begin() + y * to.width * 3);
  return result;
}

/// A square of `side` pixels: the shorter side is resized to `side`, the longer one to int(side * long / short), then
/// the middle is cut out. Throws OptionError on a side without pixels or when the resized image would pass kMaxPixels.
template <class Kernel = Bicubic>
Image fit_square(const Image& image, Index side) {
  expect_image(image, "fit_square");
  expect_size({side, side}, "fit_square");
  const Index shorter = std::min(image.width, image.height);
  const ImageSize to{.width = side * image.width / shorter, .height = side * image.height / shorter};
  expect_size(to, "fit_square");
  return resize_region<Kernel>(image, to, {(to.width - side) / 2, (to.height - side) / 2, {side, side}});
}

}  // namespace gatefold
