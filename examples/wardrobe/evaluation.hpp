#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "wardrobe/sampler.hpp"
#include "wardrobe/scene.hpp"

namespace wardrobe {

/// Images, the labels to choose among and the right ones. Knows no model.
struct EvaluationSet {
  std::string name = {};                     ///< a file name
  std::string title = {}, label_title = {};  ///< for the table
  std::vector<Scene> scenes = {};            ///< [R], photos of the split that the set was made for
  std::vector<std::string> labels = {};
  std::vector<Index> correct = {};     ///< [R] index into labels
  Index choices = 0;                   ///< labels to choose among per image; 0 = all
  std::vector<Index> candidates = {};  ///< [R, choices], the correct one among them; empty for all

  Index choice_count() const { return choices ? choices : std::ssize(labels); }
  /// The score of guessing, for the best `k`.
  double chance(Index k) const {
    return static_cast<double>(std::min(k, choice_count())) / static_cast<double>(choice_count());
  }
};

/// Retrieval pairs image i with label i and is scored in both directions.
inline bool is_retrieval(const EvaluationSet& set) { return set.name == "retrieval"; }

/// All evaluations of the wardrobe world, the same at every call. `test` is the split of 10,000 photos that training
/// never sees; where a combination is called never-seen, training had neither its images nor its name.
std::vector<EvaluationSet> evaluation_sets(const Photos& test);

/// `hits` of `count`, with Wilson's interval (1927): unlike the normal one it stays inside [0, 1].
struct Proportion {
  Index hits = 0, count = 0;
  double value() const { return static_cast<double>(hits) / static_cast<double>(count); }
  /// The 95 % interval, lower and upper end.
  std::array<double, 2> interval() const {
    constexpr double z = 1.959963984540054;
    const double n = static_cast<double>(count), p = value(), scale = 1 / (1 + z * z / n);
    const double middle = scale * (p + z * z / (2 * n));
    const double reach = scale * z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    return {middle - reach, middle + reach};
  }
};

/// One row of the table.
struct EvaluationRow {
  std::string title, label_title;
  Proportion top1, top5;
  double chance1 = 0, chance5 = 0;
};

/// Embeddings of one thing per row.
struct Embeddings {
  std::span<const float> values;  // [R, P]
  Index width = 0;
};
struct EmbeddedSet {
  Embeddings images;  ///< of the rendered scenes
  Embeddings labels;
};

namespace detail {

/// How many of the choices beat or equal the right one; a similarity that is not a number beats nothing, and a right
/// one that is no number is last.
template <class Similarity, class Choices>
Index rank_of(Index correct, const Choices& choices, const Similarity& similarity) {
  const double right = similarity(correct);
  Index rank = 0;
  for (const Index choice : choices) {
    if (choice != correct && similarity(choice) >= right) ++rank;
  }
  return std::isnan(right) ? std::numeric_limits<Index>::max() : rank;
}

std::vector<Index> all_of(Index count);

void count_rank(EvaluationRow& row, Index rank);

}  // namespace detail

/// Scores a set from `similarity(image, label)`, the larger the better; ties count against the model. Retrieval gives
/// two rows, image to text and text to image; every other set one.
template <class Similarity>
requires std::is_invocable_r_v<double, const Similarity&, Index, Index> std::vector<EvaluationRow> score(
    const EvaluationSet& set, const Similarity& similarity) {
  EvaluationRow row{set.title, set.label_title, {}, {}, set.chance(1), set.chance(5)};
  const auto all = detail::all_of(std::ssize(set.labels));
  for (Index i = 0; i < std::ssize(set.scenes); ++i) {
    const auto begin = static_cast<std::size_t>(i * set.choices), count = static_cast<std::size_t>(set.choices);
    const std::span<const Index> choices =
        set.choices ? std::span(set.candidates).subspan(begin, count) : std::span(all);
    detail::count_rank(row, detail::rank_of(set.correct[static_cast<std::size_t>(i)], choices,
                                            [&](Index label) { return static_cast<double>(similarity(i, label)); }));
  }
  if (!is_retrieval(set)) return {row};
  EvaluationRow back{set.title + ", text to image", "1000 images", {}, {}, set.chance(1), set.chance(5)};
  row.title += ", image to text";
  for (Index label = 0; label < std::ssize(set.labels); ++label) {
    detail::count_rank(back, detail::rank_of(label, std::span<const Index>(all), [&](Index image) {
                         return static_cast<double>(similarity(image, label));
                       }));
  }
  return {row, back};
}

/// The same from embeddings, whose similarity is the inner product. Throws std::invalid_argument for sizes that do not
/// fit the set.
std::vector<EvaluationRow> score(const EvaluationSet& set, const EmbeddedSet& embedded);

/// The rows as a Markdown table: percentages with n, 95 % intervals and what guessing would score.
std::string markdown_table(std::span<const EvaluationRow> rows);

}  // namespace wardrobe
