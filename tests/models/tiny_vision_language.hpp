#pragma once
#include "gatefold/models/vision_language.hpp"
#include "tests/support/layer_contract.hpp"

/// A VisionLanguage of two blocks, and texts for it.
namespace gatefold::test {

inline VisionLanguageOptions tiny_vision_language() {
  return {
      .vision = {.image_size = 4, .patch = 2, .channels = 1, .width = 4, .hidden = 3, .num_layers = 1, .num_heads = 2},
      .vocabulary = 7,
      .context = 12,
      .width = 4,
      .hidden = 5,
      .num_layers = 2,
      .num_heads = 2,
      .num_key_heads = 1,
      .rotary_base = 20};
}

/// Pictures and texts of unlike lengths that own their memory.
template <class T>
struct PictureTexts {
  Tensor<T, 4> images;
  std::vector<Index> ids{}, offset{0}, answer{};

  /// As many pictures, of the same numbers in any order of the texts: picture `first` + b is that of text b.
  PictureTexts(const VisionLanguageOptions& o, Index count, Index first = 0)
      : images({count, o.vision.image_size, o.vision.image_size, o.vision.channels}) {
    const Index size = count ? images.size() / count : 0;
    for (Index b = 0; b < count; ++b) {
      Rng rng(9, static_cast<std::uint64_t>(first + b));
      for (Index i = 0; i < size; ++i)
        images.data()[b * size + i] = T(static_cast<double>(static_cast<float>(rng.normal())));
      const Index words =
          2 + rng.below(o.context - o.vision.image_size * o.vision.image_size / (o.vision.patch * o.vision.patch) - 1);
      answer.push_back(offset.back() + rng.below(words));
      for (Index i = 0; i < words; ++i) ids.push_back(rng.below(o.vocabulary));
      offset.push_back(static_cast<Index>(ids.size()));
    }
  }

  /// As a batch of any VisionLanguage over T.
  template <class Model>
  typename Model::Batch of() const {
    return {.images = images,
            .ids = {ids.data(), {std::ssize(ids)}},
            .text_offset = {offset.data(), {std::ssize(offset)}},
            .answer = {answer.data(), {std::ssize(answer)}}};
  }
};

template <class T>
VisionLanguage<T> random_vision_language(const VisionLanguageOptions& o) {
  VisionLanguage<T> model(o);
  disturb(model, 4, 0.5);
  return model;
}

}  // namespace gatefold::test
