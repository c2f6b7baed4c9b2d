// Trains a small LIMoE on the wardrobe world and writes a model that zero_shot can use. See --help.
#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>

#include "gatefold/losses/contrastive.hpp"
#include "gatefold/models/limoe_file.hpp"
#include "gatefold/train/adamw.hpp"
#include "gatefold/train/clip_gradient.hpp"
#include "gatefold/train/metrics.hpp"
#include "gatefold/train/progress.hpp"
#include "gatefold/train/schedule.hpp"
#include "packed_limoe.hpp"
#include "program.hpp"
#include "wardrobe/feed.hpp"
#include "wardrobe/routing_table.hpp"

namespace {

using namespace gatefold;
using Clock = std::chrono::steady_clock;

struct Arguments {
  // What to train.
  bool dense = false, two_tower = false, masked = false;
  Index experts = 8, width = 128, layers = 4, heads = 8, patch = 6, embedding = 128, hidden = 512;
  std::string losses = "limoe", priority = "max_gate";
  double capacity = 1.25, min_image_experts = 4, min_text_experts = 2, aux = 0.04;
  // How.
  double noise = 1, minutes = 0, lr = 1.2e-3, weight_decay = 0.5, max_temperature = 25;
  Index steps = 5500, batch = 256, warmup = 400;
  std::uint64_t seed = 1;
  wardrobe::World world{.one_colour = 0.85};
  // Where.
  std::filesystem::path out = "limoe-run", resume, fashion_mnist = wardrobe::kDebianFashionMnist;
  Index save_every = 500, log_every = 20, stop_after = 0;
  int threads = 0;
  bool no_evaluation = false;
  std::filesystem::path evaluate;
  std::string format = "none";
};

Arguments parse(int argc, char** argv) {
  Arguments a;
  CLI::App app(
      "Trains a LIMoE, one transformer for images and words, on generated pictures of garments and shapes.\n"
      "Examples:\n"
      "  train_limoe --minutes 5                     a first model, in five minutes\n"
      "  train_limoe --out shipped                   the recipe of the shipped model\n"
      "  train_limoe --dense --steps 600             the same trunk without experts\n"
      "  train_limoe --two-tower --dense --steps 600 one trunk for images, one for text\n"
      "  train_limoe --resume limoe-run              go on where a run was interrupted\n");
  app.add_option("--minutes", a.minutes, "train about this long: sets --steps after measuring the first twenty");
  app.add_option("--steps", a.steps, "updates")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--batch", a.batch, "pairs per update")->capture_default_str()->check(CLI::Range(2, 4096));
  app.add_option("--seed", a.seed, "of data and weights")->capture_default_str();
  app.add_flag("--dense", a.dense, "no experts: every block is dense");
  app.add_flag("--two-tower", a.two_tower, "a trunk of its own for each modality");
  app.add_option("--experts", a.experts, "in each sparse block")->capture_default_str()->check(CLI::Range(1, 256));
  app.add_option("--losses", a.losses, "auxiliary losses")
      ->capture_default_str()
      ->check(CLI::IsMember({"none", "classic", "limoe"}));
  app.add_option("--priority", a.priority, "who is seated first: max_gate (batch priority routing) or position")
      ->capture_default_str()
      ->check(CLI::IsMember({"max_gate", "position"}));
  app.add_option("--capacity", a.capacity, "capacity factor in training")->capture_default_str();
  app.add_option("--min-image-experts", a.min_image_experts, "soft minimum, of the global entropy loss")
      ->capture_default_str();
  app.add_option("--min-text-experts", a.min_text_experts, "the same for text")->capture_default_str();
  app.add_option("--aux", a.aux, "coefficient of the auxiliary losses")->capture_default_str();
  app.add_option("--noise", a.noise, "router noise, times 1/experts")->capture_default_str();
  app.add_option("--width", a.width, "of a token")->capture_default_str();
  app.add_option("--hidden", a.hidden, "of a feed-forward net")->capture_default_str();
  app.add_option("--layers", a.layers, "blocks; every second one is sparse")->capture_default_str();
  app.add_option("--heads", a.heads, "of attention")->capture_default_str();
  app.add_option("--patch", a.patch, "edge of a patch in pixels, a divisor of 48")->capture_default_str();
  app.add_option("--embedding", a.embedding, "width of the shared space")->capture_default_str();
  app.add_option("--lr", a.lr, "peak learning rate")->capture_default_str();
  app.add_option("--warmup", a.warmup, "steps of warm-up")->capture_default_str();
  app.add_option("--weight-decay", a.weight_decay, "of matrices")->capture_default_str();
  app.add_option("--max-temperature", a.max_temperature, "bound of the learned temperature")->capture_default_str();
  app.add_option("--two-objects", a.world.two_objects, "share of scenes with two objects")->capture_default_str();
  app.add_option("--one-colour", a.world.one_colour, "share of batches that share a colour")->capture_default_str();
  app.add_flag("--masked", a.masked, "captions that are true of another image are no negatives for it");
  app.add_option("--out", a.out, "folder of the run: run.safetensors, model.safetensors, metrics.csv, report.md")
      ->capture_default_str();
  app.add_option("--resume", a.resume, "folder of an interrupted run; takes all other settings from it");
  app.add_option("--save-every", a.save_every, "steps between checkpoints")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--log-every", a.log_every, "steps between lines of metrics.csv")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--stop-after", a.stop_after, "interrupt the run after this step, as if by Ctrl-C; 0: never")
      ->capture_default_str();
  app.add_option("--threads", a.threads, "0: as many as OpenMP takes")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--no-evaluation", a.no_evaluation, "skip the evaluation at the end");
  std::vector<std::string> formats{"none"};
  for (const auto& [name, pack] : packed_formats()) formats.push_back(name);
  app.add_option("--evaluate", a.evaluate, "train nothing: print the evaluation table of this model file");
  app.add_option("--format", a.format, "what the weights are packed as for --evaluate; none: as they are")
      ->capture_default_str()
      ->check(CLI::IsMember(formats));
  app.add_option("--fashion-mnist", a.fashion_mnist, "folder of the four idx .gz files, if not Debian's package");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    std::exit(app.exit(e));
  }
  if (a.losses == "limoe" && !a.dense && a.resume.empty() && a.evaluate.empty())
    for (const auto& [option, minimum] :
         {std::pair("--min-image-experts", a.min_image_experts), std::pair("--min-text-experts", a.min_text_experts)}) {
      char given[32];
      std::snprintf(given, sizeof given, "%g", minimum);
      expect_option(minimum >= 1 && minimum <= static_cast<double>(a.experts),
                    std::string(option) + " is " + given + ", expected 1 to --experts, " + std::to_string(a.experts));
    }
  if (a.minutes > 0 && app.count("--warmup") == 0) a.warmup = 50;  // a short run cannot spend itself on warming up
  return a;
}

