#pragma once
#include "gatefold/models/packed_clip_file.hpp"
#include "zero_shot/clip_model.hpp"

namespace zero_shot {

/// A CLIP that is packed, and what is known of it.
struct PackedClip {
  gatefold::ClipOptions options;
  double temperature;
  std::unique_ptr<const ClipTowers> towers;
};

/// How a CLIP comes to be packed in a format.
struct ClipFormat {
  PackedClip (*load)(const gatefold::ClipFile&, const gatefold::ParallelFor&);
  PackedClip (*pack)(const gatefold::Clip<float>&);
  PackedClip (*map)(const gatefold::PackedClipFile&);  ///< What save_packed has written, used where it lies.
};

/// By the type of the format. To the compiler each format is another model, so each has a unit of its own
/// (clip_format_bf16.cpp and so on), which has the definition from clip_format_of.hpp.
template <gatefold::PackedFormat F>
ClipFormat clip_format();

}  // namespace zero_shot
