#include "wardrobe/evaluation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "fake_photos.hpp"

namespace wardrobe {
namespace {

using ::testing::HasSubstr;

const std::vector<EvaluationSet>& sets() {
  static const auto all = evaluation_sets(fake::photos());
  return all;
}
const EvaluationSet& set_named(std::string_view name) {
  for (const auto& set : sets()) {
    if (set.name == name) return set;
  }
  throw std::out_of_range(std::string(name));
}

TEST(EvaluationSets, AreTheSameAtEveryCallAndFitTogether) {
  const auto again = evaluation_sets(fake::photos());
  ASSERT_EQ(sets().size(), 9u);
  for (std::size_t s = 0; s < sets().size(); ++s) {
    const EvaluationSet& set = sets()[s];
    EXPECT_EQ(set.scenes, again[s].scenes);
    EXPECT_EQ(set.labels, again[s].labels);
    EXPECT_EQ(set.candidates, again[s].candidates);
    EXPECT_TRUE(set.scenes.size() >= 1000 && set.scenes.size() <= 2000);
    EXPECT_EQ(set.correct.size(), set.scenes.size());
    EXPECT_EQ(std::ssize(set.candidates), set.choices * std::ssize(set.scenes));
    for (std::size_t i = 0; i < set.scenes.size(); ++i) {
      ASSERT_LT(set.correct[i], std::ssize(set.labels));
      const auto choices =
          std::span(set.candidates)
              .subspan(i * static_cast<std::size_t>(set.choices), static_cast<std::size_t>(set.choices));
      std::set<std::string> texts;
      for (const Index choice : choices) texts.insert(set.labels[static_cast<std::size_t>(choice)]);
      ASSERT_EQ(std::ssize(texts), set.choices) << "no label is offered twice";
      if (set.choices) {
        ASSERT_EQ(std::count(choices.begin(), choices.end(), set.correct[i]), 1);
      }
    }
    if (set.choices == 0) {
      EXPECT_EQ(std::set(set.labels.begin(), set.labels.end()).size(), set.labels.size());
    }
  }
  EXPECT_EQ(set_named("pair_garments").labels.size(), 180u);
  EXPECT_EQ(set_named("triples").labels.size(), 540u);
  EXPECT_EQ(set_named("retrieval").labels.size(), 1000u);
}

TEST(EvaluationSets, ShowWhatTheyPromise) {
  const auto pair_seen = [](const Scene& s) {
    return seen_in_training(s.objects[0].object_class, s.objects[0].colour);
  };
  const auto triple_seen = [](const Scene& s) {
    return seen_in_training(s.objects[0].object_class, s.objects[0].colour, s.objects[0].pattern);
  };
  const auto garment = [](const Scene& s) { return is_garment(s.objects[0].object_class); };
  for (const Scene& s : set_named("pair_garments").scenes) EXPECT_TRUE(!pair_seen(s) && garment(s));
  for (const Scene& s : set_named("pair_shapes").scenes) EXPECT_TRUE(!pair_seen(s) && !garment(s));
  for (const Scene& s : set_named("triples").scenes) EXPECT_TRUE(pair_seen(s) && !triple_seen(s));
  for (const Scene& s : set_named("class_garments").scenes) EXPECT_TRUE(triple_seen(s) && garment(s));
  for (const Scene& s : set_named("class_shapes").scenes) EXPECT_TRUE(triple_seen(s) && !garment(s));
  for (const Scene& s : set_named("random_labels").scenes) EXPECT_FALSE(triple_seen(s));
  for (const Scene& s : set_named("retrieval").scenes) EXPECT_FALSE(triple_seen(s));
  for (const auto name : {"binding", "order"}) {
    for (const Scene& s : set_named(name).scenes) {
      const auto& [a, b] = s.objects;
      EXPECT_TRUE(s.object_count == 2 && seen_together({a.object_class, a.colour}, {b.object_class, b.colour}));
    }
  }
}

TEST(EvaluationSets, TheCorrectLabelSaysWhatTheSceneShows) {
  const auto words = [](const Object& o) {
    return std::string(name_of(o.colour)) + " " + std::string(names_of(o.object_class)[0].words);
  };
  for (const EvaluationSet& set : sets()) {
    for (std::size_t i = 0; i < set.scenes.size(); ++i) {
      const std::string& label = set.labels[static_cast<std::size_t>(set.correct[i])];
      const auto& [first, second] = set.scenes[i].objects;
      if (set.scenes[i].object_count == 2) {
        const auto upper = label.find(words(first)), lower = label.find(words(second));
        ASSERT_TRUE(upper != std::string::npos && lower != std::string::npos) << label;
        if (set.name == "order") {
          ASSERT_THAT(label, HasSubstr(upper < lower ? " above " : " below "));
        }
        continue;
      }
      const bool classes_only = set.name.starts_with("class");
      ASSERT_THAT(label, HasSubstr(classes_only ? std::string(names_of(first.object_class)[0].words) : words(first)));
      if (set.labels.size() > 180) {
        ASSERT_THAT(label, HasSubstr(names_of(first.pattern).adjectives[0]));
      }
      if (set.name == "retrieval") {
        ASSERT_THAT(label, HasSubstr(std::string(name_of(set.scenes[i].background)) + " background"));
      }
    }
  }
}

TEST(EvaluationSets, TheWrongOfTwoLabelsIsNotTrue) {
  for (const auto name : {"binding", "order"}) {
    const EvaluationSet& set = set_named(name);
    for (std::size_t i = 0; i < set.scenes.size(); ++i) {
      EXPECT_EQ(set.correct[i], set.candidates[2 * i]);
      auto right = split_words(set.labels[2 * i]), wrong = split_words(set.labels[2 * i + 1]);
      ASSERT_NE(right, wrong);
      for (auto* words : {&right, &wrong}) {
        std::erase_if(*words, [](std::string_view w) { return w == "a" || w == "an"; });
        std::sort(words->begin(), words->end());
      }
      EXPECT_EQ(right, wrong) << "the same words in another order";
    }
  }
}

TEST(Score, OfAnOracleIsFullAndOfAConstantNothing) {
  for (const EvaluationSet& set : sets()) {
    const auto oracle = score(set, [&](Index image, Index label) {
      return set.correct[static_cast<std::size_t>(image)] == label ? 1.0 : 0.0;
    });
    EXPECT_EQ(oracle.size(), set.name == "retrieval" ? 2u : 1u);
    for (const auto& row : oracle) EXPECT_EQ(row.top1.value(), 1) << row.title;
    for (const auto& row : score(set, [](Index, Index) { return 0.5; })) EXPECT_EQ(row.top1.hits, 0) << "ties lose";
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const auto& row : score(set, [&](Index, Index) { return nan; })) EXPECT_EQ(row.top5.hits, 0);
  }
}

TEST(Score, OfGuessingIsTheChanceLevel) {
  for (const EvaluationSet& set : sets()) {
    const auto rows = score(set, [&](Index image, Index label) {
      return gatefold::Rng(9, static_cast<std::uint64_t>(image * 4096 + label)).uniform();
    });
    for (const auto& row : rows) {
      const auto n = static_cast<double>(row.top1.count);
      EXPECT_NEAR(row.top1.value(), row.chance1, 4 * std::sqrt(row.chance1 / n)) << row.title;
      EXPECT_NEAR(row.top5.value(), row.chance5, 4 * std::sqrt(row.chance5 / n)) << row.title;
    }
  }
  EXPECT_DOUBLE_EQ(set_named("binding").chance(1), 0.5);
  EXPECT_DOUBLE_EQ(set_named("binding").chance(5), 1);
  EXPECT_DOUBLE_EQ(set_named("random_labels").chance(5), 0.5);
  EXPECT_DOUBLE_EQ(set_named("triples").chance(1), 1.0 / 540);
}

TEST(Score, CountsTopFiveAndBothDirections) {
  EvaluationSet set{.name = "retrieval", .title = "t", .label_title = "l"};
  set.scenes.resize(7);
  set.labels = {"a", "b", "c", "d", "e", "f", "g"};
  set.correct = {0, 1, 2, 3, 4, 5, 6};
  // Every image is most similar to the labels in falling order 6, 5, ... 0; every label to image 0, then 1, ...
  const auto rows = score(
      set, [](Index image, Index label) { return static_cast<double>(label) - 10.0 * static_cast<double>(image); });
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].top1.hits, 1);  // image 6
  EXPECT_EQ(rows[0].top5.hits, 5);  // images 2 to 6
  EXPECT_EQ(rows[1].top1.hits, 1);  // label 0
  EXPECT_EQ(rows[1].top5.hits, 5);
  set.correct[3] = 3;
  const auto poisoned = score(set, [](Index image, Index label) {
    return image == 3 ? std::numeric_limits<double>::quiet_NaN() : image == label ? 1.0 : 0.0;
  });
  EXPECT_EQ(poisoned[0].top1.hits, 6) << "a NaN of one image stays with that image";
}

