#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "gatefold/core/shape.hpp"

namespace wardrobe {

using gatefold::Index;

/// A file of bytes as MNIST and its kin have them: the idx format, as it is or gzip'd.
struct Idx {
  std::vector<Index> shape;
  std::vector<std::uint8_t> values;
};

inline constexpr Index kAnyExtent = -1;

/// Reads FILE or, where there is none, FILE without its ".gz". Throws FormatError that says which file, what came and
/// what was expected: another magic number, rank or extent (but for kAnyExtent), more or fewer bytes than its extents
/// say, a damaged stream.
Idx read_idx(std::filesystem::path file, const std::vector<Index>& extents);

/// Square grey pictures, and what each of them shows.
struct Labelled {
  Idx images, labels;  // [N, edge, edge], [N]

  Index size() const { return images.shape[0]; }
  Index edge() const { return images.shape[1]; }
  Index pixel(Index i, Index y, Index x) const {
    return images.values[static_cast<std::size_t>((i * edge() + y) * edge() + x)];
  }
  Index label(Index i) const { return labels.values[static_cast<std::size_t>(i)]; }

  /// How a picture is shown: moved by so many pixels, over black, and mirrored.
  struct Pose {
    Index left = 0, up = 0;
    bool mirrored = false;
  };
  /// Writes picture i, standardised for Fashion-MNIST, and returns its label. // to [edge, edge]
  Index draw(Index i, const Pose& pose, float* to) const {
    for (Index y = pose.up; y < edge() + pose.up; ++y)
      for (Index column = 0; column < edge(); ++column) {
        const Index x = (pose.mirrored ? edge() - 1 - column : column) + pose.left;
        const bool inside = 0 <= x && x < edge() && 0 <= y && y < edge();
        *to++ = static_cast<float>(inside ? pixel(i, y, x) : 0) / 90 - 0.8f;
      }
    return label(i);
  }
};

struct LabelledSize {
  Index count = kAnyExtent, edge = kAnyExtent, classes = 10;
};

/// One split, «train» or «t10k», of a folder that is laid out as MNIST is: NAME-images-idx3-ubyte.gz and
/// NAME-labels-idx1-ubyte.gz. Throws FormatError as read_idx does, and for pictures that are not square, not as many
/// labels as pictures, or a label that is no class.
Labelled read_labelled(const std::filesystem::path& folder, const std::string& name, const LabelledSize& wanted = {});

}  // namespace wardrobe
