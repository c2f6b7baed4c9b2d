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

/// The mean weighted by `taps` of bytes `stride` apart, rounded and clipped to a byte.
inline std::uint8_t mix(const std::uint8_t* from, const Taps& taps, Index stride) {
  std::int32_t sum = 1 << (kWeightBits - 1);
  for (const std::int32_t weight : taps.weights) {
    sum += *from * weight;
    from += stride;
  }
  return static_cast<std::uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}

template <class Kernel>
Image resize_columns(const Image& image, Index width) {
  if (width == image.width) return image;
  auto result = Image::of_size({width, image.height});
  const auto columns = taps_of_axis<Kernel>(image.width, width);
  const auto in = image.pixels();
  auto out = result.rgb.begin();
  for (Index y = 0; y < image.height; ++y)
    for (const auto& taps : columns)
      for (Index c = 0; c < 3; ++c) *out++ = mix(&in(y, taps.begin, c), taps, 3);
  return result;
}

template <class Kernel>
Image resize_rows(const Image& image, Index height) {
  if (height == image.height) return image;
  auto result = Image::of_size({image.width, height});
  const auto in = image.pixels();
  auto out = result.rgb.begin();
  for (const auto& taps : taps_of_axis<Kernel>(image.height, height))
    for (Index i = 0; i < 3 * image.width; ++i) *out++ = mix(&in(taps.begin, 0, 0) + i, taps, 3 * image.width);
  return result;
}

}  // namespace detail

/// Antialiased separable resampling, bit for bit the `Image.resize` of Pillow 11 and before on RGB (Resample.c):
/// columns first, rounded to bytes, then rows; 22-bit weights; an axis that keeps its size is left alone. (Pillow 13
/// takes the rows of tall images first and so differs by a rounding; models like CLIP were trained and measured with
/// the older.) Throws OptionError on a target without pixels or above kMaxPixels. Cost: about 12 (w' h + w' h')
/// multiplications when enlarging, in proportion to the scale when shrinking.
template <class Kernel = Bicubic>
Image resize(const Image& image, ImageSize to) {
  expect_image(image, "resize");
  expect_size(to, "resize");
  expect_size({to.width, image.height}, "resize: between the passes");
  return detail::resize_rows<Kernel>(detail::resize_columns<Kernel>(image, to.width), to.height);
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

/// A square of `side` pixels as CLIP takes it: the shorter side is resized to `side`, the longer one to
/// int(side * long / short), then the middle is cut out. Throws OptionError when the image is so elongated that the
/// resized one would pass kMaxPixels.
template <class Kernel = Bicubic>
Image fit_square(const Image& image, Index side) {
  expect_image(image, "fit_square");
  expect_size({side, side}, "fit_square");
  const Index shorter = std::min(image.width, image.height);
  return center_crop(
      resize<Kernel>(image, {.width = side * image.width / shorter, .height = side * image.height / shorter}),
      {side, side});
}

}  // namespace gatefold
