#include "train_ask/arguments.hpp"

#include "training/options.hpp"

namespace train_ask {

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments a;
  CLI::App app(
      "Trains a small vision-language model to answer questions about generated pictures of garments and shapes.\n"
      "Examples:\n"
      "  train_ask --minutes 15          as many steps as fit in a quarter of an hour\n"
      "  train_ask --out answers         the whole recipe\n"
      "  train_ask --resume ask-run      go on where a run was interrupted\n");
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
  gatefold::add_texts(app, "--out", a.out,
                      "folder of the run: run.safetensors, model.safetensors, metrics.csv, report.md, summary.json; "
                      "without it " +
                          a.out.string());
  app.add_flag("--overwrite", a.overwrite, "remove the run that is in the folder, and begin anew");
  gatefold::add_texts(app, "--resume", a.resume, "folder of an interrupted run; takes all settings from it");
  const Range<Index> evaluations{0, 1'000'000};
  add("evaluation", a.evaluation, evaluations, "questions of each kind in the test at the end; 0: no test");
  gatefold::add_texts(app, "--fashion-mnist", a.fashion_mnist,
                      "folder of the four idx .gz files, if not Debian's package");
  if (!gatefold::parse_command_line(app, "train_ask", argc, argv)) return std::nullopt;
  visit_settings(training::ExpectRanges{}, a.settings);
  training::visit_loop_options(training::ExpectRanges{}, a.loop);
  training::ExpectRanges{}("evaluation", a.evaluation, evaluations, "");
  if (!a.resume.empty()) {
    settings.insert(settings.end(), {"--minutes", "--out", "--overwrite"});
    training::expect_none_with_resume(app, settings);
    a.out = a.resume;
  }
  if (a.loop.minutes > 0 && app.count("--steps"))
    throw gatefold::UsageError("--minutes and --steps both say how long to train; give one of them");
  return a;
}

}  // namespace train_ask
