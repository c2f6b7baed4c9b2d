// Trains a V-MoE, a vision transformer with experts, to tell ten kinds of garments apart: the program to copy for a
// model of your own. See --help.
#include "classify/arguments.hpp"
#include "gatefold/gatefold.hpp"
#include "gatefold/models/vmoe_file.hpp"
#include "stop_signals.hpp"
#include "wardrobe/idx.hpp"

namespace {
using namespace gatefold;
constexpr const char* kClasses[] = {"T-shirt", "trousers", "pullover", "dress", "coat",
                                    "sandal",  "shirt",    "sneaker",  "bag",   "ankle boot"};

/// What a model makes of pictures that it was not trained on.
Confusion evaluate(const Vmoe<float>& model, const wardrobe::Labelled& data, Context& ctx) {
  Confusion result(model.options.num_classes);
  for (Index first = 0; first < data.size(); first += 200) {
    const auto scope = ctx.workspace.scope();  // what this pass takes goes back at its end
    const Index batch = std::min<Index>(200, data.size() - first);
    auto pictures = ctx.workspace.take<float>(batch, data.edge(), data.edge(), 1);
    auto logits = ctx.workspace.take<float>(batch, result.num_classes());
    auto label = ctx.workspace.take<Index>(batch);
    for (Index b = 0; b < batch; ++b) label[b] = data.draw(first + b, {}, &pictures(b, 0, 0, 0));
    (void)model.forward(pictures, logits, ctx);
    result.add<float>(logits, label);
  }
  return result;
}

int run_main(int argc, char** argv) {
  const auto args = classify::parse(argc, argv);
  if (!args) return kDone;
  const auto train = wardrobe::read_labelled(args->data, "train"), test = wardrobe::read_labelled(args->data, "t10k");
  const Index batch = args->batch, edge = train.edge();
  VmoeOptions options{.image_size = edge, .patch = edge / 4, .width = 96, .hidden = 192, .num_layers = 3};
  options.classifier = VmoeOptions::Classifier::mean;
  options.sparse = args->dense ? Placement::none() : Placement::every(2, options.num_layers);
  options.num_selected = 1;  // of 8 experts: the FLOPs of the dense model
  Context ctx{.parallel_for = default_parallel_for(args->threads)};
  Vmoe<float> model(options);
  Rng first_weights(args->seed);
  model.initialise(first_weights, ctx);
  AdamW optimizer(model, {.beta2 = 0.98, .weight_decay = 0.1});
  WeightAverage average(model, {.decay = 0.998});  // the model in the end
  auto grad = zeros_like(model);
  Index step = 0;
  // A run is a function of its settings and its step: one that goes on ends as if it had never stopped, bit for bit.
  const auto checkpoint = args->out / "run.safetensors";
  const auto settings = to_json(options) + " " + args->text();
  if (args->resume) {
    const CheckpointReader file(checkpoint);
    if (file.metadata("settings") != settings) throw UsageError("the run was begun with " + file.metadata("settings"));
    file.read("model", model), file.read("optimizer", optimizer), file.read("average", average);
    step = file.metadata_integer<Index>("step");
  } else if (!std::filesystem::create_directories(args->out) && std::filesystem::exists(checkpoint)) {
    throw UsageError(args->out.string() + " holds a run: --resume goes on with it, another --out begins one");
  }
  const auto save = [&] {
    CheckpointWriter file;
    file.add("model", model), file.add("optimizer", optimizer), file.add("average", average);
    file.add_metadata("step", step), file.add_metadata("settings", settings);
    file.write(checkpoint);
  };
  const CosineSchedule schedule{.peak = 1e-3, .warmup_steps = args->steps / 50, .total_steps = args->steps};
  const Shuffle order{.size = train.size(), .seed = args->seed};
  const CrossEntropy task{.label_smoothing = 0.1};
  CsvWriter metrics(args->out / "metrics.csv", {"step", "loss", "right", "gradient_norm"}, static_cast<double>(step));
  Progress progress({.total_steps = args->steps, .first_step = step, .log_seconds = 60});
  const StopSignals signals;
  Ema loss;
  while (step < args->steps && !signals.came() && (step != args->stop_after || step == 0)) {
    const auto scope = ctx.workspace.scope();
    auto pictures = ctx.workspace.take<float>(batch, edge, edge, 1);
    auto logits = ctx.workspace.take<float>(batch, options.num_classes);
    auto dlogits = ctx.workspace.take<float>(batch, options.num_classes);
    auto label = ctx.workspace.take<Index>(batch);
    const auto at = static_cast<std::uint64_t>(step);  // luck and noise from streams of this step's own
    Rng luck(args->seed, std::uint64_t{1} << 62 | at), noise(args->seed, std::uint64_t{1} << 63 | at << 10);
    for (Index b = 0; b < batch; ++b) {
      const Index left = luck.below(3) - 1, up = luck.below(3) - 1;
      label[b] = train.draw(order(step * batch + b), {left, up, luck.below(2) == 1}, &pictures(b, 0, 0, 0));
    }
    ctx.rng = &noise;  // of the routers, in training only
    const auto saved = model.forward(pictures, logits, ctx);
    ctx.rng = nullptr;
    const auto kept = task.forward<float>(logits, label, ctx);
    task.backward<float>(kept, 1, dlogits, ctx);
    model.backward(saved, dlogits, grad, ctx);  // with the losses on the routing; adds to what is 0
    const double norm = gradient_norm(grad, ctx), right = static_cast<double>(kept.num_correct);
    if (!std::isfinite(norm)) throw FormatError("step " + std::to_string(step) + ": the run has diverged");
    optimizer.step_and_clear(model, grad, {.learning_rate = schedule(step), .gradient_scale = clip_scale(norm)}, ctx);
    average.update(model, ctx);
    progress.update(++step, "loss " + std::to_string(loss.update(kept.loss)));
    if (step % 20 == 0) metrics.write({static_cast<double>(step), kept.loss, right / static_cast<double>(batch), norm});
    if (step % 500 == 0) save();
  }
  progress.finish();
  save();
  if (step < args->steps) {
    std::cout << "stopped after step " << step << "; the same command with --resume goes on\n";
    return signals.came() ? signals.exit_status() : 128 + SIGINT;
  }
  save_vmoe({average.mean, {{"settings", settings}}}, args->out / "model.safetensors");
  const auto result = evaluate(average.mean, test, ctx);
  std::cout << result.table(kClasses) << 100 * result.accuracy() << " % of " << result.total() << " are right\n";
  if (args->dense) return kDone;
  for (const double seats : {1.0, 0.5, 0.25}) {  // a full expert passes a patch by: better one that matters little
    std::cout << "with seats for " << 100 * seats << " % of the patches:";
    for (const auto& [who, words] : {std::pair(Priority::max_gate, "the surest"), {Priority::position, "the first"}}) {
      average.mean.set_seats({.factor = seats}, who);
      std::cout << "  " << 100 * evaluate(average.mean, test, ctx).accuracy() << " %, " << words;
    }
    std::cout << "\n";
  }
  return kDone;
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("classify", run_main, argc, argv); }
