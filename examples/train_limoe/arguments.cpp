#include "train_limoe/arguments.hpp"

#include "packed_limoe/packed_limoe.hpp"
#include "training/options.hpp"

namespace train_limoe {
std::optional<Arguments> parse(int argc, char** argv) {
  Arguments a;
  CLI::App app(
      "Trains a LIMoE, one transformer for images and words, on generated pictures of garments and shapes.\n"
      "Examples:\n"
      "  train_limoe --minutes 5                     a first model, in five minutes\n"
      "  train_limoe --out shipped                   the recipe of the shipped model\n"
      "  train_limoe --dense --steps 600             the same trunk without experts\n"
      "  train_limoe --two-tower --dense --steps 600 one trunk for images, one for text\n"
      "  train_limoe --resume limoe-run              go on where a run was interrupted\n");
  std::vector<std::string> settings;
  const training::AddOptions add{app};
  visit_settings(
      [&](const char* name, auto& value, const auto& allowed, const char* help) {
        add(name, value, allowed, help);
        settings.push_back(training::option_name(name));
      },
      a.settings);
  training::visit_loop_options(add, a.loop);
  gatefold::add_threads(app, a.threads);
  gatefold::add_texts(
      app, "--out", a.out,
      "folder of the run: run.safetensors, model.safetensors, metrics.csv, report.md; without it " + a.out.string());
  app.add_flag("--overwrite", a.overwrite, "remove the run that is in the folder, and begin anew");
  gatefold::add_texts(app, "--resume", a.resume, "folder of an interrupted run; takes all settings from it");
  app.add_flag("--no-evaluation", a.no_evaluation, "skip the evaluation at the end");
  std::vector<std::string> formats{"none"};
  for (const auto& name : gatefold::packed_formats()) formats.push_back(name);
  gatefold::add_texts(app, "--evaluate", a.evaluate, "train nothing: print the evaluation table of this model file");
  app.add_option("--format", a.format, "what the weights are packed as for --evaluate; none: as they are")
      ->capture_default_str()
      ->check(CLI::IsMember(formats));
  gatefold::add_texts(app, "--fashion-mnist", a.fashion_mnist,
                      "folder of the four idx .gz files, if not Debian's package");
  if (!gatefold::parse_command_line(app, "train_limoe", argc, argv)) return std::nullopt;
  visit_settings(training::ExpectRanges{}, a.settings);
  training::visit_loop_options(training::ExpectRanges{}, a.loop);
  if (const auto why = contradiction(a.settings, training::option_name); !why.empty()) throw gatefold::UsageError(why);
  if (!a.resume.empty()) {
    settings.insert(settings.end(), {"--minutes", "--out", "--overwrite"});
    training::expect_none_with_resume(app, settings);
    a.out = a.resume;
  }
  if (a.loop.minutes > 0 && app.count("--steps"))
    throw gatefold::UsageError("--minutes and --steps both say how long to train; give one of them");
  if (a.loop.minutes > 0 && !app.count("--warmup"))
    a.settings.warmup = 50;  // a short run cannot spend itself on warming up
  return a;
}

}  // namespace train_limoe
