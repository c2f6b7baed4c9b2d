#pragma once
#include <optional>

#include "gatefold/image/decode.hpp"
#include "gatefold/image/resize.hpp"

namespace gatefold {

/// Where a crop begins when the margin is odd. They differ by a pixel when the margin is 3, 7, 11, ...
enum class CropRounding {
  down,      ///< Hugging Face's processors: margin / 2, rounded down.
  half_even  ///< torchvision's CenterCrop (OpenAI's CLIP, open_clip): Python's round(margin / 2).
};

enum class ResizeFilter { bicubic, bilinear };

/// The numbers of a preprocessor_config.json; the defaults are CLIP's.
struct ClipImageOptions {
  std::optional<Index> shortest_edge = 224;      ///< Resized to this, the other to int(edge * long / short).
  std::optional<ImageSize> exact_size{};         ///< Resized to this whatever the ratio; then no edge.
  std::optional<Index> longest_edge{};           ///< Resized to this, the other to round(edge * short / long).
  std::optional<ImageSize> crop = {{224, 224}};  ///< The middle; what the image does not cover becomes `fill`.
  std::uint8_t fill = 0;                         ///< In all three channels.
  ResizeFilter filter = ResizeFilter::bicubic;
  CropRounding rounding = CropRounding::down;
  double rescale_factor = 1.0 / 255.0;  ///< 1 to leave bytes as they are.
  Normalization normalization{.mean = {0.48145466, 0.4578275, 0.40821073},
                              .deviation = {0.26862954, 0.26130258, 0.27577711}};
  /// Over white as transformers from 5.24 on, whose processor does so with alpha and with a transparent colour; its
  /// older versions, OpenAI's CLIP and open_clip show the colours that stand beneath.
  Alpha alpha = Alpha::over_white;
};

/// How photographs are read for CLIP: transparent ones as the options have it; upright, as Hugging Face's load_image
/// and any viewer does (plain Image.open would not).
inline DecodeOptions clip_decode_options(const ClipImageOptions& options) {
  return {.alpha = options.alpha, .orientation = Orientation::upright};
}

/// An image as CLIP takes it, bit for bit as transformers' CLIPImageProcessor (and with CropRounding::half_even as
/// torchvision's transforms of OpenAI's CLIP and open_clip) makes it of the same RGB pixels with Pillow 11: antialiased
/// resize with bytes in between, crop, then in float: float(v * rescale_factor), minus float(mean), divided by
/// float(deviation). Images become RGB before they are resized, as in transformers and as the readers with which
/// open_clip trains; open_clip's and OpenAI's transforms resize palettes (to the nearest pixel) and images with an
/// alpha channel (in proportion to it) first. (The torch-only «fast» processor interpolates with fewer bits and differs
/// by a unit.)
class ClipPreprocess {
 public:
  static constexpr Index kMaxSide = 8192;

  /// Throws OptionError on sides outside 1..kMaxSide, several kinds of resize, or numbers that are not finite or, for
  /// the deviation, not positive.
  explicit ClipPreprocess(const ClipImageOptions& options = {}) : options_(options) {
    const auto expect_side = [](const char* name, Index side) {
      expect_option(side >= 1 && side <= kMaxSide, std::string("ClipPreprocess: ") + name + " is " +
                                                       std::to_string(side) + ", expected 1.." +
                                                       std::to_string(kMaxSide));
    };
    expect_option(
        options.shortest_edge.has_value() + options.exact_size.has_value() + options.longest_edge.has_value() <= 1,
        "ClipPreprocess: several of shortest_edge, longest_edge and exact_size are given, expected one of "
        "them");
    if (options.shortest_edge) expect_side("shortest_edge", *options.shortest_edge);
    if (options.longest_edge) expect_side("longest_edge", *options.longest_edge);
    if (options.exact_size) expect_side("width", options.exact_size->width);
    if (options.exact_size) expect_side("height", options.exact_size->height);
    if (options.crop) expect_side("crop width", options.crop->width);
    if (options.crop) expect_side("crop height", options.crop->height);
    const auto number = [](const char* name, double value, double least) {
      expect_option(std::isfinite(value) && value >= least && std::abs(value) <= 1e6,
                    std::string("ClipPreprocess: ") + name + " is " + std::to_string(value) + ", expected " +
                        (least > 0   ? "more than 0"
                         : least < 0 ? "a finite number"
                                     : "0 or more"));
      return static_cast<float>(value);
    };
    number("rescale_factor", options.rescale_factor, 0);
    for (std::size_t c = 0; c < 3; ++c) {
      const float mean = number("mean", options.normalization.mean[c], -1e6);
      const float deviation = number("deviation", options.normalization.deviation[c], 1e-6);
      for (std::size_t v = 0; v < 256; ++v)
        values_[c][v] = (static_cast<float>(static_cast<double>(v) * options.rescale_factor) - mean) / deviation;
    }
  }

