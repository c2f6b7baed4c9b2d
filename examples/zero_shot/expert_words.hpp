#pragma once
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "zero_shot/reading.hpp"

namespace zero_shot {

/// What can be said of a patch by its pixels alone, in any picture.
struct PatchLook {
  bool plain = false, edge = false, rim = false;
  const char* colour = "";  ///< The name of its mean colour.
};

namespace detail {

/// The name of a colour by hue, or by brightness where it has hardly any.
const char* colour_name(const std::array<double, 3>& rgb);

/// A look of each patch of a picture, row by row. Plain is what varies by less than noise does, an edge what holds two
/// brightnesses far apart.
std::vector<PatchLook> looks_of(const gatefold::Image& image, Index patch);

}  // namespace detail

/// The looks of all patches of all pictures, worked out once for a page.
std::vector<std::vector<PatchLook>> looks_of(const Reading& reading, Index patch);

/// What an expert takes, in words, as in «plain areas at the rim, mostly green» or «edges»: a quality is named if most
/// of its patches have it and it is clearly more frequent among them than among all. Empty where nothing stands out.
std::string what_it_takes(const Reading& reading, const std::vector<std::vector<PatchLook>>& looks, std::size_t layer,
                          Index expert);

}  // namespace zero_shot
