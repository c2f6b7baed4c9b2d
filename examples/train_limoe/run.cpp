#include "train_limoe/run.hpp"

#include "gatefold/losses/contrastive.hpp"
#include "gatefold/train/clip_gradient.hpp"
#include "gatefold/train/schedule.hpp"
#include "wardrobe/feed.hpp"

namespace train_limoe {
namespace {

/// A norm is finite where every element is.
template <gatefold::Module M>
bool all_finite(const M& module, Context& ctx) {
  return std::isfinite(gatefold::gradient_norm(module, ctx));
}

}  // namespace

gatefold::LimoeOptions model_options(const Settings& s, const gatefold::Vocabulary& vocabulary) {
  gatefold::LimoeOptions o;
  o.image_size = wardrobe::kCanvasEdge;
  o.patch = s.patch;
  o.vocabulary = vocabulary.size();
  o.width = s.width;
  o.hidden = s.hidden;
  o.num_layers = s.layers;
  o.num_heads = s.heads;
  o.embedding = s.embedding;
  o.towers = s.two_tower ? gatefold::LimoeOptions::Towers::two : gatefold::LimoeOptions::Towers::one;
  o.sparse = s.dense ? gatefold::Placement::none() : gatefold::Placement::every(2, s.layers);
  o.num_experts = s.experts;
  o.capacity.factor = s.capacity;
  o.priority = s.priority == "max_gate" ? gatefold::Priority::max_gate : gatefold::Priority::position;
  o.router_noise = s.noise;
  o.aux = s.losses == "none"      ? gatefold::LimoeLossOptions::none()
          : s.losses == "classic" ? gatefold::LimoeLossOptions::classic()
                                  : gatefold::LimoeLossOptions();
  o.aux.coefficient = s.aux;
  o.aux.min_image_experts = s.min_image_experts;
  o.aux.min_text_experts = s.min_text_experts;
  o.aux.load = o.aux.load && s.noise > 0;  // without noise there is no load to speak of
  o.max_temperature = s.max_temperature;
  return o;
}

Run::Run(const Settings& s, int threads, const wardrobe::FashionMnist& data)
    : settings(s),
      ctx{.parallel_for = gatefold::default_parallel_for(threads)},
      vocabulary(wardrobe::model_vocabulary()),
      model(model_options(s, vocabulary)),
      data_(data),
      rng_(s.seed),
      optimizer_(initialised(), {.lr = s.lr, .beta2 = 0.98, .weight_decay = s.weight_decay}),
      grad_(zeros_like(model)),
      images_({s.batch, wardrobe::kCanvasEdge, wardrobe::kCanvasEdge, 3}) {}

Run::Run(const gatefold::CheckpointReader& file, int threads, const wardrobe::FashionMnist& data) try
    : Run(settings_of(file), threads, data) {
  file.read("model", model);
  file.read("optimizer", optimizer_);
  step = file.metadata_integer<Index>("step");
  rng_ = gatefold::Rng(gatefold::Rng::State{settings.seed, file.metadata_integer<std::uint64_t>("rng.stream"),
                                            file.metadata_integer<std::uint64_t>("rng.position")});
  const auto& source = file.file().source();
  if (!Range<Index>{0, settings.steps}.holds(step))
    throw gatefold::FormatError(source + ": «step» is " + to_text(step) + ", expected one of its " +
                                to_text(settings.steps));
  const auto expect_finite = [&](const std::string& prefix, const Limoe<float>& module) {
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

training::StepResult Run::advance() {
  const auto& s = settings;
  const auto batch = wardrobe::make_batch({s.seed, static_cast<std::uint64_t>(step), s.batch}, data_.train, s.world);
  wardrobe::render_batch(batch.scenes, data_.train, images_, ctx);
  wardrobe::Texts texts;
  for (const auto& caption : batch.captions) texts.add(vocabulary, caption.text, model.options.max_text_tokens);
  for (const auto& text : batch.extra_negatives) texts.add(vocabulary, text, model.options.max_text_tokens);

  const auto scope = ctx.workspace.scope();
  ctx.rng = &rng_;
  auto z_image = ctx.workspace.take<float>(s.batch, s.embedding);
  auto z_text = ctx.workspace.take<float>(texts.size(), s.embedding);
  auto dz_image = ctx.workspace.take<float>(s.batch, s.embedding);
  auto dz_text = ctx.workspace.take<float>(texts.size(), s.embedding);
  const auto saved = model.forward(
      {.images = images_.view(), .ids = texts.ids_view(), .text_offset = texts.offset_view()}, z_image, z_text, ctx);
  const gatefold::SoftmaxContrastive contrastive;
  const auto left_out = s.masked ? wardrobe::true_pairs(batch) : Tensor<std::uint8_t, 2>();
  const auto loss = contrastive.forward<float>(z_image, z_text, model.log_temperature.flat()[0], ctx, left_out);
  set_zero(grad_);
  contrastive.backward<float>(loss, 1.0f, dz_image, dz_text, grad_.log_temperature.flat()[0], ctx);
  model.backward(saved, dz_image, dz_text, grad_, ctx);

  const gatefold::CosineSchedule schedule{.peak = s.lr, .warmup_steps = s.warmup, .total_steps = s.steps};
  const double norm = gatefold::gradient_norm(grad_, ctx), rate = schedule(step);
  const bool skipped = !std::isfinite(norm);  // one bad batch must not end a run
  if (!skipped) {
    optimizer_.step(model, grad_, {.learning_rate = rate, .gradient_scale = gatefold::clip_scale(norm)}, ctx);
    model.clamp_temperature();
  }
  ++step;
  const double n = static_cast<double>(s.batch);
  return {loss.loss,
          static_cast<double>(loss.correct_a_to_b) / n,
          static_cast<double>(loss.correct_b_to_a) / n,
          norm,
          rate,
          std::exp(double{model.log_temperature.flat()[0]}),
          skipped,
          all_finite(model, ctx)};
}

void Run::save(const std::filesystem::path& path, double minutes) const {
  gatefold::CheckpointWriter writer;
  writer.add("model", model);
  writer.add("optimizer", optimizer_);
  writer.add_metadata("step", step);
  const auto noise = rng_.state();
  writer.add_metadata("rng.stream", noise.stream);
  writer.add_metadata("rng.position", noise.position);
  writer.add_metadata("settings", to_json(settings));
  if (minutes > 0) writer.add_metadata("minutes", to_text(minutes));
  writer.write(path);
}

double Run::minutes_of(const gatefold::CheckpointReader& file) { return training::minutes_of(file); }

Settings Run::settings_of(const gatefold::CheckpointReader& file) {
  const auto settings = settings_from_json(file.metadata("settings"), file.file().source());
  gatefold::expect_stored(model_options(settings, wardrobe::model_vocabulary()), file);
  return settings;
}

const Limoe<float>& Run::initialised() {
  model.initialise(rng_, ctx);
  return model;
}

}  // namespace train_limoe
