#include "train_clip/stages.hpp"

#include "gatefold/adapt/cluster_sampler.hpp"
#include "gatefold/adapt/kmeans.hpp"
#include "gatefold/adapt/pseudo_labels.hpp"
#include "gatefold/io/atomic_file.hpp"
#include "gatefold/models/clip_init.hpp"
#include "gatefold/models/upcycle.hpp"
#include "gatefold/train/shuffle.hpp"
#include "program.hpp"
#include "train_clip/evaluation.hpp"
#include "train_clip/file_pairs.hpp"
#include "train_clip/run.hpp"
#include "train_clip/wardrobe_pairs.hpp"
#include "wardrobe/fashion_mnist.hpp"
#include "wardrobe/render.hpp"

namespace train_clip {
namespace {

using training::RunFolder;

constexpr const char *kLabels = "labels.safetensors", *kAll = "all.json";

/// Fashion-MNIST where a stage needs it, loaded once.
const wardrobe::FashionMnist& fashion_mnist(const Arguments& args) {
  static const auto data = wardrobe::load_fashion_mnist(args.fashion_mnist);
  return data;
}

std::vector<fs::path> experts_of(const Settings& s) {
  std::vector<fs::path> folders;
  std::istringstream lines(s.experts);
  for (std::string line; std::getline(lines, line);) folders.emplace_back(line);
  return folders;
}

std::optional<Captions> captions_of(const Settings& s) {
  if (s.data.empty()) return std::nullopt;
  auto captions = read_captions(s.data, s.skip_bad);
  if (!captions.faults.empty()) {
    std::string some;
    for (std::size_t i = 0; i < std::min<std::size_t>(3, captions.faults.size()); ++i)
      some += "\n  " + captions.faults[i];
    std::cerr << gatefold::message(s.data + ": " + std::to_string(captions.faults.size()) +
                                   " lines or files of no use are left out, such as" + some);
  }
  return captions;
}

std::unique_ptr<Pairs> pairs_of(const Settings& s, std::optional<Captions> captions, const Model& model,
                                const Arguments& args) {
  if (captions) return std::make_unique<FilePairs>(std::move(*captions), model.preprocess, s.skip_bad);
  if (model.clip.options.image_size != wardrobe::kCanvasEdge)
    throw gatefold::FormatError("the wardrobe world has pictures of " + to_text(wardrobe::kCanvasEdge) +
                                " pixels, the model takes " + to_text(model.clip.options.image_size) +
                                "; give it pictures of your own with --data");
  return std::make_unique<WardrobePairs>(
      WardrobePairs::Options{s.pairs, s.captions == "brief" ? wardrobe::Telling::brief : wardrobe::Telling::detailed},
      fashion_mnist(args).train);
}

/// A model that is made here: its companions in the folder, then first weights.
Model new_model(const Settings& s, const std::optional<Captions>& captions, const fs::path& folder, Context& ctx) {
  std::vector<std::string> texts;
  if (captions)
    for (const auto& photo : captions->photos) texts.insert(texts.end(), photo.captions.begin(), photo.captions.end());
  else
    texts = wardrobe::told_words();
  write_companions(s, texts, folder);
  auto model = model_beside(folder, gatefold::ClipNames::hugging_face, tiny_options(s, folder));
  gatefold::Rng rng(s.seed);
  initialise(model.clip, rng, ctx);
  return model;
}

Model upcycled(const Settings& s, Context& ctx) {
  auto base = load_model(s.model, ctx);
  const auto folders = experts_of(s);
  gatefold::Rng rng(s.seed);
  if (folders.empty()) {
    base.clip = gatefold::upcycle(std::move(base.clip), {.num_experts = s.copies}, rng);
    return base;
  }
  std::vector<Clip> models{base.clip};
  for (const auto& folder : folders) models.push_back(load_model(folder, ctx).clip);
  base.clip = gatefold::upcycle_from<float>(models, {.num_experts = std::ssize(models)}, rng);
  return base;
}

/// Labels of all pairs by what the stages so far hold alike, kept in the folder.
gatefold::PseudoLabels make_labels(const Settings& s, const Pairs& pairs, const fs::path& folder, Context& ctx) {
  gatefold::PseudoLabels labels(pairs.size());
  const auto read = [&](const fs::path& path) {
    const gatefold::CheckpointReader file(path);
    if (file.metadata("data") != pairs.identity())
      throw gatefold::FormatError(path.string() + ": is of other pictures or captions (" + file.metadata("data") +
                                  ") than came now (" + pairs.identity() + ")");
    file.read("labels", labels);
  };
  if (fs::exists(folder / kLabels)) {
    read(folder / kLabels);
    return labels;
  }
  const auto earlier = experts_of(s);
  if (!earlier.empty()) {
    if (!fs::exists(earlier.back() / kLabels))
      throw gatefold::FormatError(earlier.back().string() + ": has no " + kLabels +
                                  "; expected the folder of an earlier --stage mcl");
    read(earlier.back() / kLabels);
  }
  const auto model = load_model(earlier.empty() ? fs::path(s.model) : earlier.back(), ctx);
  const auto clusters = [&](const Tensor<float, 2>& z, Index count, std::uint64_t seed) {
    return gatefold::kmeans<float>(z.view(), {.num_clusters = count, .seed = seed}, ctx).label;
  };
  std::vector<Index> image, text;
  {
    const auto z = embed_pictures(
        model.clip, pairs.size(), [&](Index i, gatefold::View<float, 3> out) { pairs.draw(i, nullptr, out); }, ctx);
    image = clusters(z, s.image_clusters, s.seed);
  }
  {
    std::vector<std::string> captions;
    for (Index i = 0; i < pairs.size(); ++i) captions.push_back(pairs.caption(i, 0));
    text = clusters(embed_texts(model, captions, ctx), s.text_clusters, s.seed + 1);
  }
  labels.append({.text = text, .image = image, .num_text = s.text_clusters, .num_image = s.image_clusters});
  gatefold::CheckpointWriter file;
  file.add("labels", labels);
  file.add_metadata("data", pairs.identity());
  file.write(folder / kLabels);
  return labels;
}

Feed::Choose choose_of(const Settings& s, const Pairs& pairs, const fs::path& folder, Context& ctx) {
  if (s.stage == "mcl") {
    const auto labels = make_labels(s, pairs, folder, ctx);
    const auto sampler = std::make_shared<const gatefold::ClusterSampler>(
        labels.values(), gatefold::ClusterSampler::Options{.batch = s.batch, .seed = s.seed});
    const auto& counts = sampler->counts();
    std::printf("%s clusters, %s of them fill a batch; %.1f %% of the pairs are in full batches\n",
                to_text(counts.clusters).c_str(), to_text(counts.clusters_used).c_str(),
                100 * static_cast<double>(counts.used) / static_cast<double>(counts.samples));
    return [sampler](Index step, std::span<Index> which) { sampler->batch(step, which); };
  }
  if (pairs.size() < s.batch)
    throw gatefold::FormatError("there are " + to_text(pairs.size()) + " pictures, fewer than a batch of " +
                                to_text(s.batch) + "; give a smaller --batch");
  const gatefold::Shuffle order{.size = pairs.size(), .seed = s.seed};
  return [order](Index step, std::span<Index> which) {
    for (std::size_t i = 0; i < which.size(); ++i) which[i] = order(step * std::ssize(which) + static_cast<Index>(i));
  };
}

/// To the terminal, to report.md and, for programs, to summary.json.
void report(const Model& model, const Arguments& args, const RunFolder* folder, Context& ctx, double seconds = 0) {
  if (args.evaluation == 0 || model.clip.options.image_size != wardrobe::kCanvasEdge) return;
  ctx.frozen = nullptr;
  const auto& test = fashion_mnist(args).test;
  const auto scores = evaluate(model, test, args.evaluation, ctx);
  const auto text = markdown_of(scores) + routing_of(model, test, ctx);
  std::fputs(text.c_str(), stdout);
  if (!folder) return;
  gatefold::write_file(*folder / RunFolder::kReport, text);
  nlohmann::ordered_json summary;
  for (const auto& score : scores)
    summary["tests"].push_back({{"title", score.name}, {"n", score.count}, {"top1", score.percent / 100}});
  summary["seconds"] = seconds;  // of training
  gatefold::write_file(*folder / RunFolder::kSummary, summary.dump(1) + "\n");
}

Context make_context(const Arguments& args) {
  return Context{.parallel_for = gatefold::default_parallel_for(args.threads)};
}

bool is_done(const fs::path& folder, const Arguments& args) {
  return fs::exists(folder / RunFolder::kModel) && (args.evaluation == 0 || fs::exists(folder / RunFolder::kSummary));
}

}  // namespace

int run_stage(const Settings& given, const fs::path& out, bool resumes, bool overwrites, const Arguments& args) {
  const RunFolder folder(out, resumes      ? RunFolder::Use::resume
                              : overwrites ? RunFolder::Use::overwrite
                                           : RunFolder::Use::begin);
  auto ctx = make_context(args);
  if (overwrites) folder.remove_run(), fs::remove(out / kLabels);
  if (given.stage == "upcycle") {
    const auto model = upcycled(given, ctx);
    copy_companions(given.model, out);
    std::printf("%s: %s parameters in a mixture of %s experts a net\n", out.c_str(),
                to_text(count_params(model.clip)).c_str(),
                to_text(model.clip.options.vision.mixture.num_experts).c_str());
    publish(model, out, ctx);
    report(model, args, &folder, ctx);
    return gatefold::kDone;
  }
  std::optional<Run> run;
  auto loop = args.loop;
  std::optional<Captions> captions;
  if (resumes) {
    const gatefold::CheckpointReader checkpoint(folder / RunFolder::kCheckpoint);
    captions = captions_of(Run::settings_of(checkpoint));
    run.emplace(checkpoint, out, std::move(ctx));
    loop.minutes = training::minutes_of(checkpoint);
  } else {
    captions = captions_of(given);
    const bool begins_with_one = !given.model.empty();
    if (begins_with_one) copy_companions(given.model, out);
    auto model = begins_with_one ? load_model(given.model, ctx) : new_model(given, captions, out, ctx);
    if (given.stretch > 0) model = stretched(std::move(model), given.stretch, out);
    run.emplace(given, std::move(model), std::move(ctx));
  }
  const auto& s = run->settings;
  std::printf("%s: stage %s, %s of %s parameters move, seed %s, kernels: %s, threads: %s\n", out.c_str(),
              s.stage.c_str(), to_text(count_trained(run->model.clip, trainable_of(s))).c_str(),
              to_text(count_params(run->model.clip)).c_str(), to_text(s.seed).c_str(),
              std::string(name(run->ctx.isa)).c_str(), to_text(run->ctx.parallel_for.workers()).c_str());
  const auto pairs = pairs_of(s, std::move(captions), run->model, args);
  const Index loaders = args.loaders > 0 ? args.loaders : std::max<Index>(1, run->ctx.parallel_for.workers() / 4);
  run->feed_from({*pairs, choose_of(s, *pairs, out, run->ctx), loaders});
  if (const int status = training::train(*run, folder, loop)) return status;
  if (const auto* files = dynamic_cast<const FilePairs*>(pairs.get()); files && files->num_unreadable() > 0)
    std::cerr << gatefold::message(to_text(files->num_unreadable()) +
                                   " times a photograph could not be read, and the next one took its place");
  publish(run->model, out, run->ctx);
  report(run->model, args, &folder, run->ctx, training::seconds_of(*run, folder));
  return gatefold::kDone;
}

bool holds_all(const fs::path& folder) { return fs::exists(folder / kAll); }

int run_all(const Arguments& call) {
  auto args = call;
  if (!args.resume.empty()) {
    const auto json = gatefold::read_json_object(args.out / kAll);
    if (!json.contains("given") || !json["given"].is_object() || !json.contains("stages") ||
        !json["stages"].is_number_integer() || json["stages"] < 0 || json["stages"] > 16)
      throw gatefold::FormatError((args.out / kAll).string() + ": is not what --stage all writes");
    args.given = json["given"];
    args.stages = json["stages"];
  } else {
    if (holds_all(args.out) && !args.overwrite)
      throw gatefold::FormatError(args.out.string() + " holds a run already; go on with it by --resume " +
                                  args.out.string() +
                                  ", name another folder with --out, or give --overwrite to lose it");
    fs::create_directories(args.out);
    gatefold::write_file(args.out / kAll,
                         nlohmann::ordered_json{{"stages", args.stages}, {"given", args.given}}.dump(1) + "\n");
  }
  const auto run = [&](const char* stage, const std::string& name, const nlohmann::json& more) {
    const auto out = args.out / name;
    const bool overwrites = args.overwrite && args.resume.empty();
    if (!overwrites && is_done(out, args)) return 0;
    auto given = args.given;
    given.update(more);
    const bool resumes = !overwrites && fs::exists(out / RunFolder::kCheckpoint);
    return run_stage(settings_of(stage, given), out, resumes, !resumes, args);
  };
  std::string base = args.given.value("model", ""), experts;
  if (base.empty()) {
    if (const int status = run("base", "base", nlohmann::json::object())) return status;
    base = (args.out / "base").string();
  }
  for (Index stage = 1; stage <= args.stages; ++stage) {
    const auto name = "mcl-" + to_text(stage);
    if (const int status = run("mcl", name, {{"model", base}, {"experts", experts}})) return status;
    experts += (experts.empty() ? "" : "\n") + (args.out / name).string();
  }
  if (const int status = run("upcycle", "upcycled", {{"model", base}, {"experts", experts}})) return status;
  if (const int status = run("router", "clip-moe", {{"model", (args.out / "upcycled").string()}})) return status;
  std::printf("%s is a CLIP-MoE: zero_shot --model %s --labels ...\n", (args.out / "clip-moe").c_str(),
              (args.out / "clip-moe").c_str());
  return gatefold::kDone;
}

void evaluate_model(const Arguments& args) {
  auto ctx = make_context(args);
  report(load_model(args.evaluate, ctx), args, nullptr, ctx);
}

}  // namespace train_clip