TEST(Score, OfEmbeddingsIsThatOfTheirInnerProducts) {
  const EvaluationSet& set = set_named("class_shapes");
  constexpr Index kWidth = 3;
  gatefold::Rng rng(11);
  std::vector<float> images(set.scenes.size() * 3), labels(set.labels.size() * 3);
  for (auto* values : {&images, &labels}) {
    for (float& value : *values) value = static_cast<float>(rng.below(64)) - 32;  // small integers: exact products
  }
  const auto rows = score(set, EmbeddedSet{{images, kWidth}, {labels, kWidth}});
  const auto expected = score(set, [&](Index image, Index label) {
    Index sum = 0;
    for (Index p = 0; p < kWidth; ++p) {
      sum += static_cast<Index>(images[static_cast<std::size_t>(3 * image + p)]) *
             static_cast<Index>(labels[static_cast<std::size_t>(3 * label + p)]);
    }
    return static_cast<double>(sum);
  });
  EXPECT_EQ(rows[0].top1.hits, expected[0].top1.hits);
  EXPECT_EQ(rows[0].top5.hits, expected[0].top5.hits);
  EXPECT_THROW(score(set, EmbeddedSet{{images, kWidth}, {labels, 4}}), std::invalid_argument);
  EXPECT_THROW(score(set, EmbeddedSet{{images, 0}, {labels, 0}}), std::invalid_argument);
  images.pop_back();
  EXPECT_THROW(score(set, EmbeddedSet{{images, kWidth}, {labels, kWidth}}), std::invalid_argument);
}

