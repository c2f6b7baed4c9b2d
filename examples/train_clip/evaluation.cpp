#include "train_clip/evaluation.hpp"

#include <cstdio>
#include <list>
#include <map>
#include <set>
#include <unordered_map>

#include "gatefold/routing/routing_report.hpp"
#include "train_clip/wardrobe_pairs.hpp"

namespace train_clip {
namespace {

using wardrobe::Scene;
using wardrobe::Telling;

constexpr std::uint64_t kTestSeed = 13, kSingleSeed = 14, kHardSeed = 15;
constexpr Index kGroup = 24;

/// Embeds texts and looks them up: labels repeat.
class TextTable {
 public:
  Index add(const std::string& text) {
    const auto [at, fresh] = index_.emplace(text, std::ssize(texts_));
    if (fresh) texts_.push_back(text);
    return at->second;
  }
  void embed(const Model& model, Context& ctx) { z_ = embed_texts(model, texts_, ctx); }
  const float* row(Index i) const { return z_.data() + i * z_.extent(1); }

 private:
  std::vector<std::string> texts_;
  std::unordered_map<std::string, Index> index_;
  Tensor<float, 2> z_{{0, 0}};
};

Scene single_scene(std::uint64_t seed, Index i, const wardrobe::Photos& photos) {
  gatefold::Rng rng(seed, std::uint64_t{1} << 62 | static_cast<std::uint64_t>(i));
  return wardrobe::draw_single_scene({}, photos, rng);
}
wardrobe::Told told(const Scene& scene, Telling telling, std::uint64_t seed, Index i) {
  gatefold::Rng rng(seed, static_cast<std::uint64_t>(i));
  return wardrobe::tell(scene, telling, rng);
}

/// Pictures to choose texts for, and the other way round: text i is of picture i.
struct Retrieval {
  std::vector<Index> picture;  // rows of the pictures' embeddings
  std::vector<Index> text;     // of the texts'
};

/// Choices of a text for a picture.
struct Choice {
  Index picture, correct;
  std::vector<Index> texts;
};

class Evaluation {
 public:
  Evaluation(const Model& model, const wardrobe::Photos& photos, Index pairs, Context& ctx)
      : photos_(photos), width_(model.clip.options.embedding) {
    retrievals(pairs);
    hard_groups(std::max<Index>(1, pairs / 25));
    classes(4 * pairs);
    attributes(std::max<Index>(1, pairs / 2));
    binding(std::max<Index>(1, pairs / 2));
    texts_.embed(model, ctx);
    z_ = embed_pictures(
        model.clip, std::ssize(scenes_),
        [&](Index i, gatefold::View<float, 3> out) { draw_scene(scenes_[static_cast<std::size_t>(i)], photos_, out); },
        ctx);
  }

  std::vector<Score> scores() const {
    std::vector<Score> all;
    for (const char* name : {"detailed", "medium"}) all.push_back(of_retrieval(name, {retrievals_.at(name)}));
    all.push_back(of_retrieval("hard", groups_));
    for (const auto& [name, choices] : choices_) {
      Score score{name, 0, 0, std::ssize(choices)};
      for (const auto& c : choices) {
        score.percent += rank(c.picture, c.texts, c.correct) == 0;
        score.chance += 1 / static_cast<double>(c.texts.size());
      }
      all.push_back(in_percent(score));
    }
    return all;
  }

 private:
  Index add_scene(const Scene& scene) {
    scenes_.push_back(scene);
    return std::ssize(scenes_) - 1;
  }

  void retrievals(Index pairs) {
    for (const auto& [name, telling] : {std::pair("detailed", Telling::detailed), {"medium", Telling::medium}}) {
      std::set<std::uint64_t> seen;
      auto& retrieval = retrievals_[name];
      for (Index i = 0; std::ssize(retrieval.picture) < pairs; ++i) {
        const Scene scene = wardrobe::corpus_scene({kTestSeed, static_cast<std::uint64_t>(i)}, photos_);
        const auto [text, meaning] = told(scene, telling, kTestSeed, i);
        if (!seen.insert(meaning).second) continue;
        retrieval.picture.push_back(add_scene(scene));
        retrieval.text.push_back(texts_.add(text));
      }
    }
  }

  void hard_groups(Index count) {
    struct Member {
      Scene scene;
      std::string text;
    };
    std::map<std::array<Index, 3>, std::map<std::uint64_t, Member>> groups;
    for (Index i = 0; i < 60000; ++i) {
      const Scene scene = single_scene(kHardSeed, i, photos_);
      const auto& o = scene.objects[0];
      auto& group = groups[{static_cast<Index>(o.object_class), static_cast<Index>(o.colour),
                            static_cast<Index>(scene.background)}];
      if (std::ssize(group) == kGroup) continue;
      const auto [text, meaning] = told(scene, Telling::detailed, kHardSeed, i);
      group.emplace(meaning, Member{scene, text});
    }
    for (const auto& [key, group] : groups) {
      if (std::ssize(groups_) == count) break;
      if (std::ssize(group) < kGroup) continue;
      auto& retrieval = groups_.emplace_back();
      for (const auto& [meaning, member] : group) {
        retrieval.picture.push_back(add_scene(member.scene));
        retrieval.text.push_back(texts_.add(member.text));
      }
    }
  }

