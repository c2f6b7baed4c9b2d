#include "wardrobe/sampler.hpp"

#include <numbers>
#include <stdexcept>
#include <unordered_set>

namespace wardrobe {

namespace detail {

Pattern draw_pattern(gatefold::Rng& rng) {
  const Index tenth = rng.below(10);
  return tenth < 4 ? Pattern::plain : tenth < 7 ? Pattern::striped : Pattern::dotted;
}

void draw_looks(Object& object, const Photos& photos, gatefold::Rng& rng) {
  if (is_garment(object.object_class)) {
    object.photo = pick(photos.of_class[static_cast<std::size_t>(object.object_class)], rng);
  }
  object.rotation = between(-0.3, 0.3, rng);
  object.mirror = rng.below(2) == 0 ? 1.f : -1.f;
  object.tint = draw_tint(9, rng);
  object.pattern_angle = static_cast<float>(rng.below(4)) * 0.25f * std::numbers::pi_v<float>;
  object.pattern_period = between(6.5, 8.5, rng);
  object.pattern_phase = between(0, 8, rng);
}

void place_alone(Object& object, gatefold::Rng& rng) {
  object.size = 40 * between(0.6, 1.1, rng);
  const double room = 0.5 * (48 - static_cast<double>(object.size)) + 2, shift = room < 7 ? room : 7;
  object.centre_x = 24 + between(-shift, shift, rng);
  object.centre_y = 24 + between(-shift, shift, rng);
}

void place_in_half(Object& object, float middle_y, gatefold::Rng& rng) {
  object.size = between(20, 25, rng);
  object.centre_x = 24 + between(-10, 10, rng);
  object.centre_y = middle_y + between(-1, 1, rng);
}

void draw_background(Scene& scene, gatefold::Rng& rng) {
  const auto taken = [&](Colour colour) {
    return colour == scene.objects[0].colour || (scene.object_count == 2 && colour == scene.objects[1].colour);
  };
  do {
    scene.background = draw_value<Colour>(kColourCount, rng);
  } while (taken(scene.background));
  scene.background_tint = draw_tint(9, rng);
  scene.texture = rng.below(2) == 0 ? Texture::none : static_cast<Texture>(1 + rng.below(3));
  scene.texture_seed = rng.bits();
}

}  // namespace detail

Scene scene_of(ObjectClass object_class, Colour colour, Pattern pattern, const Photos& photos, gatefold::Rng& rng) {
  Scene scene;
  Object& object = scene.objects[0];
  object.object_class = object_class, object.colour = colour, object.pattern = pattern;
  detail::draw_looks(object, photos, rng);
  detail::place_alone(object, rng);
  detail::draw_background(scene, rng);
  return scene;
}

Scene draw_single_scene(std::optional<Colour> colour, const Photos& photos, gatefold::Rng& rng) {
  for (;;) {
    const auto object_class = detail::draw_value<ObjectClass>(kClassCount, rng);
    const auto drawn = colour ? *colour : detail::draw_value<Colour>(kColourCount, rng);
    const Pattern pattern = detail::draw_pattern(rng);
    if (seen_in_training(object_class, drawn, pattern)) return scene_of(object_class, drawn, pattern, photos, rng);
  }
}

Scene draw_pair_scene(std::optional<Colour> colour, const Photos& photos, gatefold::Rng& rng) {
  Scene scene;
  scene.object_count = 2;
  auto& [upper, lower] = scene.objects;
  do {
    upper.object_class = detail::draw_value<ObjectClass>(kClassCount, rng);
    lower.object_class = detail::draw_value<ObjectClass>(kClassCount, rng);
    upper.colour = detail::draw_value<Colour>(kColourCount, rng);
    lower.colour = detail::draw_value<Colour>(kColourCount, rng);
    if (colour) scene.objects[static_cast<std::size_t>(rng.below(2))].colour = *colour;
  } while (!seen_together({upper.object_class, upper.colour}, {lower.object_class, lower.colour}));
  detail::draw_looks(upper, photos, rng);
  detail::draw_looks(lower, photos, rng);
  detail::place_in_half(upper, 12, rng);
  detail::place_in_half(lower, 36, rng);
  detail::draw_background(scene, rng);
  return scene;
}

namespace detail {

Scene draw_scene(const World& world, std::optional<Colour> colour, const Photos& photos, gatefold::Rng& rng) {
  return rng.uniform() < world.two_objects ? draw_pair_scene(colour, photos, rng)
                                           : draw_single_scene(colour, photos, rng);
}

}  // namespace detail

Sample make_sample(const SampleKey& key, const Photos& photos, const World& world) {
  gatefold::Rng rng(key.seed, std::uint64_t{1} << 63 | key.index);  // streams of their own, apart from those of batches
  Sample sample{detail::draw_scene(world, {}, photos, rng), {}};
  sample.caption = detail::caption_of(sample.scene, draw_caption_kind(rng), rng);
  return sample;
}

Batch make_batch(const BatchKey& key, const Photos& photos, const World& world) {
  if (key.size < 1 || key.size > Index{1} << 20) {
    throw std::invalid_argument("wardrobe::make_batch: batch of " + std::to_string(key.size) +
                                " samples, expected 1 to 1048576");
  }
  const std::uint64_t first_stream = key.step * ((std::uint64_t{1} << 20) + 1);
  gatefold::Rng batch_rng(key.seed, first_stream);
  Batch batch;
  if (batch_rng.uniform() < world.one_colour) batch.shared_colour = detail::draw_value<Colour>(kColourCount, batch_rng);
  std::unordered_set<std::string> texts;
  for (Index i = 0; i < key.size; ++i) {
    gatefold::Rng rng(key.seed, first_stream + 1 + static_cast<std::uint64_t>(i));
    const std::optional<Colour> no_colour;
    const bool shares = rng.uniform() < world.shared_colour;
    const Scene scene = detail::draw_scene(world, shares ? batch.shared_colour : no_colour, photos, rng);
    CaptionKind kind = draw_caption_kind(rng);
    // Where almost everything is red, «a red thing» tells nothing.
    if (kind == CaptionKind::colour_only && batch.shared_colour == scene.objects[0].colour) kind = CaptionKind::several;
    Caption caption = detail::caption_of(scene, kind, rng);
    for (int attempt = 1; !texts.insert(caption.text).second; ++attempt) {
      if (attempt == 1000) {
        throw std::invalid_argument("wardrobe::make_batch: no new caption for sample " + std::to_string(i) + " of " +
                                    std::to_string(key.size) + "; use smaller batches");
      }
      caption = detail::caption_of(scene, attempt < 8 ? kind : CaptionKind::several, rng);
    }
    batch.scenes.push_back(scene);
    batch.captions.push_back(std::move(caption));
  }
  for (Index i = 0; i < key.size; ++i) {
    const std::string& swapped = batch.captions[static_cast<std::size_t>(i)].swapped;
    if (swapped.empty() || !texts.insert(swapped).second) continue;
    batch.extra_negatives.push_back(swapped);
    batch.negative_owner.push_back(i);
  }
  return batch;
}

bool also_true(const Caption& caption, const Scene& described, const Scene& scene) {
  const Meaning& meaning = caption.meaning;
  if (meaning.background && *meaning.background != scene.background) return false;
  if (described.object_count == 2) {
    const auto same = [&](std::size_t i) {
      const Object &a = described.objects[i], &b = scene.objects[i];
      return a.object_class == b.object_class && a.colour == b.colour;
    };
    return scene.object_count == 2 && same(0) && same(1);
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(scene.object_count); ++i) {
    const Object& object = scene.objects[i];
    if ((!meaning.object_class || *meaning.object_class == object.object_class) &&
        (!meaning.colour || *meaning.colour == object.colour) &&
        (!meaning.pattern || *meaning.pattern == object.pattern))
      return true;
  }
  return false;
}

gatefold::Tensor<std::uint8_t, 2> true_pairs(const Batch& batch) {
  const Index size = std::ssize(batch.scenes), extra = std::ssize(batch.extra_negatives);
  gatefold::Tensor<std::uint8_t, 2> pairs({size, size + extra});
  const auto at = [](const auto& list, Index i) -> const auto& { return list[static_cast<std::size_t>(i)]; };
  for (Index j = 0; j < size + extra; ++j) {
    const Index owner = j < size ? j : at(batch.negative_owner, j - size);
    Scene described = at(batch.scenes, owner);
    if (j >= size) std::swap(described.objects[0].colour, described.objects[1].colour);
    for (Index i = 0; i < size; ++i)
      pairs.view()(i, j) = also_true(at(batch.captions, owner), described, at(batch.scenes, i)) ? 1 : 0;
  }
  return pairs;
}

}  // namespace wardrobe
