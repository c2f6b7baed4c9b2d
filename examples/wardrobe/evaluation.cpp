#include "wardrobe/evaluation.hpp"

#include <cstdio>
#include <stdexcept>
#include <unordered_set>

#include "gatefold/core/random.hpp"
#include "wardrobe/caption.hpp"

namespace wardrobe {

namespace detail {
namespace {

struct Combination {
  ObjectClass object_class{};
  Colour colour{};
  Pattern pattern{};
  Index index(Index patterns) const {
    return (static_cast<Index>(object_class) * kColourCount + static_cast<Index>(colour)) * patterns +
           (patterns > 1 ? static_cast<Index>(pattern) : 0);
  }
};

template <class Keep>
std::vector<Combination> combinations(const Keep& keep) {
  std::vector<Combination> kept;
  for (Index i = 0; i < kClassCount * kColourCount * kPatternCount; ++i) {
    const Combination c{static_cast<ObjectClass>(i / (kColourCount * kPatternCount)),
                        static_cast<Colour>(i / kPatternCount % kColourCount), static_cast<Pattern>(i % kPatternCount)};
    if (keep(c)) kept.push_back(c);
  }
  return kept;
}

std::vector<std::string> labels_of(const std::vector<Combination>& all, Index patterns) {
  std::vector<std::string> labels;
  for (const auto& c : all) {
    if (patterns == 1 && c.pattern != Pattern::plain) continue;
    Meaning meaning{c.object_class, c.colour, {}, {}};
    if (patterns > 1) meaning.pattern = c.pattern;
    labels.push_back(label_caption(meaning));
  }
  return labels;
}

/// Images of the kept combinations in turn (so all are equally frequent), labels for all classes and colours.
template <class Keep>
EvaluationSet combination_set(const EvaluationSet& heading, Index count, Index patterns, const Photos& photos,
                              gatefold::Rng rng, const Keep& keep) {
  EvaluationSet set = heading;
  set.labels = labels_of(combinations([](const Combination&) { return true; }), patterns);
  const auto kept = combinations(keep);
  for (Index i = 0; i < count; ++i) {
    const Combination& c = kept[static_cast<std::size_t>(i % std::ssize(kept))];
    set.scenes.push_back(scene_of(c.object_class, c.colour, c.pattern, photos, rng));
    set.correct.push_back(c.index(patterns));
  }
  return set;
}

EvaluationSet class_set(const EvaluationSet& heading, Index count, const Photos& photos, gatefold::Rng rng,
                        ObjectClass begin, Index classes) {
  EvaluationSet set = heading;
  const auto first = static_cast<Index>(begin);
  for (Index c = 0; c < classes; ++c)
    set.labels.push_back(label_caption({static_cast<ObjectClass>(first + c), {}, {}, {}}));
  for (Index i = 0; i < count; ++i) {
    const auto object_class = static_cast<ObjectClass>(first + i % classes);
    Colour colour{};
    Pattern pattern{};
    do {
      colour = draw_value<Colour>(kColourCount, rng), pattern = draw_pattern(rng);
    } while (!seen_in_training(object_class, colour, pattern));
    set.scenes.push_back(scene_of(object_class, colour, pattern, photos, rng));
    set.correct.push_back(i % classes);
  }
  return set;
}

/// Two labels per image, [2 i] right and [2 i + 1] wrong, offered in that order.
template <class Labels>
EvaluationSet two_way_set(const EvaluationSet& heading, Index count, const Photos& photos, gatefold::Rng rng,
                          const Labels& labels) {
  EvaluationSet set = heading;
  set.choices = 2;
  for (Index i = 0; i < count; ++i) {
    set.scenes.push_back(draw_pair_scene({}, photos, rng));
    const auto& [upper, lower] = set.scenes.back().objects;
    for (const PairLabel& label : labels(upper, lower, rng)) {
      set.candidates.push_back(std::ssize(set.labels));
      set.labels.push_back(label_caption(label));
    }
    set.correct.push_back(2 * i);
  }
  return set;
}

}  // namespace
}  // namespace detail

std::vector<EvaluationSet> evaluation_sets(const Photos& test) {
  using detail::Combination;
  constexpr std::uint64_t kSeed = 0x7465737400000000;  // apart from any training seed a person types
  const auto held_out_pair = [](const Combination& c) { return !seen_in_training(c.object_class, c.colour); };
  const auto held_out = [](const Combination& c) { return !seen_in_training(c.object_class, c.colour, c.pattern); };
  std::vector<EvaluationSet> sets;
  sets.push_back(detail::combination_set(
      {.name = "pair_garments", .title = "never-seen class x colour, garments", .label_title = "180 class x colour"},
      1500, 1, test, gatefold::Rng(kSeed, 0),
      [&](const Combination& c) { return held_out_pair(c) && is_garment(c.object_class); }));
  sets.push_back(detail::combination_set(
      {.name = "pair_shapes", .title = "never-seen class x colour, shapes", .label_title = "180 class x colour"}, 1000,
      1, test, gatefold::Rng(kSeed, 1),
      [&](const Combination& c) { return held_out_pair(c) && !is_garment(c.object_class); }));
  sets.push_back(detail::combination_set(
      {.name = "triples", .title = "never-seen class x colour x pattern", .label_title = "540 triples"}, 1500,
      kPatternCount, test, gatefold::Rng(kSeed, 2),
      [&](const Combination& c) { return held_out(c) && !held_out_pair(c); }));
  sets.push_back(
      detail::class_set({.name = "class_garments", .title = "class only, garments", .label_title = "10 classes"}, 2000,
                        test, gatefold::Rng(kSeed, 3), ObjectClass::t_shirt, kGarmentCount));
  sets.push_back(detail::class_set({.name = "class_shapes", .title = "class only, shapes", .label_title = "8 classes"},
                                   1000, test, gatefold::Rng(kSeed, 4), ObjectClass::circle,
                                   kClassCount - kGarmentCount));

  auto random = detail::combination_set(
      {.name = "random_labels", .title = "never-seen combination, random labels", .label_title = "10 random of 540"},
      1500, kPatternCount, test, gatefold::Rng(kSeed, 5), held_out);
  random.choices = 10;
  gatefold::Rng rng(kSeed, 6);
  for (const Index correct : random.correct) {
    const auto begin = std::ssize(random.candidates);
    random.candidates.push_back(correct);
    while (std::ssize(random.candidates) < begin + random.choices) {
      const Index other = rng.below(std::ssize(random.labels));
      const auto first = random.candidates.begin() + begin;
      if (std::find(first, random.candidates.end(), other) == random.candidates.end())
        random.candidates.push_back(other);
    }
  }
  sets.push_back(std::move(random));

  sets.push_back(detail::two_way_set(
      {.name = "binding", .title = "two objects, which has which colour", .label_title = "2, colours exchanged"}, 1000,
      test, gatefold::Rng(kSeed, 7), [](const Object& upper, const Object& lower, gatefold::Rng& lot) {
        const bool upper_first = lot.below(2) == 0;
        const Object& a = upper_first ? upper : lower;
        const Object& b = upper_first ? lower : upper;
        return std::array{PairLabel{detail::kUnordered, a.object_class, a.colour, b.object_class, b.colour},
                          PairLabel{detail::kUnordered, a.object_class, b.colour, b.object_class, a.colour}};
      }));
  sets.push_back(detail::two_way_set(
      {.name = "order", .title = "two objects, above or below", .label_title = "2, objects exchanged"}, 1000, test,
      gatefold::Rng(kSeed, 8), [](const Object& upper, const Object& lower, gatefold::Rng& lot) {
        const bool upper_first = lot.below(2) == 0;
        const Object& a = upper_first ? upper : lower;
        const Object& b = upper_first ? lower : upper;
        const auto link = upper_first ? detail::kUpperFirst : detail::kLowerFirst;
        return std::array{PairLabel{link, a.object_class, a.colour, b.object_class, b.colour},
                          PairLabel{link, b.object_class, b.colour, a.object_class, a.colour}};
      }));

  EvaluationSet retrieval{
      .name = "retrieval", .title = "retrieval among never-seen combinations", .label_title = "1000 captions"};
  const auto kept = detail::combinations(held_out);
  std::unordered_set<std::string> texts;
  rng = gatefold::Rng(kSeed, 9);
  while (std::ssize(retrieval.labels) < 1000) {
    const Combination c = detail::pick(kept, rng);
    const Scene scene = scene_of(c.object_class, c.colour, c.pattern, test, rng);
    auto text = label_caption({c.object_class, c.colour, c.pattern, scene.background});
    if (!texts.insert(text).second) continue;
    retrieval.correct.push_back(std::ssize(retrieval.labels));
    retrieval.labels.push_back(std::move(text));
    retrieval.scenes.push_back(scene);
  }
  sets.push_back(std::move(retrieval));
  return sets;
}

namespace detail {

std::vector<Index> all_of(Index count) {
  std::vector<Index> indices(static_cast<std::size_t>(count));
  for (Index i = 0; i < count; ++i) indices[static_cast<std::size_t>(i)] = i;
  return indices;
}

void count_rank(EvaluationRow& row, Index rank) {
  row.top1.hits += rank < 1, row.top5.hits += rank < 5;
  ++row.top1.count, ++row.top5.count;
}

}  // namespace detail

std::vector<EvaluationRow> score(const EvaluationSet& set, const EmbeddedSet& embedded) {
  const auto check = [&](const char* what, const Embeddings& came, std::ptrdiff_t rows) {
    if (came.width >= 1 && came.width == embedded.images.width && std::ssize(came.values) == rows * came.width) return;
    throw std::invalid_argument("wardrobe::score: " + set.name + ": " + what + " hold " +
                                std::to_string(came.values.size()) + " numbers in rows of " +
                                std::to_string(came.width) + ", expected " + std::to_string(rows) +
                                " rows of the images' width " + std::to_string(embedded.images.width));
  };
  check("images", embedded.images, std::ssize(set.scenes));
  check("labels", embedded.labels, std::ssize(set.labels));
  const Index width = embedded.images.width;
  return score(set, [&](Index image, Index label) {
    double sum = 0;
    for (Index p = 0; p < width; ++p) {
      sum += static_cast<double>(embedded.images.values[static_cast<std::size_t>(image * width + p)]) *
             static_cast<double>(embedded.labels.values[static_cast<std::size_t>(label * width + p)]);
    }
    return sum;
  });
}

std::string markdown_table(std::span<const EvaluationRow> rows) {
  std::string table =
      "| test | labels | n | top-1 % (95 % interval) | top-5 % (95 % interval) | chance % "
      "|\n|---|---|---|---|---|---|\n";
  const auto percent = [](double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f", 100 * value);
    return std::string(text.data());
  };
  const auto cell = [&](const Proportion& p) {
    const auto [low, high] = p.interval();
    return percent(p.value()) + " (" + percent(low) + " to " + percent(high) + ")";
  };
  for (const EvaluationRow& row : rows) {
    const bool few = row.chance5 >= 1;  // of five choices or fewer, the best five say nothing
    table += "| " + row.title + " | " + row.label_title + " | " + std::to_string(row.top1.count) + " | " +
             cell(row.top1) + " | " + (few ? "" : cell(row.top5)) + " | " + percent(row.chance1) +
             (few ? "" : " / " + percent(row.chance5)) + " |\n";
  }
  return table;
}

}  // namespace wardrobe