/// All that decides the numbers of a run, once, for writing it down and for taking it up again.
template <class Visitor, class Args>
void visit_settings(Visitor&& v, Args& a) {
  v("dense", a.dense);
  v("two_tower", a.two_tower);
  v("experts", a.experts);
  v("width", a.width);
  v("hidden", a.hidden);
  v("layers", a.layers);
  v("heads", a.heads);
  v("patch", a.patch);
  v("embedding", a.embedding);
  v("losses", a.losses);
  v("priority", a.priority);
  v("capacity", a.capacity);
  v("min_image_experts", a.min_image_experts);
  v("min_text_experts", a.min_text_experts);
  v("aux", a.aux);
  v("noise", a.noise);
  v("lr", a.lr);
  v("warmup", a.warmup);
  v("weight_decay", a.weight_decay);
  v("max_temperature", a.max_temperature);
  v("steps", a.steps);
  v("batch", a.batch);
  v("seed", a.seed);
  v("two_objects", a.world.two_objects);
  v("one_colour", a.world.one_colour);
  v("masked", a.masked);
}

LimoeOptions model_options(const Arguments& a, const Vocabulary& vocabulary) {
  LimoeOptions o;
  o.image_size = wardrobe::kCanvasEdge;
  o.patch = a.patch;
  o.vocabulary = vocabulary.size();
  o.width = a.width;
  o.hidden = a.hidden;
  o.num_layers = a.layers;
  o.num_heads = a.heads;
  o.embedding = a.embedding;
  o.towers = a.two_tower ? LimoeOptions::Towers::two : LimoeOptions::Towers::one;
  o.sparse = a.dense ? Placement::none() : Placement::every(2, a.layers);
  o.num_experts = a.experts;
  o.capacity.factor = a.capacity;
  o.priority = a.priority == "max_gate" ? Priority::max_gate : Priority::position;
  o.router_noise = a.noise;
  o.aux = a.losses == "none"      ? LimoeLossOptions::none()
          : a.losses == "classic" ? LimoeLossOptions::classic()
                                  : LimoeLossOptions();
  o.aux.coefficient = a.aux;
  o.aux.min_image_experts = a.min_image_experts;
  o.aux.min_text_experts = a.min_text_experts;
  o.aux.load = o.aux.load && a.noise > 0;  // without noise there is no load to speak of
  o.max_temperature = a.max_temperature;
  return o;
}

