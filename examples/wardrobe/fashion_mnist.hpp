#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "wardrobe/scene.hpp"

namespace wardrobe {

inline constexpr Index kPhotoEdge = 28, kPhotoPixels = kPhotoEdge * kPhotoEdge;
inline constexpr const char* kDebianFashionMnist = "/usr/share/datasets/fashion-mnist";

/// The photographs of one split of Fashion-MNIST (Xiao, Rasul, Vollgraf 2017; MIT licence), grey, bright on black.
struct Photos {
  std::vector<std::uint8_t> pixels;   ///< [R, 28, 28], holes in the cloth filled
  std::vector<std::uint8_t> labels;   ///< [R], 0..9
  std::vector<float> mean_lightness;  ///< [R] mean over the garment's own pixels: tints are relative to it
  std::array<std::vector<Index>, kGarmentCount> of_class;

  std::span<const std::uint8_t> photo(Index i) const {
    return std::span(pixels).subspan(static_cast<std::size_t>(i * kPhotoPixels), kPhotoPixels);
  }
  std::span<std::uint8_t> mutable_photo(Index i) {
    return std::span(pixels).subspan(static_cast<std::size_t>(i * kPhotoPixels), kPhotoPixels);
  }
};
struct FashionMnist {
  Photos train, test;
};

/// How many photos a split must hold; the defaults are the published counts.
struct SplitSizes {
  Index train = 60000, test = 10000;
};

/// Loads and checks the four idx .gz files of `folder`: magic numbers, extents, counts, label range, exact size, and
/// that every class occurs. Throws std::runtime_error that says which file, what came and what to do about it.
FashionMnist load_fashion_mnist(const std::filesystem::path& folder = kDebianFashionMnist,
                                const SplitSizes& sizes = {});

}  // namespace wardrobe
