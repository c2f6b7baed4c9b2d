#include "wardrobe/fashion_mnist.hpp"

#include <zlib.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "gatefold/core/error.hpp"

namespace wardrobe {
namespace {

[[noreturn]] inline void refuse_file(const std::filesystem::path& file, const std::string& what) {
  throw gatefold::FormatError(
      "Fashion-MNIST: " + file.string() + ": " + what +
      "; install the Debian package dataset-fashion-mnist, or name the folder of its four idx .gz "
      "files with --fashion-mnist DIR");
}

/// Inflates exactly `size` bytes: a shorter or longer stream, or a damaged one, is refused.
std::vector<std::uint8_t> read_gzip(const std::filesystem::path& file, Index size) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> stream(gzopen(file.c_str(), "rb"), gzclose);
  if (!stream) refuse_file(file, "cannot be opened");
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size) + 1);  // one more byte shows a file that is too long
  Index filled = 0;
  while (filled <= size) {
    const int count = gzread(stream.get(), bytes.data() + filled, static_cast<unsigned>(size + 1 - filled));
    if (count < 0) refuse_file(file, "is damaged (zlib refuses it)");
    if (count == 0) break;
    filled += count;
  }
  int state = Z_OK;
  gzerror(stream.get(), &state);
  if (state != Z_OK && state != Z_STREAM_END) refuse_file(file, "is damaged or cut off (zlib refuses it)");
  if (filled != size) {
    refuse_file(file, "holds " + (filled > size ? "more than " + std::to_string(size) : std::to_string(filled)) +
                          " bytes, expected " + std::to_string(size));
  }
  bytes.pop_back();
  return bytes;
}

/// Checks the idx header (magic 0x08 = bytes, then the rank, then big-endian extents) and returns what follows it.
std::vector<std::uint8_t> read_idx(const std::filesystem::path& file, const std::vector<Index>& extents) {
  Index count = 1;
  for (const Index extent : extents) count *= extent;
  const Index header = 4 + 4 * static_cast<Index>(extents.size());
  auto bytes = read_gzip(file, header + count);
  const auto word = [&](std::size_t i) {
    return std::uint32_t{bytes[i]} << 24 | std::uint32_t{bytes[i + 1]} << 16 | std::uint32_t{bytes[i + 2]} << 8 |
           bytes[i + 3];
  };
  const auto expect = [&](const char* what, std::uint32_t came, Index wanted) {
    if (came == static_cast<std::uint32_t>(wanted)) return;
    refuse_file(file, std::string(what) + " is " + std::to_string(came) + ", expected " + std::to_string(wanted));
  };
  expect("the idx magic number", word(0), 0x800 + static_cast<Index>(extents.size()));
  for (std::size_t axis = 0; axis < extents.size(); ++axis) {
    expect(axis == 0 ? "the count" : "the edge of a photo", word(4 + 4 * axis), extents[axis]);
  }
  bytes.erase(bytes.begin(), bytes.begin() + header);
  return bytes;
}

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
  Photos photos;
  photos.pixels = read_idx(folder / (prefix + "-images-idx3-ubyte.gz"), {count, kPhotoEdge, kPhotoEdge});
  const auto label_file = folder / (prefix + "-labels-idx1-ubyte.gz");
  photos.labels = read_idx(label_file, {count});
  for (Index i = 0; i < count; ++i) {
    const auto label = photos.labels[static_cast<std::size_t>(i)];
    if (label >= kGarmentCount) {
      refuse_file(label_file, "label " + std::to_string(i) + " is " + std::to_string(label) + ", expected 0 to 9");
    }
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
    if (photos.of_class[label].empty()) refuse_file(label_file, "has no photo of class " + std::to_string(label));
  }
  return photos;
}

}  // namespace

FashionMnist load_fashion_mnist(const std::filesystem::path& folder, const SplitSizes& sizes) {
  return {load_photos(folder, "train", sizes.train), load_photos(folder, "t10k", sizes.test)};
}

}  // namespace wardrobe