/// One run: everything that is saved, and the buffers of a step.
class Run {
 public:
  Run(Arguments arguments, const wardrobe::FashionMnist& data)
      : args(std::move(arguments)),
        data_(data),
        ctx{.parallel_for = default_parallel_for(args.threads)},
        vocabulary(wardrobe::model_vocabulary()),
        model(model_options(args, vocabulary)),
        rng_(args.seed),
        optimizer(initialised(), {.lr = args.lr, .beta2 = 0.98, .weight_decay = args.weight_decay}),
        grad_(zeros_like(model)),
        images_({args.batch, wardrobe::kCanvasEdge, wardrobe::kCanvasEdge, 3}) {}

  struct Result {
    double loss, image_accuracy, text_accuracy, grad_norm, rate;
  };

  /// One update on batch number `step`.
  Result advance() {
    const auto batch =
        wardrobe::make_batch({args.seed, static_cast<std::uint64_t>(step), args.batch}, data_.train, args.world);
    wardrobe::render_batch(batch.scenes, data_.train, images_, ctx);
    wardrobe::Texts texts;
    for (const auto& caption : batch.captions) texts.add(vocabulary, caption.text, model.options.max_text_tokens);
    for (const auto& text : batch.extra_negatives) texts.add(vocabulary, text, model.options.max_text_tokens);

    const auto scope = ctx.workspace.scope();
    ctx.rng = &rng_;
    auto z_image = ctx.workspace.take<float>(args.batch, args.embedding);
    auto z_text = ctx.workspace.take<float>(texts.size(), args.embedding);
    auto dz_image = ctx.workspace.take<float>(args.batch, args.embedding);
    auto dz_text = ctx.workspace.take<float>(texts.size(), args.embedding);
    const auto saved = model.forward(
        {.images = images_.view(), .ids = texts.ids_view(), .text_offset = texts.offset_view()}, z_image, z_text, ctx);
    const SoftmaxContrastive contrastive;
    const auto left_out = args.masked ? wardrobe::true_pairs(batch) : Tensor<std::uint8_t, 2>();
    const auto loss = contrastive.forward<float>(z_image, z_text, model.log_temperature.flat()[0], ctx, left_out);
    set_zero(grad_);
    contrastive.backward<float>(loss, 1.0f, dz_image, dz_text, grad_.log_temperature.flat()[0], ctx);
    model.backward(saved, dz_image, dz_text, grad_, ctx);

    const CosineSchedule schedule{.peak = args.lr, .warmup_steps = args.warmup, .total_steps = args.steps};
    const double norm = gradient_norm(grad_, ctx), rate = schedule(step);
    if (std::isfinite(norm)) {  // one bad batch must not end a run
      optimizer.step(model, grad_, {.learning_rate = rate, .gradient_scale = clip_scale(norm)}, ctx);
      model.clamp_temperature();
    }
    ++step;
    const double n = static_cast<double>(args.batch);
    return {loss.loss, static_cast<double>(loss.correct_a_to_b) / n, static_cast<double>(loss.correct_b_to_a) / n, norm,
            rate};
  }

  void save() const {
    CheckpointWriter writer;
    writer.add("model", model);
    writer.add("optimizer", optimizer);
    writer.add_metadata("step", step);
    const auto noise = rng_.state();
    writer.add_metadata("rng.stream", noise.stream);
    writer.add_metadata("rng.position", noise.position);
    writer.add_metadata("settings", settings());
    writer.write(args.out / "run.safetensors");
  }

  void resume(const CheckpointReader& reader) {
    reader.read("model", model);
    reader.read("optimizer", optimizer);
    step = reader.metadata_integer<Index>("step");
    rng_ = Rng(Rng::State{args.seed, reader.metadata_integer<std::uint64_t>("rng.stream"),
                          reader.metadata_integer<std::uint64_t>("rng.position")});
  }

  std::string settings() const {
    nlohmann::ordered_json json;
    visit_settings([&](const char* name, const auto& value) { json[name] = value; }, args);
    return json.dump();
  }

