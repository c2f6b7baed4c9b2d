#include "train_clip/run.hpp"

#include <chrono>

#include "gatefold/adapt/freeze_policy.hpp"
#include "gatefold/losses/contrastive.hpp"
#include "gatefold/models/packed_clip_file.hpp"
#include "gatefold/train/accumulate.hpp"
#include "gatefold/train/clip_gradient.hpp"
#include "gatefold/train/schedule.hpp"

namespace train_clip {
namespace {

/// The rows [begin, end) of a batch, and where its embeddings go.
struct Chunk {
  Index begin, end;
};

Model with_recompute(Model model, bool recompute) {
  model.clip.vision.tower.encoder.recompute = model.clip.text.tower.encoder.recompute = recompute;
  return model;
}

Model model_of(const gatefold::CheckpointReader& file, const fs::path& folder) {
  const auto options = gatefold::options_from_json<gatefold::ClipOptions>(file.metadata("clip"), file.file().source());
  const auto names =
      file.metadata("names") == "open_clip" ? gatefold::ClipNames::open_clip : gatefold::ClipNames::hugging_face;
  auto model = model_beside(folder, names, options);
  file.read("model", model.clip);
  return model;
}

}  // namespace

gatefold::Trainable trainable_of(const Settings& s) {
  if (s.train == "ffn") return gatefold::feed_forward_only();
  if (s.train == "router") return gatefold::routers_only();
  if (s.train == "experts") return gatefold::routers_and_experts();
  if (s.train == "text" && s.fixed_temperature) return gatefold::Trainable::all_but({"vision.*", "logit_scale"});
  if (s.train == "text") return gatefold::locked_image_tower();
  return s.fixed_temperature ? gatefold::Trainable::all_but({"logit_scale"}) : gatefold::Trainable();
}

Run::Run(const Settings& s, Model from, Context context)
    : settings(s),
      ctx(std::move(context)),
      model(with_recompute(std::move(from), s.recompute)),
      trainable_(trainable_of(s)),
      optimizer_(model.clip,
                 {.lr = s.lr, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = s.weight_decay, .trainable = trainable_}),
      grad_(zeros_like(model.clip)),
      frozen_(model.clip, trainable_),
      images_move_(s.train != "text") {
  ctx.frozen = &frozen_;
}

Run::Run(const gatefold::CheckpointReader& file, const fs::path& folder, Context context)
    : Run(settings_of(file), model_of(file, folder), std::move(context)) {
  file.read("optimizer", optimizer_);
  step_ = file.metadata_integer<Index>("step");
  identity_ = file.metadata("data");
  if (step_ < 0 || step_ > settings.steps)
    throw gatefold::FormatError(file.file().source() + ": «step» is " + to_text(step_) + ", expected one of its " +
                                to_text(settings.steps));
}

Settings Run::settings_of(const gatefold::CheckpointReader& file) {
  return training::settings_of_json<Settings>(file.metadata("settings"), file.file().source());
}

void Run::feed_from(const Source& source) {
  const auto identity = source.pairs.identity();
  if (!identity_.empty() && identity_ != identity)
    throw gatefold::FormatError("the run was begun with other pictures or captions (" + identity_ +
                                ") than came now (" + identity + "); put back what it was, or begin another run");
  identity_ = identity;
  feed_.emplace(source.pairs, model.tokenizer, source.choose,
                Feed::Options{.batch = settings.batch,
                              .image_size = model.clip.options.image_size,
                              .seed = settings.seed,
                              .augment = settings.augment,
                              .threads = source.loaders,
                              .first_step = step_});
}

training::StepResult Run::differentiate(const FedBatch& batch) {
  const Index size = settings.batch, chunk = settings.micro_batch > 0 ? settings.micro_batch : size;
  const Index width = model.clip.options.embedding;
  const gatefold::SoftmaxContrastive contrastive{.label_smoothing = settings.label_smoothing};
  training::StepResult result{};
  balance_ = 0;
  std::vector<Chunk> chunks;
  for (Index begin = 0; begin < size; begin += chunk) chunks.push_back({begin, std::min(size, begin + chunk)});
  // z: image and text side by side, as accumulate_contrastive takes them.
  const auto forward = [&](const Chunk& c, gatefold::Rows<float> z) -> Clip::SavedInParts {
    const auto images = batch.images.view().rows(c.begin, c.end);
    const auto ids = batch.ids.view().rows(c.begin, c.end);
    const auto z_image = z.columns(0, width), z_text = z.columns(width, 2 * width);
    if (images_move_) return model.clip.forward_in_parts({.images = images, .ids = ids}, z_image, z_text, ctx);
    model.clip.encode_images(images, z_image, ctx);
    return {.vision = {}, .text = model.clip.text.forward_in_parts(ids, z_text, ctx)};
  };
  const auto loss_backward = [&](gatefold::Rows<const float> z, gatefold::Rows<float> dz) {
    const auto loss = contrastive.forward<float>(z.columns(0, width), z.columns(width, 2 * width),
                                                 model.clip.logit_scale.flat()[0], ctx, batch.same.view());
    contrastive.backward<float>(loss, 1.0f, dz.columns(0, width), dz.columns(width, 2 * width),
                                grad_.logit_scale.flat()[0], ctx);
    const double n = static_cast<double>(size);
    result.loss = loss.loss;
    result.image_accuracy = static_cast<double>(loss.correct_a_to_b) / n;
    result.text_accuracy = static_cast<double>(loss.correct_b_to_a) / n;
    return loss.loss;
  };
  const auto backward = [&](const Chunk& c, const Clip::SavedInParts& saved, gatefold::Rows<const float> dz) {
    balance_ += static_cast<double>(model.clip.aux_loss(saved, ctx)) * static_cast<double>(c.end - c.begin) /
                static_cast<double>(size);
    model.clip.backward(saved, dz.columns(0, width), dz.columns(width, 2 * width), grad_, ctx);
  };
  const auto scope = ctx.workspace.scope();
  auto z = ctx.workspace.take<float>(chunk, 2 * width);
  if (chunks.size() == 1) {
    auto dz = ctx.workspace.take<float>(chunk, 2 * width);
    const auto saved = forward(chunks[0], z);
    loss_backward(z, dz);
    backward(chunks[0], saved, dz);
    return result;
  }
  gatefold::accumulate_contrastive<float>(
      chunks,
      [&](const Chunk& c) {
        const auto part = z.rows(0, c.end - c.begin);
        (void)forward(c, part);
        return gatefold::Rows<const float>(part);
      },
      loss_backward,
      [&](const Chunk& c, gatefold::Rows<const float> dz) {
        const auto saved = forward(c, z.rows(0, c.end - c.begin));
        backward(c, saved, dz);
      },
      ctx);
  return result;
}

training::StepResult Run::advance(bool) {
  const auto begin = std::chrono::steady_clock::now();
  set_zero(grad_);
  auto result = differentiate(feed_->next());
  const gatefold::CosineSchedule schedule{
      .peak = settings.lr, .warmup_steps = settings.warmup, .total_steps = settings.steps};
  const double norm = gatefold::gradient_norm(grad_, trainable_, ctx);
  result.gradient_norm = norm;
  result.rate = schedule(step_);
  result.skipped = !std::isfinite(norm);
  if (!result.skipped) {
    optimizer_.step(model.clip, grad_, {.learning_rate = result.rate, .gradient_scale = gatefold::clip_scale(norm)},
                    ctx);
    model.clip.clamp_temperature();
  }
  ++step_;
  result.temperature = std::exp(double{model.clip.logit_scale.flat()[0]});
  result.finite = std::isfinite(gatefold::gradient_norm(model.clip, trainable_, ctx));
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

std::string Run::note() const {
  char text[64];
  std::snprintf(text, sizeof text, "  waited for data %.1f %%", 100 * waited_share());
  return text;
}

void Run::save(const fs::path& path, double minutes) const {
  gatefold::CheckpointWriter writer;
  writer.add("model", model.clip);
  writer.add("optimizer", optimizer_);
  writer.add_metadata("step", step_);
  writer.add_metadata("settings", training::json_of_settings(settings));
  writer.add_metadata("clip", gatefold::options_to_json(model.clip.options));
  writer.add_metadata("names",
                      std::string(model.names == gatefold::ClipNames::open_clip ? "open_clip" : "hugging_face"));
  writer.add_metadata("data", identity_);
  if (minutes > 0) writer.add_metadata("minutes", to_text(minutes));
  writer.write(path);
}

}  // namespace train_clip
