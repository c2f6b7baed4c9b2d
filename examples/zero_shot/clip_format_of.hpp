#pragma once
#include <cmath>

#include "zero_shot/clip_format.hpp"

namespace zero_shot {

template <gatefold::WeightStorage<float> W>
class TowersOf final : public ClipTowers {
 public:
  explicit TowersOf(gatefold::Clip<float, W> clip) : clip_(std::move(clip)) {}
  void encode_images(gatefold::View<const float, 4> images, gatefold::Rows<float> z,
                     gatefold::Context& ctx) const override {
    clip_.encode_images(images, z, ctx);
  }
  void encode_texts(gatefold::View<const Index, 2> ids, gatefold::Rows<float> z,
                    gatefold::Context& ctx) const override {
    clip_.encode_texts(ids, z, ctx);
  }
  void save(gatefold::ClipNames names, const std::filesystem::path& path,
            const std::map<std::string, std::string>& notes) const override {
    gatefold::save_packed_clip(clip_, names, path, notes);
  }

 private:
  gatefold::Clip<float, W> clip_;
};

template <gatefold::WeightStorage<float> W>
PackedClip wrap(gatefold::Clip<float, W> clip) {
  const auto options = clip.options;
  const double temperature = std::exp(double{clip.logit_scale.flat()[0]});
  return {options, temperature, std::make_unique<TowersOf<W>>(std::move(clip))};
}

template <gatefold::PackedFormat F>
ClipFormat clip_format() {
  return {[](const gatefold::ClipFile& file, const gatefold::ParallelFor& parallel_for) {
            return wrap(gatefold::load_clip<gatefold::Packed<F>>(file, parallel_for));
          },
          [](const gatefold::Clip<float>& dense) { return wrap(gatefold::pack<F>(dense)); },
          [](const gatefold::PackedClipFile& file) { return wrap(gatefold::load_packed_clip<F>(file)); }};
}

}  // namespace zero_shot
