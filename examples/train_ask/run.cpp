#include "train_ask/run.hpp"

#include <algorithm>
#include <cmath>

#include "gatefold/losses/cross_entropy.hpp"
#include "gatefold/models/vision_language_file.hpp"
#include "gatefold/train/clip_gradient.hpp"
#include "gatefold/train/schedule.hpp"
#include "wardrobe/feed.hpp"

namespace train_ask {

gatefold::VisionLanguageOptions model_options(const Settings& s, const gatefold::Vocabulary& vocabulary) {
  constexpr Index kMostWords = 16;  // of a question and its answer
  gatefold::VisionLanguageOptions o;
  o.vision = {.image_size = wardrobe::kCanvasEdge,
              .patch = s.patch,
              .width = s.width,
              .hidden = 4 * s.width,
              .num_layers = s.vision_layers,
              .num_heads = s.heads};
  const Index across = wardrobe::kCanvasEdge / s.patch;
  o.vocabulary = vocabulary.size();
  o.context = across * across + kMostWords;
  o.width = s.width;
  o.hidden = s.hidden;
  o.num_layers = s.layers;
  o.num_heads = s.heads;
  return o;
}

Batch make_batch(const wardrobe::SampleKey& first, Index count, wardrobe::Shown shown, const wardrobe::Photos& photos,
                 const gatefold::Vocabulary& vocabulary) {
  Batch batch;
  for (Index i = 0; i < count; ++i) {
    const auto [scene, question] =
        wardrobe::make_question({first.seed, first.index + static_cast<std::uint64_t>(i)}, shown, photos);
    batch.scenes.push_back(scene);
    batch.asks.push_back(question.asks);
    batch.texts.add(vocabulary, question.text, question.answer);
  }
  return batch;
}

std::vector<bool> right_answers(gatefold::Rows<const float> logits, const wardrobe::AskedTexts& texts) {
  std::vector<bool> right;
  Index row = 0;
  for (std::size_t b = 0; b < texts.answer.size(); ++b) {
    bool all = true;
    for (auto i = texts.answer[b]; i < texts.offset[b + 1]; ++i, ++row) {
      const float* const begin = &logits(row, 0);
      all &= std::max_element(begin, begin + logits.extent(1)) - begin == texts.ids[static_cast<std::size_t>(i)];
    }
    right.push_back(all);
  }
  return right;
}

Run::Run(const Settings& s, int threads, const wardrobe::FashionMnist& data)
    : settings(s),
      ctx{.parallel_for = gatefold::default_parallel_for(threads)},
      vocabulary(wardrobe::question_words()),
      model(model_options(s, vocabulary)),
      data_(data),
      optimizer_(initialised(), {.lr = s.lr, .beta2 = 0.98, .weight_decay = s.weight_decay}),
      grad_(zeros_like(model)),
      images_({s.batch, wardrobe::kCanvasEdge, wardrobe::kCanvasEdge, 3}) {}

Run::Run(const gatefold::CheckpointReader& file, int threads, const wardrobe::FashionMnist& data) try
    : Run(settings_of(file), threads, data) {
  file.read("model", model);
  file.read("optimizer", optimizer_);
  step_ = file.metadata_integer<Index>("step");
  const auto& source = file.file().source();
  if (!Range<Index>{0, settings.steps}.holds(step_))
    throw gatefold::FormatError(source + ": «step» is " + to_text(step_) + ", expected one of its " +
                                to_text(settings.steps));
  const auto expect_finite = [&](const std::string& prefix, const Model& module) {
    gatefold::for_each_param(
        [&](std::string_view path, const auto& tensor) {
          gatefold::expect_finite(tensor.flat(), source, prefix + std::string(path));
        },
        module);
  };
  expect_finite("model.", model);
  expect_finite("optimizer.mean.", optimizer_.mean);
  expect_finite("optimizer.variance.", optimizer_.variance);
} catch (const gatefold::OptionError& error) {  // settings that contradict each other are, in a file, its fault
  throw gatefold::FormatError(file.file().source() + ": settings: " + error.what());
}

training::StepResult Run::advance(bool) {
  const auto& s = settings;
  const auto asked = make_batch({s.seed, static_cast<std::uint64_t>(step_ * s.batch)}, s.batch, wardrobe::Shown::seen,
                                data_.train, vocabulary);
  wardrobe::render_batch(asked.scenes, data_.train, images_, ctx);

  const auto scope = ctx.workspace.scope();
  const auto batch = asked.texts.batch<Model::Batch>(images_);
  auto logits = ctx.workspace.take<float>(batch.num_answer_tokens(), model.options.vocabulary);
  auto dlogits = ctx.workspace.take<float>(logits.extent(0), logits.extent(1));
  const auto saved = model.forward(batch, logits, ctx);
  const gatefold::CrossEntropy cross_entropy;
  const auto loss = cross_entropy.forward<float>(logits, batch.answer_tokens(ctx.workspace), ctx);
  set_zero(grad_);
  cross_entropy.backward<float>(loss, 1.0f, dlogits, ctx);
  model.backward(saved, dlogits, grad_, ctx);

  const gatefold::CosineSchedule schedule{.peak = s.lr, .warmup_steps = s.warmup, .total_steps = s.steps};
  const double norm = gatefold::gradient_norm(grad_, ctx), rate = schedule(step_);
  const bool skipped = !std::isfinite(norm);  // one bad batch must not end a run
  if (!skipped)
    optimizer_.step(model, grad_, {.learning_rate = rate, .gradient_scale = gatefold::clip_scale(norm)}, ctx);
  ++step_;
  const auto right = right_answers(logits, asked.texts);
  return {.loss = static_cast<double>(loss.loss),
          .image_accuracy = static_cast<double>(std::ranges::count(right, true)) / static_cast<double>(s.batch),
          .text_accuracy = static_cast<double>(loss.num_correct) / static_cast<double>(loss.num_labels),
          .gradient_norm = norm,
          .rate = rate,
          .temperature = 1,
          .skipped = skipped,
          .finite = std::isfinite(gatefold::gradient_norm(model, ctx))};
}

void Run::save(const std::filesystem::path& path, double minutes) const {
  gatefold::CheckpointWriter writer;
  writer.add("model", model);
  writer.add("optimizer", optimizer_);
  writer.add_metadata("step", step_);
  writer.add_metadata("settings", to_json(settings));
  if (minutes > 0) writer.add_metadata("minutes", to_text(minutes));
  writer.write(path);
}

Settings Run::settings_of(const gatefold::CheckpointReader& file) {
  const auto settings = settings_from_json(file.metadata("settings"), file.file().source());
  const auto options = model_options(settings, gatefold::Vocabulary(wardrobe::question_words()));
  gatefold::detail::expect_stored(gatefold::detail::count_numbers(options), file);
  return settings;
}

const Model& Run::initialised() {
  gatefold::Rng rng(settings.seed);
  model.initialise(rng, ctx);
  return model;
}

}  // namespace train_ask
