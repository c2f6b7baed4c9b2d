#pragma once
#include "wardrobe/caption.hpp"
#include "wardrobe/sampler.hpp"

namespace wardrobe {

/// How much a caption tells. Short: as on the web, mostly the class, sometimes one attribute more. Detailed: every
/// attribute, as a captioning model does. Medium: what a person says.
enum class Telling : std::uint8_t { brief, medium, detailed };

/// A sentence, and what it means: two sentences of the same meaning are true of the same pictures, so that the pairs
/// are no negatives of one another.
struct Told {
  std::string text;
  std::uint64_t meaning = 0;
};

/// Sizes, places and textures as they are called.
inline constexpr auto kSizeNames = std::to_array<std::string_view>({"small", "medium", "large"});
inline constexpr auto kRowNames = std::to_array<std::string_view>({"upper", "middle", "lower"});
inline constexpr auto kColumnNames = std::to_array<std::string_view>({"left", "centre", "right"});
inline constexpr auto kTextureNames = std::to_array<std::string_view>({"smooth", "grainy", "woven", "shaded"});

/// The names of an object's size and place: indices into the tables above.
Index size_of(const Object& object);
Index row_of(const Object& object);
Index column_of(const Object& object);

Told tell(const Scene& scene, Telling telling, gatefold::Rng& rng);

/// All words that `tell` may say, sorted.
std::vector<std::string> told_words();

/// An endless corpus of scenes that training may see, 30 % of two objects: a pure function of seed and index. Apart
/// from the streams of make_sample and make_batch.
Scene corpus_scene(const SampleKey& key, const Photos& photos);

}  // namespace wardrobe
