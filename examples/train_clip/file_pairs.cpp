#include "train_clip/file_pairs.hpp"

#include "gatefold/image/decode.hpp"

namespace train_clip {
namespace {

/// FNV-1a.
std::uint64_t hash_of(std::string_view text, std::uint64_t hash = 0xcbf29ce484222325u) {
  for (const char c : text) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3u;
  return (hash ^ text.size()) * 0x100000001b3u;
}

}  // namespace

std::uint64_t FilePairs::meaning(Index picture, Index which) const { return hash_of(caption(picture, which)); }

gatefold::Image random_part(const gatefold::Image& image, gatefold::Rng& rng) {
  const auto span = [&](Index side) {
    const auto part = std::max<Index>(1, static_cast<Index>(static_cast<double>(side) * rng.uniform(0.9, 1)));
    return std::pair(part, rng.below(side - part + 1));
  };
  const auto [width, left] = span(image.width);
  const auto [height, top] = span(image.height);
  const bool mirrored = rng.below(2) == 1;
  auto part = gatefold::Image::of_size({width, height});
  const auto from = image.pixels();
  const auto to = part.pixels();
  for (Index y = 0; y < height; ++y)
    for (Index x = 0; x < width; ++x)
      for (Index c = 0; c < 3; ++c) to(y, mirrored ? width - 1 - x : x, c) = from(top + y, left + x, c);
  return part;
}

void FilePairs::draw(Index picture, gatefold::Rng* augment, gatefold::View<float, 3> out) const {
  for (Index attempt = 0;; ++attempt) {
    const auto& path = of((picture + attempt) % size()).photo;
    try {
      auto image = gatefold::decode_image_file(path, gatefold::clip_decode_options(preprocess_.options()));
      if (augment) image = random_part(image, *augment);
      preprocess_.interleaved<float>(image, out);
      return;
    } catch (const gatefold::FormatError& error) {
      if (!skip_bad_ || attempt + 1 == size())
        throw gatefold::FormatError(
            path.string() + ": " + error.what() +
            (skip_bad_ ? "; no photograph can be read" : "; --skip-bad true lets the next one take its place"));
      ++unreadable_;
    }
  }
}

std::string FilePairs::identity() const {
  std::uint64_t hash = 0;
  for (const auto& [photo, captions] : captions_.photos) {
    hash = hash_of(photo.string(), hash);
    for (const auto& caption : captions) hash = hash_of(caption, hash);
  }
  return std::to_string(size()) + " photographs, " + std::to_string(hash);
}

}  // namespace train_clip