  /// The model for use, in bf16, with its card and a probe.
  void publish() {
    LimoeFile file{model, vocabulary};
    file.card = {{"title", "LIMoE on the wardrobe world"},
                 {"licence", "Apache-2.0"},
                 {"data", "generated scenes and captions; garments from Fashion-MNIST (Zalando Research, MIT licence)"},
                 {"seed", std::to_string(args.seed)},
                 {"pairs", std::to_string(step * args.batch)},
                 {"trained_by", "train_limoe"},
                 {"settings", settings()}};
    wardrobe::Texts text;
    text.add(vocabulary, "a photo of a red dress", model.options.max_text_tokens);
    Tensor<float, 4> image({1, wardrobe::kCanvasEdge, wardrobe::kCanvasEdge, 3});
    const auto sample = wardrobe::make_sample({args.seed, 0}, data_.test);
    wardrobe::render_batch(std::span(&sample.scene, 1), data_.test, image, ctx);
    save_limoe(file, image.view(), text.ids_view(), args.out / "model.safetensors", Dtype::bf16, ctx);
  }

  Arguments args;

 private:
  const wardrobe::FashionMnist& data_;

 public:
  Context ctx;
  Vocabulary vocabulary;
  Limoe<float> model;

 private:
  Rng rng_;

 public:
  AdamW<Limoe<float>> optimizer;
  Index step = 0;

 private:
  const Limoe<float>& initialised() {
    model.initialise(rng_, ctx);
    return model;
  }

  Limoe<float> grad_;
  Tensor<float, 4> images_;
};

volatile std::sig_atomic_t interrupted = 0;

void train(Run& run) {
  auto& args = run.args;
  std::vector<std::string> columns = {"step",          "loss",         "image_accuracy", "text_accuracy",
                                      "gradient_norm", "rate",         "temperature",    "seconds",
                                      "image_success", "text_success", "image_experts",  "text_experts"};
  CsvWriter metrics(args.out / "metrics.csv", columns);
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  std::signal(SIGINT, [](int) { interrupted = 1; });
  Ema loss;
  std::optional<Progress> progress;
  RoutingReport report;
  const Index first = run.step;
  while (run.step < args.steps && !interrupted) {
    if (!progress)
      progress.emplace(ProgressOptions{.total_steps = args.steps, .first_step = run.step, .log_seconds = 60});
    const bool log = (run.step + 1) % args.log_every == 0 || run.step + 1 == args.steps;
    report.clear();
    run.ctx.report = log ? &report : nullptr;
    const auto result = run.advance();
    run.ctx.report = nullptr;
    char note[96];
    std::snprintf(note, sizeof note, "loss %.3f  images %.0f %%  texts %.0f %%", loss.update(result.loss),
                  100 * result.image_accuracy, 100 * result.text_accuracy);
    progress->update(run.step, note);
    if (log) {
      const auto usage = wardrobe::mean_usage(report);
      metrics.write({static_cast<double>(run.step), result.loss, result.image_accuracy, result.text_accuracy,
                     result.grad_norm, result.rate, std::exp(double{run.model.log_temperature.flat()[0]}), seconds(),
                     usage[0].success, usage[1].success, usage[0].experts, usage[1].experts});
    }
    if (args.minutes > 0 && run.step == first + 20) {
      // From here on the run is one of so many steps. What came before was warm-up, which knows no total.
      args.steps = std::max<Index>(run.step, static_cast<Index>(args.minutes * 60 / (seconds() / 20)));
      args.minutes = 0;
      progress.emplace(ProgressOptions{.total_steps = args.steps, .first_step = run.step, .log_seconds = 60});
      std::fprintf(stderr, "%lld steps fit; --steps %lld --warmup %lld is this run again\n",
                   static_cast<long long>(args.steps), static_cast<long long>(args.steps),
                   static_cast<long long>(args.warmup));
    }
    if (run.step % args.save_every == 0) run.save();
    if (run.step == args.stop_after) interrupted = 1;
  }
  progress.reset();
  run.save();
  std::printf("%lld steps, %lld pairs, %s, %.0f pairs/s\n", static_cast<long long>(run.step),
              static_cast<long long>(run.step * args.batch), format_duration(seconds()).c_str(),
              static_cast<double>((run.step - first) * args.batch) / seconds());
}

