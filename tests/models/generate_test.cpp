#include "gatefold/models/generate.hpp"

#include <numeric>

#include "gatefold/models/vision_language_depths.hpp"
#include "tests/models/tiny_vision_language.hpp"

namespace gatefold {
namespace {

using Dense = VisionLanguage<float>;
template <class F>
using Packed = decltype(pack<F>(std::declval<const Dense&>()));
using Texts = test::PictureTexts<float>;

/// Wider than a panel, with more words than a vector has lanes.
VisionLanguageOptions options() {
  auto o = test::tiny_vision_language();
  o.vision.width = 8;
  o.vision.hidden = 20;
  o.vocabulary = 37;
  o.context = 24;
  o.width = 40;
  o.hidden = 70;
  o.num_heads = 4;
  o.num_key_heads = 2;
  return o;
}
const Dense& dense() {
  static const auto model = test::random_vision_language<float>([] {
    auto o = options();
    o.projector = VisionLanguageOptions::Projector::mlp;
    return o;
  }());
  return model;
}
template <class F>
const Packed<F>& packed() {
  static const auto model = pack<F>(dense());
  return model;
}

/// The texts with their answers cut off, and room for what is made of them.
struct Prompts {
  Texts texts;
  std::vector<Index> ids, offset{0};

  explicit Prompts(Index count, Index first = 0) : texts(options(), count, first) {
    for (std::size_t b = 0; b < static_cast<std::size_t>(count); ++b) {
      const auto begin = texts.offset[b], end = std::min(texts.offset[b + 1], begin + 1 + (first + Index(b)) % 5);
      ids.insert(ids.end(), texts.ids.begin() + begin, texts.ids.begin() + end);
      offset.push_back(std::ssize(ids));
    }
  }
  template <class Model>
  typename Model::Batch of() const {
    return {.images = texts.images,
            .ids = {ids.data(), {std::ssize(ids)}},
            .text_offset = {offset.data(), {std::ssize(offset)}}};
  }
};

/// What a pass over prompts and answers gives for the answers' words: rows as answers have them, one after the other.
template <class Model>
Tensor<float, 2> uncached(const Model& model, const Prompts& prompts, const std::vector<Answer>& answers) {
  std::vector<Index> ids, offset{0}, begin;
  for (std::size_t b = 0; b < answers.size(); ++b) {
    ids.insert(ids.end(), prompts.ids.begin() + prompts.offset[b], prompts.ids.begin() + prompts.offset[b + 1]);
    begin.push_back(std::ssize(ids));
    ids.insert(ids.end(), answers[b].ids.begin(), answers[b].ids.end());
    offset.push_back(std::ssize(ids));
  }
  const typename Model::Batch batch{.images = prompts.texts.images,
                                    .ids = {ids.data(), {std::ssize(ids)}},
                                    .text_offset = {offset.data(), {std::ssize(offset)}},
                                    .answer = {begin.data(), {std::ssize(begin)}}};
  Tensor<float, 2> logits({batch.num_answer_tokens(), model.options.vocabulary});
  Context ctx;
  (void)model.forward(batch, logits, ctx);
  return logits;
}

/// The logits of each word that is chosen, which the cache gives, and without it.
template <class Model>
void expect_as_uncached(const Model& model, double tolerance) {
  const Prompts prompts(5);
  const auto batch = prompts.of<Model>();
  Context ctx;
  const auto answers = generate(model, batch, {.max_tokens = 8, .temperature = 2, .seed = 3}, ctx);
  const auto wanted = uncached(model, prompts, answers);
  auto cache = model.template make_cache<float>(5);
  Tensor<float, 2> logits({5, model.options.vocabulary});
  model.prefill(batch, logits, cache, ctx);
  for (std::size_t step = 0; step < 8; ++step) {
    std::vector<Index> next, offset{0};
    Index row = 0;
    for (std::size_t b = 0; b < 5; ++b) {
      ASSERT_EQ(answers[b].ids.size(), 8u);
      for (Index v = 0; v < logits.extent(1); ++v)
        ASSERT_NEAR(logits.view()(Index(b), v), wanted.view()(row + Index(step), v), tolerance) << b << " " << step;
      row += 8;
      next.push_back(answers[b].ids[step]);
      offset.push_back(std::ssize(next));
    }
    model.step({next.data(), {5}}, {offset.data(), {6}}, logits, cache, ctx);
  }
}

TEST(Generate, CachedIsAsUncachedToTheBitOverPackedWeights) {
  expect_as_uncached(packed<float>(), 0);
  expect_as_uncached(packed<bf16>(), 0);
  expect_as_uncached(packed<int8>(), 0);
  expect_as_uncached(dense(), 1e-4);
}

template <class Model>
void expect_as_alone(const Model& model) {
  const Prompts all(6);
  Context ctx;
  for (const double temperature : {0.0, 1.5}) {
    const GenerateOptions o{.max_tokens = 9, .stop = {0, 5, 6}, .temperature = temperature, .top_p = 0.9, .seed = 4};
    const auto together = generate(model, all.of<Model>(), o, ctx);
    for (Index b = 0; b < 6; ++b) {
      auto own = o;
      own.stream = static_cast<std::uint64_t>(b);
      const Prompts one(1, b);
      const auto alone = generate(model, one.of<Model>(), own, ctx);
      const auto& wanted = together[static_cast<std::size_t>(b)];
      EXPECT_EQ(alone[0].ids, wanted.ids) << b;
      EXPECT_EQ(alone[0].probability, wanted.probability) << b;
      EXPECT_EQ(alone[0].ended, wanted.ended) << b;
    }
  }
}

TEST(Generate, ASequenceIsAsIfAloneToTheBitWhateverIsDrawn) { expect_as_alone(packed<bf16>()); }

/// Both blocks skip, a token by its own score.
const auto& skipping() {
  static const auto model = [] {
    Context ctx;
    Rng rng(1);
    const std::vector<Index> layers{0, 1};
    auto all = with_depths(dense(), layers, {.choice = MixtureOfDepthsOptions::Choice::threshold}, rng, ctx);
    for (auto& block : all.decoder.blocks) test::disturb(std::get<1>(block.layer).router, 5);
    return pack<float>(all);
  }();
  return model;
}
TEST(Generate, ItIsTheSameWhereBlocksSkip) {
  expect_as_uncached(skipping(), 0);
  expect_as_alone(skipping());
  // Which they do, each what it likes.
  const Prompts prompts(5);
  Context ctx;
  Generation talk(skipping(), prompts.of<std::remove_cvref_t<decltype(skipping())>>(), {.max_tokens = 5}, ctx);
  while (talk.step(ctx)) continue;
  std::set<Index> lengths;
  for (const auto& cache : talk.cache())
    for (const Index length : std::get<0>(std::get<0>(std::get<1>(cache))).length) lengths.insert(length);
  EXPECT_GE(lengths.size(), 4u);
}
/// At 1 each block leaves every row as it came; at 0 none.
TEST(Generate, AllMayBeSkippedAndNone) {
  for (const double threshold : {0.0, 1.0}) {
    auto model = skipping();
    for (auto& block : model.decoder.blocks) std::get<1>(block.layer).options.threshold = threshold;
    const Prompts prompts(3);
    Context ctx;
    Generation talk(model, prompts.of<decltype(model)>(), {.max_tokens = 5}, ctx);
    while (talk.step(ctx)) continue;
    for (const auto& answer : talk.answers()) EXPECT_EQ(answer.ended, Ended::length);
    const auto& remembered = std::get<0>(std::get<0>(std::get<1>(talk.cache()[1]))).length;
    for (std::size_t b = 0; b < 3; ++b)
      EXPECT_EQ(remembered[b], threshold == 1 ? 0 : model.length(prompts.of<decltype(model)>(), Index(b)) + 4);
  }
}

TEST(Generate, SameBitsForAnyNumberOfThreads) {
  const auto with = [&](ParallelFor parallel_for) {
    Context ctx;
    ctx.parallel_for = std::move(parallel_for);
    return generate(dense(), Prompts(20).of<Dense>(), {.max_tokens = 6, .temperature = 1, .top_p = 0.8}, ctx);
  };
  const auto serial = with(ParallelFor()), parallel = with(test::threads(7));
  for (std::size_t b = 0; b < 20; ++b) {
    EXPECT_EQ(serial[b].ids, parallel[b].ids);
    EXPECT_EQ(serial[b].probability, parallel[b].probability);
  }
}

TEST(Generate, AnswersEndEachForItsOwnReason) {
  const auto& model = packed<float>();
  const Prompts prompts(6);
  const auto batch = prompts.of<Packed<float>>();
  Context ctx;
  const auto whole = generate(model, batch, {.max_tokens = 100}, ctx);
  for (std::size_t b = 0; b < 6; ++b) {
    EXPECT_EQ(whole[b].ended, Ended::length);
    // The last word needs no room in the context.
    EXPECT_EQ(std::ssize(whole[b].ids), options().context + 1 - model.length(batch, Index(b)));
    EXPECT_EQ(whole[b].ids.size(), whole[b].probability.size());
    for (const double p : whole[b].probability) EXPECT_TRUE(p > 1.0 / 37 && p <= 1);  // the largest of 37
  }
  const Index stop = whole[2].ids[3];
  const auto stopped = generate(model, batch, {.max_tokens = 10, .stop = {stop}}, ctx);
  for (std::size_t b = 0; b < 6; ++b) {
    const auto at = std::ranges::find(whole[b].ids, stop) - whole[b].ids.begin();
    const auto count = std::min<std::ptrdiff_t>({at, 10, std::ssize(whole[b].ids)});
    EXPECT_EQ(stopped[b].ids, std::vector<Index>(whole[b].ids.begin(), whole[b].ids.begin() + count)) << b;
    EXPECT_EQ(stopped[b].ended, at == count ? Ended::stop : Ended::length) << b;
  }
  EXPECT_LT(stopped[2].ids.size(), 4u);
}

/// NaN ends the answer of its own sequence and no other.
TEST(Generate, NaNEndsItsAnswer) {
  Prompts prompts(3);
  Context ctx;
  const auto wanted = generate(packed<float>(), prompts.of<Packed<float>>(), {.max_tokens = 4}, ctx);
  prompts.texts.images.data()[prompts.texts.images.size() / 3] = std::numeric_limits<float>::quiet_NaN();
  const auto came = generate(packed<float>(), prompts.of<Packed<float>>(), {.max_tokens = 4}, ctx);
  EXPECT_EQ(came[1].ended, Ended::not_finite);
  EXPECT_TRUE(came[1].ids.empty());
  EXPECT_EQ(came[0].ids, wanted[0].ids);
  EXPECT_EQ(came[2].ids, wanted[2].ids);
}

TEST(Generate, AStepAllocatesNothing) {
  const auto& model = packed<bf16>();
  Context ctx;
  ctx.parallel_for = ParallelFor();
  const Prompts prompts(4);
  Generation talk(model, prompts.of<Packed<bf16>>(), {.max_tokens = 6, .temperature = 1, .top_p = 0.9}, ctx);
  ASSERT_TRUE(talk.step(ctx));
  const test::AllocGuard guard;
  while (talk.step(ctx)) continue;
  EXPECT_EQ(guard.count(), 0);
  EXPECT_EQ(talk.answers()[0].ids.size(), 6u);
  EXPECT_FALSE(talk.step(ctx));
}

/// Keys and values as bf16: answers are near, and a cache of half the bytes.
TEST(Generate, CachesMayBeNarrow) {
  Context ctx;
  const Prompts prompts(3);
  Generation<Packed<float>, bf16> talk(packed<float>(), prompts.of<Packed<float>>(), {.max_tokens = 3}, ctx);
  while (talk.step(ctx)) continue;
  const auto wanted = generate(packed<float>(), prompts.of<Packed<float>>(), {.max_tokens = 3}, ctx);
  for (std::size_t b = 0; b < 3; ++b) EXPECT_NEAR(talk.answers()[b].probability[0], wanted[b].probability[0], 0.05);
}

TEST(Generate, AWordIsChosen) {
  Context ctx;
  const std::vector<double> shares{0.1, 0.3, 0.05, 0.3, 0.25};
  std::vector<double> logits;
  for (const double p : shares) logits.push_back(std::log(p) + 7);
  const auto choose = [&](const GenerateOptions& o, double uniform) {
    return choose_word<double>({logits.data(), {std::ssize(logits)}}, o, uniform, ctx);
  };
  EXPECT_EQ(choose({}, 0.9), 1);  // of equal ones the first
  // How much of [0, 1) each word has.
  const auto shares_of = [&](const GenerateOptions& o) {
    std::vector<double> all(logits.size());
    for (int i = 0; i < 10000; ++i) all[static_cast<std::size_t>(choose(o, (i + 0.5) / 10000))] += 1e-4;
    return all;
  };
  const auto near = [](std::vector<double> wanted) {
    return testing::Pointwise(testing::DoubleNear(2e-4), std::move(wanted));
  };
  EXPECT_THAT(shares_of({.temperature = 1}), near(shares));
  EXPECT_THAT(shares_of({.temperature = 1, .top_p = 0.8}), near({0, 0.3 / 0.85, 0, 0.3 / 0.85, 0.25 / 0.85}));
  EXPECT_THAT(shares_of({.temperature = 1, .top_p = 0.5}), near({0, 0.5, 0, 0.5, 0}));
  EXPECT_THAT(shares_of({.temperature = 1, .top_p = 0.01}), near({0, 1, 0, 0, 0}));
  std::vector<double> squares(shares.size());
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0, [](double s, double p) { return s + p * p; });
  std::ranges::transform(shares, squares.begin(), [&](double p) { return p * p / sum; });
  EXPECT_THAT(shares_of({.temperature = 0.5}), near(squares));
  EXPECT_THAT(shares_of({.temperature = 1e-6}), near({0, 0.5, 0, 0.5, 0}));

  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  logits[1] = -kInfinity;  // a word that is shut is never chosen
  EXPECT_EQ(choose({}, 0), 3);
  EXPECT_THAT(shares_of({.temperature = 1}), near({0.1 / 0.7, 0, 0.05 / 0.7, 0.3 / 0.7, 0.25 / 0.7}));
  logits[2] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(choose({}, 0), -1);
  logits.assign(3, -kInfinity);
  EXPECT_EQ(choose({}, 0), -1);
}

TEST(Generate, RefusesWhatDoesNotFit) {
  const auto& model = packed<float>();
  using Model = Packed<float>;
  Context ctx;
  const Prompts prompts(2);
  const auto good = prompts.of<Model>();
  const auto refused = [&](auto change, const char* why) {
    auto batch = good;
    change(batch);
    EXPECT_THAT([&] { (void)generate(model, batch, {}, ctx); },
                testing::ThrowsMessage<ShapeError>(testing::HasSubstr(why)));
  };
  refused([](auto& b) { b.images = {}; }, "there are 0 pictures, expected one for each of the 2 texts");
  std::vector<Index> offset{0, 0, good.ids.extent(0)};
  refused([&](auto& b) { b.text_offset = {offset.data(), {3}}; }, "text 0 has no words, expected at least 1");
  const std::vector<Index> many(30, 1);
  offset = {0, 1, 30};
  refused(
      [&](auto& b) {
        b.ids = {many.data(), {30}}, b.text_offset = {offset.data(), {3}};
      },
      "sequence 1 has 4 tokens of its picture and 29 words, expected at most 24 (context) in all");
  const auto options_refused = [&](const GenerateOptions& o, const char* why) {
    EXPECT_THAT([&] { (void)generate(model, good, o, ctx); },
                testing::ThrowsMessage<OptionError>(testing::HasSubstr(why)));
  };
  options_refused({.max_tokens = 0}, "Generation: max_tokens is 0, expected at least 1");
  options_refused({.temperature = -1}, "Generation: temperature is -1");
  options_refused({.top_p = 0}, "Generation: top_p is 0, expected a number in (0, 1]");
  options_refused({.top_p = 1.5}, "Generation: top_p is 1.5");
  options_refused({.stop = {37}}, "Generation: stop is 37, expected a word of the model's vocabulary");
  EXPECT_TRUE(generate(model, Prompts(0).of<Model>(), {}, ctx).empty());

  auto cache = model.make_cache<float>(2);
  Tensor<float, 2> logits({2, 37}), one({1, 37});
  EXPECT_THROW(model.prefill(good, one, cache, ctx), ShapeError);
  for (int times = 0; times < 3; ++times) model.prefill(good, logits, cache, ctx);
  const auto length = std::get<0>(cache[0]).length;
  EXPECT_THROW(
      {
        for (int times = 0; times < 9; ++times) model.prefill(good, logits, cache, ctx);
      },
      CacheError);
  EXPECT_THROW(model.step({many.data(), {2}}, {offset.data(), {3}}, logits, cache, ctx), ShapeError);
  EXPECT_GE(std::get<0>(cache[0]).length, length);
}

}  // namespace
}  // namespace gatefold
