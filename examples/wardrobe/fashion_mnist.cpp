#include "wardrobe/fashion_mnist.hpp"

#include <algorithm>

#include "gatefold/core/error.hpp"
#include "wardrobe/idx.hpp"

namespace wardrobe {
namespace {

/// Below this a pixel of a photo counts as background.
constexpr std::uint8_t kDarkest = 12;

/// Makes the dark cloth inside a top, a dress or trousers dark instead of transparent: what no path of dark pixels
/// joins to the photo's edge is lifted to `lift`.
void fill_holes(std::span<std::uint8_t> photo, std::uint8_t lift) {  // photo [28, 28]
  std::array<Index, kPhotoPixels> open{};
  std::array<bool, kPhotoPixels> outside{};
  Index open_count = 0;
  const auto visit = [&](Index x, Index y) {
    if (x < 0 || y < 0 || x >= kPhotoEdge || y >= kPhotoEdge) return;
    const auto at = static_cast<std::size_t>(y * kPhotoEdge + x);
    if (outside[at] || photo[at] > kDarkest) return;
    outside[at] = true;
    open[static_cast<std::size_t>(open_count++)] = y * kPhotoEdge + x;
  };
  for (Index i = 0; i < kPhotoEdge; ++i) visit(i, 0), visit(i, kPhotoEdge - 1), visit(0, i), visit(kPhotoEdge - 1, i);
  while (open_count > 0) {
    const Index at = open[static_cast<std::size_t>(--open_count)], x = at % kPhotoEdge, y = at / kPhotoEdge;
    visit(x - 1, y), visit(x + 1, y), visit(x, y - 1), visit(x, y + 1);
  }
  for (std::size_t at = 0; at < outside.size(); ++at) {
    if (!outside[at]) photo[at] = std::max(photo[at], lift);
  }
}

/// Straps and handles have holes that one should see through.
bool has_holes(std::uint8_t label) {
  const auto garment = static_cast<ObjectClass>(label);
  return garment == ObjectClass::sandal || garment == ObjectClass::bag;
}

Photos load_photos(const std::filesystem::path& folder, const std::string& prefix, Index count) {
  auto data = read_labelled(folder, prefix, {.count = count, .edge = kPhotoEdge, .classes = kGarmentCount});
  Photos photos;
  photos.pixels = std::move(data.images.values);
  photos.labels = std::move(data.labels.values);
  for (Index i = 0; i < count; ++i) {
    const auto label = photos.labels[static_cast<std::size_t>(i)];
    photos.of_class[label].push_back(i);
    Index sum = 0, lit = 0;
    for (const std::uint8_t value : photos.photo(i)) {
      if (value > kDarkest) sum += value, ++lit;
    }
    const Index mean = lit ? sum / lit : 0;
    photos.mean_lightness.push_back(static_cast<float>(mean));
    if (!has_holes(label)) fill_holes(photos.mutable_photo(i), static_cast<std::uint8_t>(mean / 2));
  }
  for (std::size_t label = 0; label < photos.of_class.size(); ++label) {
    if (photos.of_class[label].empty())
      throw gatefold::FormatError((folder / prefix).string() + ": has no photo of class " + std::to_string(label));
  }
  return photos;
}

}  // namespace

FashionMnist load_fashion_mnist(const std::filesystem::path& folder, const SplitSizes& sizes) try {
  return {load_photos(folder, "train", sizes.train), load_photos(folder, "t10k", sizes.test)};
} catch (const gatefold::FormatError& error) {
  throw gatefold::FormatError("Fashion-MNIST: " + std::string(error.what()) +
                              "; install the Debian package dataset-fashion-mnist, or name the folder of its four idx "
                              ".gz files with --fashion-mnist DIR");
}

}  // namespace wardrobe