TEST(Proportion, HasWilsonsInterval) {
  // Values of R's binom::binom.wilson(x, n).
  const auto expect = [](const Proportion& p, double low, double high) {
    EXPECT_NEAR(p.interval()[0], low, 5e-5);
    EXPECT_NEAR(p.interval()[1], high, 5e-5);
  };
  expect({8, 10}, 0.4902, 0.9433);
  expect({0, 10}, 0.0, 0.2775);
  expect({10, 10}, 0.7225, 1.0);
  expect({50, 100}, 0.4038, 0.5962);
}

TEST(MarkdownTable, HasOneLineForEachRow) {
  const std::vector<EvaluationRow> rows{{"shapes", "8 classes", {90, 100}, {100, 100}, 0.125, 0.625},
                                        {"binding", "2", {50, 100}, {100, 100}, 0.5, 1}};
  const std::string table = markdown_table(rows);
  EXPECT_THAT(table,
              HasSubstr("| shapes | 8 classes | 100 | 90.0 (82.6 to 94.5) | 100.0 (96.3 to 100.0) | 12.5 / 62.5 |\n"));
  EXPECT_THAT(table, HasSubstr("| binding | 2 | 100 | 50.0 (40.4 to 59.6) |  | 50.0 |\n"));
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 4);
}

}  // namespace
}  // namespace wardrobe
