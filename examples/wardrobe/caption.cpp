#include "wardrobe/caption.hpp"

namespace wardrobe {

namespace detail {

std::string join(std::initializer_list<std::string_view> parts) {
  std::string text;
  for (const std::string_view part : parts) {
    if (!part.empty() && !text.empty()) text += ' ';
    text += part;
  }
  return text;
}

std::string with_article(std::string words, Number number) {
  if (number == Number::plural) return words;
  return (std::string_view("aeiou").find(words.front()) == std::string_view::npos ? "a " : "an ") + words;
}

std::string noun_phrase(const Name& name, std::optional<Colour> colour, std::optional<Pattern> pattern) {
  return with_article(
      join({pattern ? names_of(*pattern).adjectives[0] : "", colour ? name_of(*colour) : "", name.words}), name.number);
}

std::string noun_phrase(const Name& name, std::optional<Colour> colour, std::optional<Pattern> pattern,
                        gatefold::Rng& rng) {
  const std::string_view colour_word = colour ? name_of(*colour) : "";
  if (!pattern) return noun_phrase(name, colour);
  const PatternNames& names = names_of(*pattern);
  if (!names.phrase.empty() && rng.below(4) == 0) {
    return with_article(join({colour_word, name.words, names.phrase}), name.number);
  }
  const std::string_view word =
      names.adjectives[1].empty() || rng.below(3) > 0 ? names.adjectives[0] : names.adjectives[1];
  const bool colour_first = rng.below(4) == 0;
  return with_article(join({colour_first ? colour_word : word, colour_first ? word : colour_word, name.words}),
                      name.number);
}

}  // namespace detail

CaptionKind draw_caption_kind(gatefold::Rng& rng) {
  const Index percent = rng.below(100);
  if (percent < 40) return CaptionKind::class_only;
  if (percent < 50) return CaptionKind::colour_only;
  return percent < 55 ? CaptionKind::background_only : CaptionKind::several;
}

Caption draw_caption(const Scene& scene, CaptionKind kind, gatefold::Rng& rng) {
  const Object& object = scene.objects[0];
  const Name anonymous{detail::pick(detail::kAnonymous, rng)};
  const Name named = detail::pick(names_of(object.object_class), rng);
  Caption caption;
  Meaning& meaning = caption.meaning;
  std::string phrase;
  switch (kind) {
    case CaptionKind::class_only:
      meaning.object_class = object.object_class;
      phrase = detail::noun_phrase(named);
      break;
    case CaptionKind::colour_only:
      meaning.colour = object.colour;
      phrase = rng.below(4) == 0 ? detail::join({"something", name_of(object.colour)})
                                 : detail::noun_phrase(anonymous, object.colour);
      break;
    case CaptionKind::background_only:
      phrase = rng.below(2) == 0 ? detail::noun_phrase(anonymous) : "something";
      meaning.background = scene.background;
      break;
    case CaptionKind::several: {
      // class+colour 7/20, class+colour+pattern 5/20, class+pattern 2/20, colour+pattern 1/20, with a background:
      // class+colour 2/20, class 1/20, colour 1/20, everything 1/20
      const Index form = rng.below(20);
      if (form != 14 && form != 18) meaning.object_class = object.object_class;
      if (form != 12 && form != 13 && form != 17) meaning.colour = object.colour;
      if ((form >= 7 && form <= 14) || form == 19) meaning.pattern = object.pattern;
      if (form >= 15) meaning.background = scene.background;
      phrase = detail::noun_phrase(meaning.object_class ? named : anonymous, meaning.colour, meaning.pattern, rng);
      break;
    }
  }
  caption.text = detail::join(
      {detail::pick(detail::kPrompts, rng), phrase,
       meaning.background ? detail::background_phrase(*meaning.background, detail::pick(detail::kBackgrounds, rng))
                          : ""});
  return caption;
}

Caption draw_pair_caption(const Scene& scene, gatefold::Rng& rng) {
  const Object& upper = scene.objects[0];
  const Object& lower = scene.objects[1];
  const Name upper_name = detail::pick(names_of(upper.object_class), rng);
  const Name lower_name = detail::pick(names_of(lower.object_class), rng);
  const Index form = rng.below(8);  // above 3/8, below 3/8, and 2/8
  const bool upper_first = form < 3 || form == 6;
  const std::string_view link = form < 3 ? detail::kUpperFirst : form < 6 ? detail::kLowerFirst : detail::kUnordered;
  const std::string_view prompt = detail::pick(detail::kPrompts, rng);
  Caption caption;
  std::string background;
  if (rng.below(5) == 0) {
    caption.meaning.background = scene.background;
    background = detail::background_phrase(scene.background, detail::pick(detail::kBackgrounds, rng));
  }
  const auto sentence = [&](Colour upper_colour, Colour lower_colour) {
    const std::string a = detail::noun_phrase(upper_name, upper_colour),
                      b = detail::noun_phrase(lower_name, lower_colour);
    return detail::join({prompt, upper_first ? a : b, link, upper_first ? b : a, background});
  };
  caption.text = sentence(upper.colour, lower.colour);
  caption.swapped = sentence(lower.colour, upper.colour);
  return caption;
}

std::string label_caption(const Meaning& meaning) {
  const Name name = meaning.object_class ? names_of(*meaning.object_class)[0] : Name{detail::kAnonymous[0]};
  return detail::join(
      {detail::noun_phrase(name, meaning.colour, meaning.pattern),
       meaning.background ? detail::background_phrase(*meaning.background, detail::kBackgrounds[0]) : ""});
}

std::string label_caption(const PairLabel& label) {
  return detail::join({detail::noun_phrase(names_of(label.first_class)[0], label.first_colour), label.link,
                       detail::noun_phrase(names_of(label.second_class)[0], label.second_colour)});
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    if (end > 0) words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

std::vector<std::string> vocabulary() {
  std::set<std::string> words;
  const auto add = [&](std::string_view text) {
    for (const std::string_view word : split_words(text)) words.emplace(word);
  };
  add("a an something");
  add(detail::kUpperFirst), add(detail::kLowerFirst), add(detail::kUnordered);
  for (const auto prompt : detail::kPrompts) add(prompt);
  for (const auto& [before, after] : detail::kBackgrounds) add(before), add(after);
  for (const auto word : detail::kAnonymous) add(word);
  for (const auto& names : kClassNames) {
    for (const Name& name : names) add(name.words);
  }
  for (const auto colour : kColourNames) add(colour);
  for (const auto& pattern : kPatternNames) add(pattern.adjectives[0]), add(pattern.adjectives[1]), add(pattern.phrase);
  return {words.begin(), words.end()};
}

}  // namespace wardrobe
