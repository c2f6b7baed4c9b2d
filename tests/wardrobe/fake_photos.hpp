#pragma once
#include <algorithm>
#include <array>
#include <cstdint>

#include "wardrobe/fashion_mnist.hpp"

namespace wardrobe::fake {

/// Photos without Fashion-MNIST: `per_class` of each class, a bright block of 20 x 20 in the middle (lightness 200).
inline Photos photos(Index per_class = 3) {
  Photos photos;
  for (Index i = 0; i < per_class * kGarmentCount; ++i) {
    const auto label = static_cast<std::size_t>(i % kGarmentCount);
    photos.labels.push_back(static_cast<std::uint8_t>(label));
    photos.of_class[label].push_back(i);
    photos.mean_lightness.push_back(200);
    for (Index y = 0; y < kPhotoEdge; ++y) {
      for (Index x = 0; x < kPhotoEdge; ++x) {
        photos.pixels.push_back(x >= 4 && x < 24 && y >= 4 && y < 24 ? 200 : 0);
      }
    }
  }
  return photos;
}

}  // namespace wardrobe::fake