  void classes(Index count) {
    std::vector<Index> all, garments;
    for (Index c = 0; c < wardrobe::kClassCount; ++c) {
      const auto name = wardrobe::names_of(static_cast<wardrobe::ObjectClass>(c))[0];
      all.push_back(texts_.add("a photo of " + wardrobe::detail::noun_phrase(name)));
      if (c < wardrobe::kGarmentCount) garments.push_back(all.back());
    }
    auto& of_all = choices("class 18");
    auto& of_garments = choices("garments");
    for (Index i = 0; i < count; ++i) {
      const Scene scene = single_scene(kSingleSeed, i, photos_);
      singles_.push_back(add_scene(scene));
      const auto object_class = static_cast<Index>(scene.objects[0].object_class);
      of_all.push_back({singles_.back(), object_class, all});
      if (object_class < wardrobe::kGarmentCount) of_garments.push_back({singles_.back(), object_class, garments});
    }
  }

  /// All that is said is right but for the attribute in question.
  void attributes(Index count) {
    using wardrobe::Colour, wardrobe::Pattern, wardrobe::detail::join, wardrobe::detail::noun_phrase;
    const auto add = [&](const char* name, Index values, const auto& correct, const auto& say) {
      auto& to = choices(name);
      for (Index i = 0; i < std::min(count, std::ssize(singles_)); ++i) {
        const Index picture = singles_[static_cast<std::size_t>(i)];
        const Scene& scene = scenes_[static_cast<std::size_t>(picture)];
        const auto& o = scene.objects[0];
        Choice choice{picture, correct(scene, o), {}};
        for (Index v = 0; v < values; ++v)
          choice.texts.push_back(texts_.add(say(v, o, wardrobe::names_of(o.object_class)[0])));
        to.push_back(std::move(choice));
      }
    };
    const auto at = [](const auto& table, Index v) { return table[static_cast<std::size_t>(v)]; };
    add(
        "pattern", wardrobe::kPatternCount, [](const auto&, const auto& o) { return static_cast<Index>(o.pattern); },
        [](Index v, const auto& o, const auto& name) { return noun_phrase(name, o.colour, static_cast<Pattern>(v)); });
    add(
        "size", 3, [](const auto&, const auto& o) { return wardrobe::size_of(o); },
        [&](Index v, const auto&, const auto& name) {
          return wardrobe::detail::with_article(join({at(wardrobe::kSizeNames, v), name.words}), name.number);
        });
    add(
        "colour", wardrobe::kColourCount, [](const auto&, const auto& o) { return static_cast<Index>(o.colour); },
        [](Index v, const auto&, const auto& name) { return noun_phrase(name, static_cast<Colour>(v)); });
    add(
        "background", wardrobe::kColourCount,
        [](const auto& scene, const auto&) { return static_cast<Index>(scene.background); },
        [](Index v, const auto&, const auto& name) {
          return join({noun_phrase(name), "on",
                       wardrobe::detail::with_article(std::string(name_of(static_cast<Colour>(v)))), "background"});
        });
    add(
        "texture", 4, [](const auto& scene, const auto&) { return static_cast<Index>(scene.texture); },
        [&](Index v, const auto&, const auto& name) {
          return join({noun_phrase(name), "on",
                       wardrobe::detail::with_article(std::string(at(wardrobe::kTextureNames, v))), "background"});
        });
    add(
        "place", 3, [](const auto&, const auto& o) { return wardrobe::column_of(o); },
        [&](Index v, const auto& o, const auto& name) {
          return join({noun_phrase(name), "in the", at(wardrobe::kRowNames, wardrobe::row_of(o)),
                       at(wardrobe::kColumnNames, v)});
        });
  }

  void binding(Index count) {
    auto& to = choices("binding");
    for (Index i = 0; std::ssize(to) < count; ++i) {
      const Scene scene = wardrobe::corpus_scene({kTestSeed, static_cast<std::uint64_t>(i)}, photos_);
      if (scene.object_count != 2) continue;
      const auto& [a, b] = scene.objects;
      const auto say = [&](wardrobe::Colour of_a, wardrobe::Colour of_b) {
        return texts_.add(wardrobe::label_caption(wardrobe::PairLabel{.first_class = a.object_class,
                                                                      .first_colour = of_a,
                                                                      .second_class = b.object_class,
                                                                      .second_colour = of_b}));
      };
      const Index right = say(a.colour, b.colour);
      to.push_back({add_scene(scene), 0, {right, say(b.colour, a.colour)}});
    }
  }

