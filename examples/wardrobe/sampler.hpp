#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gatefold/core/random.hpp"
#include "gatefold/core/tensor.hpp"
#include "wardrobe/caption.hpp"
#include "wardrobe/fashion_mnist.hpp"
#include "wardrobe/scene.hpp"

namespace wardrobe {

/// Shares of the training world.
struct World {
  double two_objects = 0.3;     ///< of the scenes
  double one_colour = 0.6;      ///< of the batches are one-colour batches, so that the class has to be learnt:
  double shared_colour = 0.85;  ///< in them, this share of the scenes has the batch's colour
};

namespace detail {

template <class Value>
Value draw_value(Index count, gatefold::Rng& rng) {
  return static_cast<Value>(rng.below(count));
}
inline float between(double begin, double end, gatefold::Rng& rng) {
  return static_cast<float>(rng.uniform(begin, end));
}

/// Plain 4/10, striped and dotted 3/10 each.
Pattern draw_pattern(gatefold::Rng& rng);

inline std::array<float, 3> draw_tint(double reach, gatefold::Rng& rng) {
  return {between(-reach, reach, rng), between(-reach, reach, rng), between(-reach, reach, rng)};
}

/// Everything that is not class, colour or pattern.
void draw_looks(Object& object, const Photos& photos, gatefold::Rng& rng);

/// The one object of a scene: 24 to 44 pixels, and at most two pixels of its frame outside the canvas.
void place_alone(Object& object, gatefold::Rng& rng);

/// One of two: 20 to 25 pixels, in its half of the canvas.
void place_in_half(Object& object, float middle_y, gatefold::Rng& rng);

void draw_background(Scene& scene, gatefold::Rng& rng);

}  // namespace detail

/// Draws a scene of one object of the given kind; what is drawn by lot is size, place, background and so on.
Scene scene_of(ObjectClass object_class, Colour colour, Pattern pattern, const Photos& photos, gatefold::Rng& rng);

/// A scene of one object that training may see, of `colour` if one is given.
Scene draw_single_scene(std::optional<Colour> colour, const Photos& photos, gatefold::Rng& rng);

/// A scene of two plain objects, one above the other, that may be seen together; one of them has `colour` if one is
/// given.
Scene draw_pair_scene(std::optional<Colour> colour, const Photos& photos, gatefold::Rng& rng);

/// An image (still to be rendered) and what is said of it.
struct Sample {
  Scene scene;
  Caption caption;
};

namespace detail {
Scene draw_scene(const World& world, std::optional<Colour> colour, const Photos& photos, gatefold::Rng& rng);
inline Caption caption_of(const Scene& scene, CaptionKind kind, gatefold::Rng& rng) {
  return scene.object_count == 2 ? draw_pair_caption(scene, rng) : draw_caption(scene, kind, rng);
}
}  // namespace detail

/// Which sample of an endless corpus: a pure function of the two.
struct SampleKey {
  std::uint64_t seed = 0, index = 0;
};

/// One sample on its own, without the rules of a batch.
Sample make_sample(const SampleKey& key, const Photos& photos, const World& world = {});

/// Which batch: a pure function of the three. At most 2^20 samples.
struct BatchKey {
  std::uint64_t seed = 0, step = 0;
  Index size = 256;
};

/// A planned batch: scenes[i] and captions[i] belong together. Render the scenes from any threads, in any order.
struct Batch {
  std::vector<Scene> scenes;                 ///< [B]
  std::vector<Caption> captions;             ///< [B] no text twice
  std::vector<std::string> extra_negatives;  ///< [X] pair captions with the colours exchanged, without those that
                                             ///< are captions of the batch or came before
  std::vector<Index> negative_owner;         ///< [X] whose caption it was
  std::optional<Colour> shared_colour;       ///< set in one-colour batches
};

/// Plans the batch of a training step: cheap (about 2 us a sample) and serial, because no caption may occur twice.
/// Scene i is a pure function of (seed, step, i). A caption that is taken is said in another way, and after eight
/// attempts with other attributes; if nothing new can be said, the batch is too large for the grammar:
/// std::invalid_argument, as for a size outside 1..2^20.
Batch make_batch(const BatchKey& key, const Photos& photos, const World& world = {});

/// Whether a caption, drawn for `described`, is true of another scene as well: then the two are no negative pair.
bool also_true(const Caption& caption, const Scene& described, const Scene& scene);

/// Non-zero where image i and text j of a batch are no fair negatives, because the text is true of the image; the texts
/// are the captions, then the extra negatives. // [B, B + X]
gatefold::Tensor<std::uint8_t, 2> true_pairs(const Batch& batch);

}  // namespace wardrobe
