#pragma once
#include <cmath>
#include <cstdio>
#include <functional>

#include "compress/arguments.hpp"
#include "gatefold/adapt/dsnot.hpp"
#include "gatefold/adapt/sparse_gpt.hpp"
#include "gatefold/blocks/sparse_layers.hpp"
#include "gatefold/losses/contrastive.hpp"
#include "gatefold/losses/distillation.hpp"
#include "gatefold/train/adamw.hpp"
#include "gatefold/train/clip_gradient.hpp"
#include "gatefold/train/metrics.hpp"
#include "gatefold/train/progress.hpp"
#include "gatefold/train/schedule.hpp"

namespace compress {

using gatefold::Context;

/// A batch to repair with: what the model takes, and which pairs are no fair negatives of each other.
template <class Model>
struct Pairs {
  typename Model::Batch batch;
  Index images = 0, texts = 0;
  gatefold::View<const std::uint8_t, 2> left_out{};  // [images, texts] or empty
};

/// The same batch, for the model over other weights.
template <class Other>
auto batch_for(const auto& batch) {
  if constexpr (requires { batch.text_offset; })
    return typename Other::Batch{.images = batch.images, .ids = batch.ids, .text_offset = batch.text_offset};
  else
    return typename Other::Batch{.images = batch.images, .ids = batch.ids};
}

/// Prunes in place, on what `run(model, ctx)` shows, and says how far it is.
template <class Model, class Run>
gatefold::Pruned prune_model(Model& model, const Arguments& args, Run&& run, Context& ctx) {
  gatefold::Progress progress({.label = "block"});
  const auto by = [&](const auto& pruner) {
    return gatefold::prune(
        model, pruner, args.rules(), gatefold::Before::pruned, [&](Context& here) { run(model, here); },
        [&](std::string_view block, Index done, Index all) {
          progress.update(done, std::string(block) + " of " + std::to_string(all) + " blocks");
        },
        ctx);
  };
  if (args.prune == "magnitude") return by(gatefold::Magnitude());
  if (args.prune == "wanda") return by(gatefold::Wanda());
  if (args.prune == "dsnot") return by(gatefold::Dsnot<>());
  return by(gatefold::SparseGpt());
}

/// A model before it is pruned, as a teacher keeps it.
template <class Model>
using Teacher = decltype(gatefold::pack<gatefold::SharedWeight<float>>(std::declval<const Model&>()));

/// The pruned model, repaired: adapters through the masks, trained on the pairs of captions and on what the teacher
/// makes of them. Both have the weights in common, unless the pruner changed those that stay. `next(step)` gives the
/// pairs of a step, which live until the next; `scale` is what cosines are multiplied by, and stays.
template <class Model>
Model repaired(const Teacher<Model>& teacher, const Model& pruned, const gatefold::Masks& masks, const Arguments& args,
               double scale, const std::function<Pairs<Model>(Index step)>& next, Context& ctx) {
  gatefold::Rng rng(static_cast<std::uint64_t>(args.seed));
  auto student = args.prune == "sparsegpt"
                     ? add_lora(gatefold::pack<gatefold::SharedWeight<float>>(pruned), args.lora(), masks, rng)
                     : add_lora(teacher, args.lora(), masks, rng);
  auto grad = zeros_like(student);
  const auto trainable = gatefold::Trainable::only(gatefold::lora_parameters());
  gatefold::AdamW optimizer(student, {.lr = args.lr, .trainable = trainable});
  const gatefold::CosineSchedule schedule{.peak = args.lr, .warmup_steps = 10, .total_steps = args.steps};
  const Index width = student.options.embedding;
  const float task = static_cast<float>(1 - args.distill), from_teacher = static_cast<float>(args.distill);
  gatefold::Ema mean_loss;
  gatefold::Progress progress({.total_steps = args.steps, .label = "repair", .log_seconds = 30});
  for (Index step = 0; step < args.steps; ++step) {
    const auto scope = ctx.workspace.scope();
    const auto pairs = next(step);
    const auto take = [&](Index rows) { return ctx.workspace.template take<float>(rows, width); };
    const auto z_image = take(pairs.images), z_text = take(pairs.texts);
    const auto t_image = take(pairs.images), t_text = take(pairs.texts);
    const auto d_image = take(pairs.images), d_text = take(pairs.texts);
    const auto more_image = take(pairs.images), more_text = take(pairs.texts);
    {
      const auto passing = ctx.workspace.scope();
      (void)teacher.forward(batch_for<Teacher<Model>>(pairs.batch), t_image, t_text, ctx);
    }
    const auto saved = student.forward(batch_for<decltype(student)>(pairs.batch), z_image, z_text, ctx);
    const gatefold::SoftmaxContrastive contrastive;
    const auto loss =
        contrastive.forward<float>(z_image, z_text, static_cast<float>(std::log(scale)), ctx, pairs.left_out);
    float unused = 0, distance = 0;
    contrastive.backward<float>(loss, task, d_image, d_text, unused, ctx);
    if (args.teacher == "similarity") {
      const auto kl = gatefold::SimilarityDistillation::forward<float>(z_image, z_text, t_image, t_text, scale, ctx);
      gatefold::SimilarityDistillation::backward<float>(kl, from_teacher, more_image, more_text, ctx);
      distance = kl.loss;
    } else {
      const auto image = gatefold::EmbeddingDistillation::forward<float>(z_image, t_image, ctx);
      const auto text = gatefold::EmbeddingDistillation::forward<float>(z_text, t_text, ctx);
      gatefold::EmbeddingDistillation::backward<float>(image, from_teacher, more_image, ctx);
      gatefold::EmbeddingDistillation::backward<float>(text, from_teacher, more_text, ctx);
      distance = image.loss + text.loss;
    }
    gatefold::kernels::add_rows<float>(more_image, d_image, ctx);
    gatefold::kernels::add_rows<float>(more_text, d_text, ctx);
    student.backward(saved, d_image, d_text, grad, ctx);
    const double norm = gatefold::gradient_norm(grad, trainable, ctx);
    if (!std::isfinite(norm))
      throw gatefold::FormatError("step " + std::to_string(step) +
                                  ": the gradient is not finite; a lower --lr, please");
    optimizer.step_and_clear(student, grad,
                             {.learning_rate = schedule(step), .gradient_scale = gatefold::clip_scale(norm)}, ctx);
    char note[64];
    std::snprintf(note, sizeof note, "loss %.3f  teacher %.4f", mean_loss.update(double{loss.loss}), double{distance});
    progress.update(step + 1, note);
  }
  progress.finish();
  return merge_lora(student, ctx);
}

/// One column of a table of numbers.
struct Score {
  std::string name;
  std::vector<double> values{};
};

/// Rows named `rows`, a column for each score, as Markdown.
void print_scores(const std::vector<std::string>& rows, const std::vector<Score>& scores);

/// What was pruned where, by block.
void print_sparsity(const gatefold::Pruned& pruned);

/// «peak memory 512 MiB», of this process.
void print_memory();

}  // namespace compress
