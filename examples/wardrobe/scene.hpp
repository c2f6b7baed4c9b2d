#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "gatefold/core/random.hpp"
#include "gatefold/core/shape.hpp"

/// The wardrobe world: real garment photographs and drawn shapes, tinted, patterned and composed on small canvases,
/// with captions. Some combinations are never generated for training, so that «zero-shot» has a meaning one can test.
namespace wardrobe {

using gatefold::Index;

/// Ten garments, in the order of Fashion-MNIST's labels, then eight shapes.
enum class ObjectClass : std::uint8_t {
  t_shirt,
  trousers,
  pullover,
  dress,
  coat,
  sandal,
  shirt,
  sneaker,
  bag,
  ankle_boot,
  circle,
  square,
  triangle,
  star,
  heart,
  cross,
  ring,
  diamond
};
enum class Colour : std::uint8_t { red, orange, yellow, green, blue, purple, pink, brown, black, white };
enum class Pattern : std::uint8_t { plain, striped, dotted };

inline constexpr Index kGarmentCount = 10, kClassCount = 18, kColourCount = 10, kPatternCount = 3;

constexpr bool is_garment(ObjectClass object_class) { return static_cast<Index>(object_class) < kGarmentCount; }

/// «trousers» takes no article, «dress» does.
enum class Number : std::uint8_t { singular, plural };
struct Name {
  std::string_view words;
  Number number = Number::singular;
};

/// The words for each class; the first is the one that labels use.
inline constexpr auto kClassNames = std::to_array<std::array<Name, 3>>({
    {{{"t-shirt"}, {"tee"}, {}}},
    {{{"trousers", Number::plural}, {"pants", Number::plural}, {"trouser"}}},
    {{{"pullover"}, {"sweater"}, {"jumper"}}},
    {{{"dress"}, {}, {}}},
    {{{"coat"}, {"jacket"}, {}}},
    {{{"sandal"}, {}, {}}},
    {{{"shirt"}, {}, {}}},
    {{{"sneaker"}, {"trainer"}, {}}},
    {{{"bag"}, {"handbag"}, {}}},
    {{{"ankle boot"}, {"boot"}, {}}},
    {{{"circle"}, {"disc"}, {}}},
    {{{"square"}, {}, {}}},
    {{{"triangle"}, {}, {}}},
    {{{"star"}, {}, {}}},
    {{{"heart"}, {}, {}}},
    {{{"cross"}, {"plus"}, {}}},
    {{{"ring"}, {"hoop"}, {}}},
    {{{"diamond"}, {"rhombus"}, {}}},
});
inline constexpr std::array<std::string_view, kColourCount> kColourNames{
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"};
/// As an adjective (the first is the one that labels use), and as a phrase behind the noun.
struct PatternNames {
  std::array<std::string_view, 2> adjectives;
  std::string_view phrase;
};
inline constexpr std::array<PatternNames, kPatternCount> kPatternNames{
    {{{"plain", {}}, {}}, {{"striped", "stripy"}, "with stripes"}, {{"dotted", "spotted"}, "with dots"}}};

/// The names of a class that are there.
constexpr std::span<const Name> names_of(ObjectClass object_class) {
  const auto& names = kClassNames[static_cast<std::size_t>(object_class)];
  std::size_t count = 0;
  while (count < names.size() && !names[count].words.empty()) ++count;
  return {names.data(), count};
}
constexpr std::string_view name_of(Colour colour) { return kColourNames[static_cast<std::size_t>(colour)]; }
constexpr const PatternNames& names_of(Pattern pattern) { return kPatternNames[static_cast<std::size_t>(pattern)]; }

namespace detail {
/// A uniform 32-bit word for (class, colour, pattern or 3 = the pair). Of the salts up to a million this one holds out
/// exactly 27 of the 180 pairs and 108 of the 540 triples, some of every class and colour, and leaves every other pair
/// at least one pattern.
constexpr std::uint32_t combination_hash(ObjectClass object_class, Colour colour, std::uint32_t pattern) {
  return gatefold::philox({static_cast<std::uint32_t>(object_class), static_cast<std::uint32_t>(colour), pattern, 0},
                          {243736, 0x77617264})[0];
}
constexpr std::uint32_t share_of_words(std::uint64_t percent) {
  return static_cast<std::uint32_t>((percent << 32) / 100);
}
}  // namespace detail

/// Whether training may show (and name) this class in this colour: false for a fixed 15 % of the pairs.
constexpr bool seen_in_training(ObjectClass object_class, Colour colour) {
  return detail::combination_hash(object_class, colour, 3) >= detail::share_of_words(15);
}
/// The same with a pattern: false for all patterns of a held-out pair, and for a fixed 20 % of all triples.
constexpr bool seen_in_training(ObjectClass object_class, Colour colour, Pattern pattern) {
  return seen_in_training(object_class, colour) &&
         detail::combination_hash(object_class, colour, static_cast<std::uint32_t>(pattern)) >=
             detail::share_of_words(20);
}

/// A class in a colour.
struct Tinted {
  ObjectClass object_class{};
  Colour colour{};
};
/// Whether training may show these two, plain, in one scene, and name the scene with their colours exchanged as a
/// negative: two classes, two colours, nothing held out in the scene or in either sentence.
constexpr bool seen_together(const Tinted& a, const Tinted& b) {
  return a.object_class != b.object_class && a.colour != b.colour &&
         seen_in_training(a.object_class, a.colour, Pattern::plain) &&
         seen_in_training(b.object_class, b.colour, Pattern::plain) && seen_in_training(a.object_class, b.colour) &&
         seen_in_training(b.object_class, a.colour);
}

/// One thing on the canvas. Lengths are in pixels of the 48x48 canvas, angles in radians.
struct Object {
  ObjectClass object_class{};
  Colour colour{};
  Pattern pattern{};
  Index photo = 0;  ///< Garments: which photo of the split.
  float size = 40;  ///< Edge of the square that holds the thing (a photo's frame).
  float centre_x = 24, centre_y = 24, rotation = 0;
  float mirror = 1;             ///< -1 flips left and right, since all shoes of the photos point left.
  std::array<float, 3> tint{};  ///< Added to the colour's RGB.
  float pattern_angle = 0, pattern_period = 7, pattern_phase = 0;

  bool operator==(const Object&) const = default;
};

enum class Texture : std::uint8_t { none, grain, weave, shade };

/// All that is needed to draw an image, and nothing of how it was drawn by lot. Two objects: the upper one first.
struct Scene {
  std::array<Object, 2> objects{};
  Index object_count = 1;
  Colour background{};
  std::array<float, 3> background_tint{};
  Texture texture = Texture::none;
  std::uint32_t texture_seed = 0;

  bool operator==(const Scene&) const = default;
};

}  // namespace wardrobe