  double similarity(Index picture, Index text) const {
    const float *a = z_.data() + picture * width_, *b = texts_.row(text);
    double sum = 0;
    for (Index p = 0; p < width_; ++p) sum += double{a[p]} * double{b[p]};
    return sum;
  }
  /// How many others are as good; what is no number is worse than all.
  template <class Other>
  static Index beaten_by(Index count, Index correct, const Other& other) {
    const double right = other(correct);
    Index beaten = std::isnan(right) ? count : 0;
    for (Index i = 0; i < count; ++i) beaten += i != correct && other(i) >= right;
    return beaten;
  }
  Index rank(Index picture, const std::vector<Index>& texts, Index correct) const {
    return beaten_by(std::ssize(texts), correct,
                     [&](Index i) { return similarity(picture, texts[static_cast<std::size_t>(i)]); });
  }
  Score of_retrieval(const std::string& name, const std::vector<Retrieval>& groups) const {
    Score score{name, 0, 0, 0};
    for (const auto& [picture, text] : groups) {
      const Index n = std::ssize(picture);
      for (Index i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        score.percent += (rank(picture[at], text, i) == 0) / 2.0;
        score.percent +=
            (beaten_by(n, i, [&](Index j) { return similarity(picture[static_cast<std::size_t>(j)], text[at]); }) ==
             0) /
            2.0;
        score.chance += 1 / static_cast<double>(n);
      }
      score.count += n;
    }
    return in_percent(score);
  }
  static Score in_percent(Score score) {
    const double scale = score.count > 0 ? 100 / static_cast<double>(score.count) : 0;
    score.percent *= scale, score.chance *= scale;
    return score;
  }

  std::vector<Choice>& choices(const std::string& name) {
    return choices_.emplace_back(name, std::vector<Choice>()).second;
  }

  const wardrobe::Photos& photos_;
  Index width_;
  std::vector<Scene> scenes_;
  std::vector<Index> singles_;
  TextTable texts_;
  std::map<std::string, Retrieval> retrievals_;
  std::vector<Retrieval> groups_;
  std::list<std::pair<std::string, std::vector<Choice>>> choices_;
  Tensor<float, 2> z_{{0, 0}};
};

std::string percent(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

}  // namespace

std::vector<Score> evaluate(const Model& model, const wardrobe::Photos& test, Index pairs, Context& ctx) {
  return Evaluation(model, test, pairs, ctx).scores();
}

std::string markdown_of(const std::vector<Score>& scores) {
  std::string text = "| test | % | chance | n |\n|---|---|---|---|\n";
  for (const auto& [name, value, chance, count] : scores)
    text += "| " + name + " | " + percent(value) + " | " + percent(chance) + " | " + to_text(count) + " |\n";
  return text;
}

std::string routing_of(const Model& model, const wardrobe::Photos& test, Context& ctx) {
  if (!has_mixtures(model.clip.options)) return "";
  constexpr Index kPairs = 128;  // one pass of each tower, so that every block reports once
  gatefold::RoutingReport report;
  ctx.report = &report;
  std::vector<Scene> scenes;
  std::vector<std::string> texts;
  for (Index i = 0; i < kPairs; ++i) {
    scenes.push_back(wardrobe::corpus_scene({kTestSeed, static_cast<std::uint64_t>(i)}, test));
    texts.push_back(told(scenes.back(), Telling::detailed, kTestSeed, i).text);
  }
  report.begin_batch();
  (void)embed_pictures(
      model.clip, kPairs,
      [&](Index i, gatefold::View<float, 3> out) { draw_scene(scenes[static_cast<std::size_t>(i)], test, out); }, ctx);
  (void)embed_texts(model, texts, ctx);
  ctx.report = nullptr;
  std::string text = "\n| tower, block | tokens | places at the experts, % |\n|---|---|---|\n";
  const auto& o = model.clip.options;
  std::size_t at = 0;
  for (const auto& [tower, options] : {std::pair("image", &o.vision), {"text", &o.text}})
    for (const Index block : options->mixture.placement.layers) {
      if (at == report.layers().size()) break;
      const auto& usage = report.layers()[at++].modalities.at(0);
      double sum = 0;
      for (const double seated : usage.seated) sum += seated;
      text += std::string("| ") + tower + " " + to_text(block) + " | " + to_text(usage.tokens) + " |";
      for (const double seated : usage.seated) text += " " + percent(100 * seated / sum);
      text += " |\n";
    }
  return text;
}

}  // namespace train_clip
