#include "gatefold/models/vision_language_depths.hpp"

#include "gatefold/models/generate.hpp"
#include "tests/models/tiny_vision_language.hpp"

namespace gatefold::vision_language_depths_test {
namespace {

using Choice = MixtureOfDepthsOptions::Choice;
constexpr std::uint32_t kWords = 1u << kQuestion | 1u << kAnswer;

template <class T>
auto skipping(const VisionLanguage<T>& dense, std::vector<Index> layers, const MixtureOfDepthsOptions& depths) {
  Rng rng(1);
  Context ctx;
  return with_depths(dense, layers, depths, rng, ctx);
}

TEST(VisionLanguageDepths, KeepsWeightsAndPathsAndAddsRouters) {
  const auto dense = test::random_vision_language<float>(test::tiny_vision_language());
  const auto model = skipping(dense, {1}, {});
  std::map<std::string, std::vector<float>> before;
  for_each_param(
      [&](std::string_view path, const auto& t) {
        before[std::string(path)] = {t.flat().begin(), t.flat().end()};
      },
      dense);
  std::vector<std::string> added;
  for_each_param(
      [&](std::string_view path, const auto& t) {
        const auto old = before.find(std::string(path));
        if (old == before.end())
          added.emplace_back(path);
        else
          EXPECT_TRUE(std::ranges::equal(t.flat(), old->second)) << path;
      },
      model);
  EXPECT_THAT(added, testing::ElementsAre("decoder.blocks.1.router.weight"));
}

TEST(VisionLanguageDepths, WithoutLayersThatSkipItIsTheDenseOne) {
  const auto options = test::tiny_vision_language();
  const auto dense = test::random_vision_language<float>(options);
  const auto model = skipping(dense, {}, {});
  const test::PictureTexts<float> texts(options, 3);
  const auto batch = texts.of<VisionLanguage<float>>();
  Tensor<float, 2> a({batch.num_answer_tokens(), options.vocabulary}), b = a;
  Context ctx;
  const auto scope = ctx.workspace.scope();
  (void)dense.forward(batch, a, ctx);
  (void)model.forward(texts.of<DepthsVisionLanguage<float>>(), b, ctx);
  EXPECT_EQ(a, b);
}

// By central differences in double, since routers choose: the choice must stay, the gradient goes around it.
TEST(VisionLanguageDepths, TheGradientOfTaskAndPenaltyIsThatOfDifferences) {
  auto options = test::tiny_vision_language();
  auto model = skipping(test::random_vision_language<double>(options), {0, 1}, {.always = kWords, .aux_weight = 0.3});
  const test::PictureTexts<double> texts(options, 2);
  const auto batch = texts.of<DepthsVisionLanguage<double>>();
  Context ctx;
  const auto dlogits = test::random_matrix<double>({batch.num_answer_tokens(), options.vocabulary}, 5);
  Tensor<double, 2> logits(dlogits.shape());
  const auto loss = [&] {
    const auto scope = ctx.workspace.scope();
    const auto saved = model.forward(batch, logits, ctx);
    double sum = aux_loss(model, saved, ctx);
    for (std::size_t i = 0; i < logits.flat().size(); ++i) sum += logits.flat()[i] * dlogits.flat()[i];
    return sum;
  };
  auto grad = zeros_like(model);
  {
    const auto scope = ctx.workspace.scope();
    const auto saved = model.forward(batch, logits, ctx);
    model.backward(saved, dlogits, grad, ctx);
  }
  for_each_param(
      [&](std::string_view path, const auto& g, auto& t) {
        for (std::size_t i = 0; i < t.flat().size(); i += 1 + t.flat().size() / 5) {
          const double was = t.flat()[i], step = 1e-5;
          t.flat()[i] = was + step;
          const double up = loss();
          t.flat()[i] = was - step;
          const double down = loss();
          t.flat()[i] = was;
          EXPECT_NEAR(g.flat()[i], (up - down) / (2 * step), 1e-6 * (1 + std::abs(g.flat()[i]))) << path;
        }
      },
      grad, model);
}

TEST(VisionLanguageDepths, AnswersWordByWordAsForwardByThreshold) {
  const auto options = test::tiny_vision_language();
  auto model = skipping(test::random_vision_language<double>(options), {1}, {.always = kWords, .threshold = 0.5});
  set_choice(model, Choice::threshold);
  auto& router = std::get<1>(model.decoder.blocks[1].layer).router;
  for (std::size_t i = 0; i < 4; ++i) router.weight.flat()[i] = i % 2 ? -2 : 2;
  const test::PictureTexts<double> texts(options, 3);
  const auto batch = texts.of<DepthsVisionLanguage<double>>();
  Context ctx;
  const auto scope = ctx.workspace.scope();
  Tensor<double, 2> told({batch.num_answer_tokens(), options.vocabulary});
  const auto saved = model.forward(batch, told, ctx);
  const auto& kept = saved.decoder.blocks[1].b;
  EXPECT_GT(std::count(kept.slot.data(), kept.slot.data() + kept.slot.extent(0), Index{-1}), 0);
  // The questions first, then the answers' words: what each is told by must be what forward tells.
  auto cache = model.make_cache(3);
  std::vector<Index> ids, offset{0};
  for (Index b = 0; b < 3; ++b) {
    const Index end = std::max(batch.answer_begin(b), batch.text_offset[b] + 1);
    for (Index i = batch.text_offset[b]; i < end; ++i) ids.push_back(batch.ids[i]);
    offset.push_back(std::ssize(ids));
  }
  DepthsVisionLanguage<double>::Batch prompt = batch;
  prompt.ids = {ids.data(), {std::ssize(ids)}};
  prompt.text_offset = {offset.data(), {4}};
  prompt.answer = {};
  Tensor<double, 2> logits({3, options.vocabulary});
  model.prefill(prompt, logits, cache, ctx);
  Index row = 0;
  for (Index b = 0; b < 3; ++b) {
    const Index begin = batch.answer_begin(b);
    const bool whole = begin > batch.text_offset[b];  // else the first word of the answer stood in the prompt
    for (Index v = 0; v < options.vocabulary && whole && begin < batch.text_offset[b + 1]; ++v)
      EXPECT_NEAR(logits.data()[b * options.vocabulary + v], told.data()[row * options.vocabulary + v], 1e-12);
    row += batch.text_offset[b + 1] - begin;
  }
  const auto answers = generate(model, prompt, {.max_tokens = 3}, ctx);
  EXPECT_EQ(answers.size(), 3u);
}

TEST(VisionLanguageDepths, GoesOnFromOneThatSkipsAlready) {
  const auto dense = test::random_vision_language<float>(test::tiny_vision_language());
  const auto first = skipping(dense, {0}, {});
  Rng rng(2);
  Context ctx;
  const std::vector<Index> both{0, 1}, second{1};
  const DepthsVisionLanguage<float> more = with_depths(first, both, {.skipped = 0.25}, rng, ctx);
  const auto& kept = std::get<1>(more.decoder.blocks[0].layer);
  EXPECT_EQ(kept.router.weight, std::get<1>(first.decoder.blocks[0].layer).router.weight);
  EXPECT_EQ(kept.options.skipped, 0.25);
  EXPECT_EQ(std::get<1>(more.decoder.blocks[1].layer).block.ffn.inner.up.weight,
            dense.decoder.blocks[1].ffn.inner.up.weight);
  const DepthsVisionLanguage<float> other = with_depths(first, second, {}, rng, ctx);
  EXPECT_EQ(other.decoder.blocks[0].layer.index(), 0u);
  EXPECT_EQ(other.decoder.blocks[1].layer.index(), 1u);
}

TEST(VisionLanguageDepths, RefusesALayerThatIsNotThere) {
  const auto dense = test::random_vision_language<float>(test::tiny_vision_language());
  EXPECT_THROW(skipping(dense, {2}, {}), OptionError);
  EXPECT_THROW(skipping(dense, {-1}, {}), OptionError);
}

}  // namespace
}  // namespace gatefold::vision_language_depths_test
