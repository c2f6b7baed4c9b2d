#include "wardrobe/questions.hpp"

#include <set>

#include "gatefold/text/vocabulary.hpp"

namespace wardrobe {
namespace {

using gatefold::Rng;

constexpr auto kCountNames = std::to_array<std::string_view>({"one", "two"});
constexpr auto kYesNo = std::to_array<std::string_view>({"yes", "no"});
constexpr std::string_view kAbove = detail::kUpperFirst, kBelow = detail::kLowerFirst;

const Name& first_name(ObjectClass object_class) { return names_of(object_class).front(); }
std::string text_of(ObjectClass object_class) { return std::string(first_name(object_class).words); }
std::string the(ObjectClass object_class) { return "the " + text_of(object_class); }
bool is_plural(ObjectClass object_class) { return first_name(object_class).number == Number::plural; }
std::string is(ObjectClass object_class) { return is_plural(object_class) ? "are" : "is"; }
std::string pattern_text(Pattern pattern) { return std::string(names_of(pattern).adjectives[0]); }

/// Class, colour and pattern of what is there, and the background: all that questions are about.
Scene draw_sketch(Index count, Rng& rng) {
  Scene scene;
  scene.object_count = count;
  for (auto& object : std::span(scene.objects).first(static_cast<std::size_t>(count))) {
    object.object_class = detail::draw_value<ObjectClass>(kClassCount, rng);
    object.colour = detail::draw_value<Colour>(kColourCount, rng);
    object.pattern = count == 1 ? detail::draw_value<Pattern>(kPatternCount, rng) : Pattern::plain;
  }
  scene.background = detail::draw_value<Colour>(kColourCount, rng);
  return scene;
}

bool is_shown(const Scene& scene, Shown shown) {
  bool all_seen = true;
  for (const auto& o : std::span(scene.objects).first(static_cast<std::size_t>(scene.object_count))) {
    if (o.colour == scene.background) return false;
    all_seen = all_seen && seen_in_training(o.object_class, o.colour, o.pattern);
  }
  const auto &a = scene.objects[0], &b = scene.objects[1];
  if (scene.object_count == 2 && (a.object_class == b.object_class || a.colour == b.colour)) return false;
  return all_seen == (shown == Shown::seen);
}

enum class Claim : std::uint8_t { colour, presence, order };

/// A question, and the class in a colour that it names beyond what the picture shows.
struct Draft {
  Question question;
  std::optional<Tinted> named = {};
};

/// A question about a sketch; `claim` is what a yes or no is about.
Draft ask(const Scene& scene, Asks asks, Claim claim, Rng& rng) {
  const auto which = static_cast<std::size_t>(rng.below(scene.object_count));
  const auto &object = scene.objects[which], &other = scene.objects[1 - which];
  const auto object_class = object.object_class;
  const auto link = [](bool above) { return std::string(above ? kAbove : kBelow); };
  const auto truth = [](bool yes) { return std::string(kYesNo[yes ? 0 : 1]); };
  switch (asks) {
    case Asks::object_class:
      return {{asks, "what is this", text_of(object_class)}};
    case Asks::colour:
      return {{asks, "what colour " + is(object_class) + " " + the(object_class), std::string(name_of(object.colour))}};
    case Asks::pattern:
      return {{asks, "what pattern " + std::string(is_plural(object_class) ? "have " : "has ") + the(object_class),
               pattern_text(object.pattern)}};
    case Asks::background:
      return {{asks, "what colour is the background", std::string(name_of(scene.background))}};
    case Asks::order:  // the upper one comes first
      return {{asks, "what is " + link(which == 1) + " " + the(object_class), text_of(other.object_class)}};
    case Asks::count:
      return {{asks, "how many things are there",
               std::string(kCountNames[static_cast<std::size_t>(scene.object_count - 1)])}};
    case Asks::yes_no:
      break;
  }
  switch (claim) {
    case Claim::colour: {
      const auto said = rng.below(2) ? object.colour : detail::draw_value<Colour>(kColourCount, rng);
      return {{asks, is(object_class) + " " + the(object_class) + " " + std::string(name_of(said)),
               truth(said == object.colour)},
              Tinted{object_class, said}};
    }
    case Claim::presence: {
      const auto said = rng.below(2) ? object_class : detail::draw_value<ObjectClass>(kClassCount, rng);
      const bool there = said == object_class || (scene.object_count == 2 && said == other.object_class);
      return {
          {asks, is(said) + " there " + detail::with_article(text_of(said), first_name(said).number), truth(there)}};
    }
    case Claim::order:
      break;
  }
  const bool above = rng.below(2) == 0;
  return {{asks, is(object_class) + " " + the(object_class) + " " + link(above) + " " + the(other.object_class),
           truth(above == (which == 0))}};
}

}  // namespace

const std::vector<std::string>& answers_to(Asks asks) {
  static const auto all = [] {
    std::array<std::vector<std::string>, static_cast<std::size_t>(kAsksCount)> lists;
    const auto list = [&](Asks kind) -> auto& { return lists[static_cast<std::size_t>(kind)]; };
    for (Index c = 0; c < kClassCount; ++c) list(Asks::object_class).push_back(text_of(static_cast<ObjectClass>(c)));
    for (const auto name : kColourNames) list(Asks::colour).emplace_back(name);
    for (Index p = 0; p < kPatternCount; ++p) list(Asks::pattern).push_back(pattern_text(static_cast<Pattern>(p)));
    list(Asks::background) = list(Asks::colour);
    list(Asks::order) = list(Asks::object_class);
    for (const auto name : kCountNames) list(Asks::count).emplace_back(name);
    for (const auto name : kYesNo) list(Asks::yes_no).emplace_back(name);
    return lists;
  }();
  return all[static_cast<std::size_t>(asks)];
}

Asked make_question(const SampleKey& key, Shown shown, const Photos& photos) {
  const std::uint64_t streams = shown == Shown::seen ? 6 : 7;  // of eight; corpus_scene has 2, make_sample 4
  Rng rng(key.seed, streams << 61 | (key.index & ((std::uint64_t{1} << 61) - 1)));
  const auto asks = static_cast<Asks>(key.index % static_cast<std::uint64_t>(kAsksCount));
  const auto claim = detail::draw_value<Claim>(3, rng);
  const std::string wanted = detail::pick(answers_to(asks), rng);
  const bool of_two = asks == Asks::order || (asks == Asks::yes_no && claim == Claim::order) ||
                      (asks == Asks::count && wanted == kCountNames[1]);
  const bool of_one = asks == Asks::object_class || asks == Asks::pattern || asks == Asks::count;
  const Index count = of_two || (!of_one && rng.below(2)) ? 2 : 1;
  Asked asked;
  for (;;) {
    asked.scene = draw_sketch(count, rng);
    if (!is_shown(asked.scene, shown)) continue;
    auto [question, named] = ask(asked.scene, asks, claim, rng);
    if (question.answer != wanted) continue;
    if (shown == Shown::seen && named && !seen_in_training(named->object_class, named->colour)) continue;
    asked.question = std::move(question);
    break;
  }

  const auto background = asked.scene.background;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    auto& object = asked.scene.objects[i];
    detail::draw_looks(object, photos, rng);
    if (count == 2)
      detail::place_in_half(object, i == 0 ? 12 : 36, rng);
    else
      detail::place_alone(object, rng);
  }
  detail::draw_background(asked.scene, rng);
  asked.scene.background = background;
  return asked;
}

std::vector<std::string> question_words() {
  std::set<std::string> words;
  const auto add = [&](std::string_view text) {
    for (auto& word : gatefold::split_words(text)) words.insert(std::move(word));
  };
  for (Index k = 0; k < kAsksCount; ++k)
    for (const auto& answer : answers_to(static_cast<Asks>(k))) add(answer);
  for (const auto text : {"what is this", "what colour are the background", "what pattern has have", "a an above below",
                          "how many things are there"})
    add(text);
  return {words.begin(), words.end()};
}

}  // namespace wardrobe
