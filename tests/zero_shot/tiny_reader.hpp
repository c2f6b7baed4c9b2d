#pragma once
#include "wardrobe/feed.hpp"
#include "zero_shot/limoe_reader.hpp"

namespace zero_shot::tiny {

/// A model with random weights: pictures of 12 x 12 in four patches, two blocks, of which the second has four experts.
inline gatefold::LimoeOptions options() {
  gatefold::LimoeOptions o;
  o.image_size = 12;
  o.patch = 6;
  o.vocabulary = wardrobe::model_vocabulary().size();
  o.max_text_tokens = 8;
  o.width = 16;
  o.hidden = 16;
  o.num_layers = 2;
  o.num_heads = 2;
  o.embedding = 8;
  o.num_experts = 4;
  o.sparse = gatefold::Placement::every(2, 2);
  o.capacity.factor = 0.5;
  o.aux.min_image_experts = 3;
  o.aux.min_text_experts = 2;
  return o;
}

gatefold::LimoeFile file(const gatefold::LimoeOptions& o = options());
Reader reader(const gatefold::LimoeOptions& o = options());

/// Pictures of noise, each to be given any of the labels; the first label is right.
inline Reading plan(Index pictures, const std::vector<std::string>& labels, const Reader& reader) {
  Reading reading;
  for (const auto& label : labels) reading.labels.push_back(make_label(label, reader));
  gatefold::Rng rng(5);
  for (Index i = 0; i < pictures; ++i) {
    Picture picture;
    picture.name = "picture " + std::to_string(i);
    picture.image = gatefold::Image::of_size({12, 12});
    for (auto& value : picture.image.rgb) value = static_cast<std::uint8_t>(rng.below(256));
    for (Index l = 0; l < std::ssize(labels); ++l) picture.choices.push_back(l);
    picture.expected = 0;
    reading.pictures.push_back(std::move(picture));
  }
  return reading;
}

}  // namespace zero_shot::tiny