/// The routing of mixed batches of unseen photos with the seats of training, as the paper's success rates are taken.
RoutingReport observe_routing(Run& run, const wardrobe::Photos& photos) {
  constexpr std::uint64_t kFirstStep = std::uint64_t{1} << 40;  // no training run gets there
  RoutingReport report;
  run.ctx.report = &report;
  Tensor<float, 4> images({256, wardrobe::kCanvasEdge, wardrobe::kCanvasEdge, 3});
  Tensor<float, 2> z_image({256, run.args.embedding}), z_text({256, run.args.embedding});
  for (std::uint64_t i = 0; i < 8; ++i) {
    const auto batch = wardrobe::make_batch({run.args.seed, kFirstStep + i, 256}, photos, run.args.world);
    wardrobe::render_batch(batch.scenes, photos, images, run.ctx);
    wardrobe::Texts texts;
    for (const auto& caption : batch.captions)
      texts.add(run.vocabulary, caption.text, run.model.options.max_text_tokens);
    report.begin_batch();
    const auto scope = run.ctx.workspace.scope();
    (void)run.model.forward({.images = images.view(), .ids = texts.ids_view(), .text_offset = texts.offset_view()},
                            z_image, z_text, run.ctx);
  }
  run.ctx.report = nullptr;
  return report;
}

/// What the model can do and how its experts share the work, on pictures it has not seen: to the terminal, to report.md
/// and, for programs, to summary.json.
void evaluate(Run& run, const wardrobe::FashionMnist& data) {
  run.ctx.rng = nullptr;
  const auto report = observe_routing(run, data.test);
  // For use nobody is turned away, so an embedding does not depend on what else is in its batch.
  const Capacity trained = run.model.options.capacity;
  run.model.set_capacity({});
  const auto sets = wardrobe::evaluation_sets(data.test);
  const auto rows = wardrobe::evaluate(run.model, run.vocabulary, sets, data.test, run.ctx);
  run.model.set_capacity(trained);
  const std::string text = wardrobe::markdown_table(rows) + "\n" + wardrobe::routing_table(report);
  std::fputs(text.c_str(), stdout);
  std::ofstream(run.args.out / "report.md") << text;

  nlohmann::ordered_json summary;
  for (const auto& row : rows)
    summary["tests"].push_back({{"title", row.title}, {"n", row.top1.count}, {"top1", row.top1.value()}});
  const auto usage = wardrobe::mean_usage(report);
  for (std::size_t m = 0; m < usage.size() && !report.layers().empty(); ++m)
    summary["routing"].push_back({{"success", usage[m].success}, {"experts", usage[m].experts}});
  std::ofstream(run.args.out / "summary.json") << summary.dump(1) << '\n';
}

/// The table of a model file, with the weights as they are stored.
void evaluate_file(const Arguments& args) {
  const auto data = wardrobe::load_fashion_mnist(args.fashion_mnist);
  auto file = load_limoe(args.evaluate);
  Context ctx;
  if (const double off = verify(file, args.evaluate, ctx); !(off < 1e-3))
    throw FormatError(args.evaluate.string() + ": its self-check is off by " + std::to_string(off) +
                      "; the file is damaged");
  file.model.set_capacity({});
  const auto score = [&](const auto& model) {
    return wardrobe::evaluate(model, file.vocabulary, wardrobe::evaluation_sets(data.test), data.test, ctx);
  };
  const auto rows = args.format == "none" ? score(file.model) : std::visit(score, pack_as(args.format, file.model));
  std::fputs(wardrobe::markdown_table(rows).c_str(), stdout);
}

int run_main(int argc, char** argv) {
  Arguments args = parse(argc, argv);
  if (!args.evaluate.empty()) {
    evaluate_file(args);
    return 0;
  }
  std::optional<CheckpointReader> checkpoint;
  if (!args.resume.empty()) {
    args.out = args.resume;
    checkpoint.emplace(args.out / "run.safetensors");
    const auto settings = nlohmann::json::parse(checkpoint->metadata("settings"));
    visit_settings([&](const char* name, auto& value) { settings.at(name).get_to(value); }, args);
    args.minutes = 0;
  }
  std::filesystem::create_directories(args.out);
  const auto data = wardrobe::load_fashion_mnist(args.fashion_mnist);
  Run run(args, data);
  if (checkpoint) run.resume(*checkpoint);
  checkpoint.reset();
  std::printf("%lld parameters, seed %llu, kernels: %s, threads: %lld\n",
              static_cast<long long>(count_params(run.model)), static_cast<unsigned long long>(args.seed),
              std::string(name(run.ctx.isa)).c_str(), static_cast<long long>(run.ctx.parallel_for.workers()));
  train(run);
  if (interrupted) {
    std::printf("interrupted after step %lld; go on with --resume %s\n", static_cast<long long>(run.step),
                args.out.c_str());
    return 130;
  }
  run.publish();
  if (!args.no_evaluation) evaluate(run, data);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("train_limoe", run_main, argc, argv); }
