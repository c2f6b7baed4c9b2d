#include "wardrobe/told.hpp"

namespace wardrobe {

namespace {

using detail::join;
using detail::noun_phrase;
using detail::pick;
using detail::with_article;

constexpr auto kBriefPrompts =
    std::to_array<std::string_view>({"", "", "a photo of", "a picture of", "an image of", "this is"});
constexpr auto kDetailedPrompts =
    std::to_array<std::string_view>({"there is", "the image shows", "we see", "this picture shows"});
constexpr auto kAnonymousThings = std::to_array<std::string_view>({"thing", "object"});
constexpr auto kOn = std::to_array<std::string_view>({"on", "against"});

/// What a sentence says, with the kind of the sentence: 5 bits each, since nothing has more than 31 values.
std::uint64_t meaning_of(std::initializer_list<Index> said) {
  std::uint64_t meaning = 0;
  for (const Index value : said) meaning = meaning << 5 | static_cast<std::uint64_t>(value + 1);
  return meaning;
}
template <class... Values>
std::uint64_t meaning_of(Index kind, Values... values) {
  return meaning_of({kind, static_cast<Index>(values)...});
}

/// Kinds of sentences by what they say.
enum Kind : Index {
  of_class,
  of_colour,
  of_class_colour,
  of_class_pattern,
  of_background,
  of_class_background,
  of_class_size,
  of_class_place,
  of_class_texture,
  of_two_classes,
  of_order,
  medium_one,
  medium_two,
  detailed_one,
  detailed_two
};

std::string_view texture_name(const Scene& scene) { return kTextureNames[static_cast<std::size_t>(scene.texture)]; }
std::string place_phrase(const Object& o) {
  return join(
      {"in the", kRowNames[static_cast<std::size_t>(row_of(o))], kColumnNames[static_cast<std::size_t>(column_of(o))]});
}
std::string background_phrase(std::string_view on, std::string_view texture, Colour colour) {
  return join({on, with_article(join({texture, name_of(colour)})), "background"});
}
/// Adjectives in front of the noun, with an article.
std::string described(std::initializer_list<std::string_view> adjectives, const Name& name) {
  return with_article(join({join(adjectives), name.words}), name.number);
}
std::string_view pattern_name(const Object& o) { return names_of(o.pattern).adjectives[0]; }
std::string_view size_name(const Object& o) { return kSizeNames[static_cast<std::size_t>(size_of(o))]; }

Told brief_of_two(const Scene& scene, gatefold::Rng& rng) {
  const auto& [upper, lower] = scene.objects;
  const Index percent = rng.below(100);
  if (percent < 36) {
    const auto a = noun_phrase(pick(names_of(upper.object_class), rng)),
               b = noun_phrase(pick(names_of(lower.object_class), rng));
    const bool order = percent >= 30;
    return {join({a, order ? "above" : "and", b}),
            meaning_of(order ? of_order : of_two_classes, upper.object_class, lower.object_class)};
  }
  const Object& one = rng.below(2) == 0 ? upper : lower;
  const Name name = pick(names_of(one.object_class), rng);
  if (percent < 80) return {noun_phrase(name), meaning_of(of_class, one.object_class)};
  if (percent < 92) return {noun_phrase(name, one.colour), meaning_of(of_class_colour, one.object_class, one.colour)};
  return {join({"something", background_phrase("on", "", scene.background)}),
          meaning_of(of_background, scene.background)};
}

Told brief_of_one(const Scene& scene, gatefold::Rng& rng) {
  const Object& o = scene.objects[0];
  const Index percent = rng.below(100);
  const Name name = pick(names_of(o.object_class), rng);
  const std::string noun = noun_phrase(name);
  if (percent < 56) return {noun, meaning_of(of_class, o.object_class)};
  if (percent < 70) return {noun_phrase(name, o.colour), meaning_of(of_class_colour, o.object_class, o.colour)};
  if (percent < 75) return {noun_phrase(Name{pick(kAnonymousThings, rng)}, o.colour), meaning_of(of_colour, o.colour)};
  if (percent < 81) return {noun_phrase(name, {}, o.pattern), meaning_of(of_class_pattern, o.object_class, o.pattern)};
  if (percent < 86)
    return {join({"something", background_phrase("on", "", scene.background)}),
            meaning_of(of_background, scene.background)};
  if (percent < 90)
    return {join({noun, background_phrase("on", "", scene.background)}),
            meaning_of(of_class_background, o.object_class, scene.background)};
  if (percent < 94) return {described({size_name(o)}, name), meaning_of(of_class_size, o.object_class, size_of(o))};
  if (percent < 97)
    return {join({noun, place_phrase(o)}), meaning_of(of_class_place, o.object_class, row_of(o), column_of(o))};
  return {join({noun, "on", with_article(std::string(texture_name(scene))), "background"}),
          meaning_of(of_class_texture, o.object_class, scene.texture)};
}

Told brief(const Scene& scene, gatefold::Rng& rng) {
  const auto prompt = pick(kBriefPrompts, rng);
  auto told = scene.object_count == 2 ? brief_of_two(scene, rng) : brief_of_one(scene, rng);
  told.text = join({prompt, told.text});
  return told;
}

Told detailed(const Scene& scene, gatefold::Rng& rng) {
  const auto prompt = pick(kDetailedPrompts, rng);
  const auto tail = background_phrase(pick(kOn, rng), texture_name(scene), scene.background);
  const auto& [o, lower] = scene.objects;
  const Name name = pick(names_of(o.object_class), rng);
  if (scene.object_count == 1)
    return {join({prompt, described({size_name(o), pattern_name(o), name_of(o.colour)}, name), place_phrase(o), tail}),
            meaning_of(detailed_one, o.object_class, o.colour, o.pattern, size_of(o), row_of(o), column_of(o),
                       scene.background, scene.texture)};
  const auto a = noun_phrase(name, o.colour), b = noun_phrase(pick(names_of(lower.object_class), rng), lower.colour);
  const bool above = rng.below(2) == 0;
  return {join({prompt, above ? a : b, above ? "above" : "below", above ? b : a, tail}),
          meaning_of(detailed_two, o.object_class, o.colour, lower.object_class, lower.colour, scene.background,
                     scene.texture)};
}

Told medium(const Scene& scene) {
  const auto& [o, lower] = scene.objects;
  const auto tail = background_phrase("on", "", scene.background);
  const Name name = names_of(o.object_class)[0];
  if (scene.object_count == 1)
    return {join({described({pattern_name(o), name_of(o.colour)}, name), tail}),
            meaning_of(medium_one, o.object_class, o.colour, o.pattern, scene.background)};
  return {join({noun_phrase(name, o.colour), "and", noun_phrase(names_of(lower.object_class)[0], lower.colour), tail}),
          meaning_of(medium_two, o.object_class, o.colour, lower.object_class, lower.colour, scene.background)};
}

}  // namespace

Index size_of(const Object& o) { return o.size < 31 ? 0 : o.size < 37.5f ? 1 : 2; }
Index row_of(const Object& o) { return o.centre_y < 22 ? 0 : o.centre_y <= 26 ? 1 : 2; }
Index column_of(const Object& o) { return o.centre_x < 22 ? 0 : o.centre_x <= 26 ? 1 : 2; }

Told tell(const Scene& scene, Telling telling, gatefold::Rng& rng) {
  switch (telling) {
    case Telling::brief:
      return brief(scene, rng);
    case Telling::medium:
      return medium(scene);
    default:
      return detailed(scene, rng);
  }
}

std::vector<std::string> told_words() {
  std::set<std::string> words;
  const auto add = [&](std::string_view text) {
    for (const auto word : split_words(text)) words.emplace(word);
  };
  add("a an and something in the on against above below background");
  const auto add_all = [&](const auto&... tables) { (std::ranges::for_each(tables, add), ...); };
  add_all(kBriefPrompts, kDetailedPrompts, kAnonymousThings, kSizeNames, kRowNames, kColumnNames, kTextureNames,
          kColourNames);
  for (const auto& names : kClassNames)
    for (const Name& name : names) add(name.words);
  for (const auto& pattern : kPatternNames) add(pattern.adjectives[0]);
  return {words.begin(), words.end()};
}

Scene corpus_scene(const SampleKey& key, const Photos& photos) {
  gatefold::Rng rng(key.seed, std::uint64_t{1} << 62 | key.index);
  return detail::draw_scene({}, {}, photos, rng);
}

}  // namespace wardrobe
