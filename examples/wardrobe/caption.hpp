#pragma once
#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gatefold/core/random.hpp"
#include "wardrobe/scene.hpp"

namespace wardrobe {

/// What a caption says of a scene with one object; empty = not said.
struct Meaning {
  std::optional<ObjectClass> object_class;
  std::optional<Colour> colour;
  std::optional<Pattern> pattern;
  std::optional<Colour> background;
  bool operator==(const Meaning&) const = default;
};

/// Lower-case words separated by single spaces, without punctuation.
struct Caption {
  std::string text;
  Meaning meaning;      ///< Scenes with two objects: only the background.
  std::string swapped;  ///< Two objects: the same sentence with the two colours exchanged; else empty.
};

inline constexpr Index kMaxCaptionWords = 20;

namespace detail {

/// The empty one twice as often: a bare phrase is what people type.
inline constexpr auto kPrompts = std::to_array<std::string_view>(
    {"", "", "a photo of", "a picture of", "an image of", "a view of", "this shows", "the photo shows", "we see"});
/// Before and after the colour's name.
inline constexpr auto kBackgrounds = std::to_array<std::array<std::string_view, 2>>(
    {{"on", "background"}, {"against", "background"}, {"in front of", "wall"}});
inline constexpr auto kAnonymous = std::to_array<std::string_view>({"thing", "object", "item"});
inline constexpr std::string_view kUpperFirst = "above", kLowerFirst = "below", kUnordered = "and";

template <class Range>
auto pick(const Range& range, gatefold::Rng& rng) {
  return range[static_cast<std::size_t>(rng.below(std::ssize(range)))];
}

std::string join(std::initializer_list<std::string_view> parts);

std::string with_article(std::string words, Number number = Number::singular);

inline std::string background_phrase(Colour background, const std::array<std::string_view, 2>& form) {
  return join({form[0], with_article(std::string(name_of(background))), form[1]});
}

/// «a striped red dress», as labels say it.
std::string noun_phrase(const Name& name, std::optional<Colour> colour = {}, std::optional<Pattern> pattern = {});

/// The same in one of the ways in which people say it: other adjectives, their order, a phrase behind.
std::string noun_phrase(const Name& name, std::optional<Colour> colour, std::optional<Pattern> pattern,
                        gatefold::Rng& rng);

}  // namespace detail

/// What a caption of one object may tell. Only some captions name the colour: if every one did, a model would learn
/// colours and nothing else.
enum class CaptionKind : std::uint8_t { class_only, colour_only, background_only, several };

CaptionKind draw_caption_kind(gatefold::Rng& rng);

/// One sentence about a scene of one object.
Caption draw_caption(const Scene& scene, CaptionKind kind, gatefold::Rng& rng);

/// One sentence about a scene of two objects, always with both classes and both colours, else the pictures and the
/// captions of a batch could be told apart without knowing which colour belongs to what.
Caption draw_pair_caption(const Scene& scene, gatefold::Rng& rng);

/// The label captions of evaluations: first names, fixed order, no prompt.
std::string label_caption(const Meaning& meaning);

/// «a red dress and a blue bag» (first, second), or with «above» or «below» as the link.
struct PairLabel {
  std::string_view link = detail::kUnordered;
  ObjectClass first_class{};
  Colour first_colour{};
  ObjectClass second_class{};
  Colour second_colour{};
};
std::string label_caption(const PairLabel& label);

std::vector<std::string_view> split_words(std::string_view text);

/// All words that the grammar can say, sorted.
std::vector<std::string> vocabulary();

}  // namespace wardrobe
