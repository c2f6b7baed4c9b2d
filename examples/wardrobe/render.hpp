#pragma once
#include <array>
#include <cstdint>
#include <numbers>
#include <span>
#include <string>

#include "wardrobe/fashion_mnist.hpp"
#include "wardrobe/scene.hpp"

namespace wardrobe {

inline constexpr Index kCanvasEdge = 48, kCanvasBytes = kCanvasEdge * kCanvasEdge * 3;

/// sRGB of the ten colours, chosen to stay apart under tinting, jitter and the shading of a photo.
inline constexpr std::array<std::array<float, 3>, kColourCount> kPalette{{{218, 28, 34},
                                                                          {248, 132, 16},
                                                                          {250, 226, 40},
                                                                          {38, 156, 56},
                                                                          {32, 78, 214},
                                                                          {126, 42, 168},
                                                                          {248, 128, 186},
                                                                          {118, 70, 32},
                                                                          {26, 26, 30},
                                                                          {244, 244, 242}}};

/// Draws the scene to out [48, 48, 3], row by row, RGB bytes; about 30 us. A pure function, callable from any thread; a
/// byte may differ by one between compilers that contract multiply and add differently (rarely more, on a hard edge).
/// Allocates nothing. `photos` is the split that the scene was drawn for. Throws std::invalid_argument for another size
/// of `out` or a photo that the split does not hold.
void render(const Scene& scene, const Photos& photos, std::span<std::uint8_t> out);

}  // namespace wardrobe
