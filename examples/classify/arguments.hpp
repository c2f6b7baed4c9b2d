#pragma once
#include <optional>

#include "command_line.hpp"

namespace classify {

using gatefold::Index;

struct Arguments {
  std::filesystem::path data = "/usr/share/datasets/fashion-mnist", out = "classify-run";
  Index steps = 12500, batch = 128, stop_after = 0;
  std::uint64_t seed = 1;
  int threads = 0;
  bool dense = false, resume = false;

  /// What decides the numbers of a run, beside the options of its model.
  std::string text() const {
    return "steps " + std::to_string(steps) + " batch " + std::to_string(batch) + " seed " + std::to_string(seed);
  }
};

/// Nothing when all that was asked for was help. Throws UsageError.
inline std::optional<Arguments> parse(int argc, char** argv) {
  Arguments a;
  CLI::App app(
      "Trains an image classifier with experts on Fashion-MNIST, or on pictures in files like its own.\n"
      "Examples:\n"
      "  classify                        a model in ten minutes of one core\n"
      "  classify --dense --out dense    the same without experts\n"
      "  classify --resume               go on after Ctrl-C\n");
  gatefold::add_texts(app, "--data", a.data,
                      "folder of train- and t10k-images-idx3-ubyte and -labels-idx1-ubyte, .gz or not, if it is not "
                      "Debian's dataset-fashion-mnist");
  gatefold::add_texts(
      app, "--out", a.out,
      "folder of the run: run.safetensors, model.safetensors, metrics.csv; without it " + a.out.string());
  app.add_flag("--resume", a.resume, "go on with the run in that folder, given the same settings");
  app.add_flag("--dense", a.dense, "no experts: of equal FLOPs, with fewer weights");
  const CLI::Range sizes(Index{1}, Index{1} << 30);
  app.add_option("--steps", a.steps, "updates")->capture_default_str()->check(sizes);
  app.add_option("--batch", a.batch, "pictures in each of them")->capture_default_str()->check(sizes);
  app.add_option("--seed", a.seed, "of weights, order and luck")->capture_default_str();
  app.add_option("--stop-after", a.stop_after, "as by Ctrl-C after this step; 0: never")->capture_default_str();
  gatefold::add_threads(app, a.threads);
  if (!gatefold::parse_command_line(app, "classify", argc, argv)) return std::nullopt;
  if (!std::filesystem::exists(a.data))
    throw gatefold::UsageError("there is no " + a.data.string() +
                               "; sudo apt-get install dataset-fashion-mnist, or name a folder with --data");
  return a;
}

}  // namespace classify