  const ClipImageOptions& options() const { return options_; }

  /// The size of what comes out for an image of this size.
  ImageSize output_size(ImageSize image) const { return options_.crop.value_or(resized(image)); }

  /// Resized and cropped, still bytes. Only pixels within the crop are computed. Throws OptionError on an image without
  /// pixels or when nothing is cropped and the result would pass kMaxPixels.
  Image crop(const Image& image) const {
    expect_image(image, "ClipPreprocess");
    const ImageSize to = resized(image.size()), wanted = output_size(image.size());
    const Span across = middle(to.width, wanted.width), down = middle(to.height, wanted.height);
    const Region region{across.from, down.from, {across.count, down.count}};
    auto part = options_.filter == ResizeFilter::bicubic ? resize_region<Bicubic>(image, to, region)
                                                         : resize_region<Bilinear>(image, to, region);
    if (part.size() == wanted) return part;
    auto framed = Image::of_size(wanted);
    std::ranges::fill(framed.rgb, options_.fill);
    for (Index y = 0; y < down.count; ++y)
      std::copy_n(part.rgb.begin() + 3 * across.count * y, 3 * across.count,
                  framed.rgb.begin() + 3 * (wanted.width * (down.to + y) + across.to));
    return framed;
  }

  /// Normalised colour planes, the pixel_values of transformers. Throws ShapeError, OptionError.
  template <Real T>
  void planes(const Image& image, std::type_identity_t<View<T, 3>> pixels) const {  // [3, height, width]
    const auto size = output_size(image.size());
    expect_shape(pixels, {3, size.height, size.width}, "ClipPreprocess::planes: pixels");
    const auto bytes = crop(image);
    for (Index c = 0; c < 3; ++c)
      for (Index y = 0; y < size.height; ++y)
        for (Index x = 0; x < size.width; ++x) pixels(c, y, x) = value<T>(bytes, c, y, x);
  }

  /// The same numbers with the colours of a pixel side by side, as PatchEmbed takes them. Throws ShapeError,
  /// OptionError.
  template <Real T>
  void interleaved(const Image& image, std::type_identity_t<View<T, 3>> pixels) const {  // [height, width, 3]
    const auto size = output_size(image.size());
    expect_shape(pixels, {size.height, size.width, 3}, "ClipPreprocess::interleaved: pixels");
    const auto bytes = crop(image);
    for (Index y = 0; y < size.height; ++y)
      for (Index x = 0; x < size.width; ++x)
        for (Index c = 0; c < 3; ++c) pixels(y, x, c) = value<T>(bytes, c, y, x);
  }

 private:
  /// A stretch of an axis: `count` positions from `from` in the resized image, from `to` in the crop.
  struct Span {
    Index from = 0, to = 0, count = 0;
  };

  template <Real T>
  T value(const Image& bytes, Index c, Index y, Index x) const {
    return T(values_[static_cast<std::size_t>(c)][bytes.rgb[static_cast<std::size_t>(3 * (bytes.width * y + x) + c)]]);
  }

  ImageSize resized(ImageSize image) const {
    if (options_.exact_size) return *options_.exact_size;
    if (options_.longest_edge) {  // open_clip's ResizeKeepRatio: Python's round, in double
      const double edge = static_cast<double>(*options_.longest_edge);
      const double ratio = static_cast<double>(std::max(image.width, image.height)) / edge;
      const auto side = [&](Index of) {
        return std::max<Index>(1, static_cast<Index>(std::nearbyint(static_cast<double>(of) / ratio)));
      };
      return {side(image.width), side(image.height)};
    }
    if (!options_.shortest_edge) return image;
    const Index shorter = std::min(image.width, image.height), edge = *options_.shortest_edge;
    return {edge * image.width / shorter, edge * image.height / shorter};
  }

  Span middle(Index have, Index want) const {
    const Index margin = have - want;
    if (margin < 0) {  // filled on both sides; of an odd number of pixels
      const Index before = options_.rounding == CropRounding::down ? (1 - margin) / 2 : -margin / 2;
      return {0, before, have};
    }
    const bool up = options_.rounding == CropRounding::half_even && margin % 4 == 3;  // k + 1/2 with k odd
    return {margin / 2 + up, 0, want};
  }

  ClipImageOptions options_;
  std::array<std::array<float, 256>, 3> values_{};  // [channel][byte]
};

}  // namespace gatefold
