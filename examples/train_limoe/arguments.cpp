#include "train_limoe/arguments.hpp"

#include "command_line.hpp"
#include "packed_limoe/packed_limoe.hpp"

namespace train_limoe {
namespace {

/// visit as visit_settings does, of what is of this call alone and has a range.
template <class Visitor>
void visit_controls(Visitor&& visit, Arguments& a) {
  using Whole = Range<Index>;
  visit("minutes", a.minutes, kMinutes, "train about this long: sets --steps after measuring twenty; 0: --steps says");
  visit("save_every", a.save_every, Whole{1, kMostSteps}, "steps between checkpoints");
  visit("log_every", a.log_every, Whole{1, kMostSteps}, "steps between lines of metrics.csv");
  visit("max_skipped", a.max_skipped, Whole{1, kMostSteps},
        "stop after so many steps in a row whose gradient is not finite, which are skipped");
  visit("stop_after", a.stop_after, Whole{0, kMostSteps}, "interrupt the run after this step, as by Ctrl-C; 0: never");
}

std::string option_name(std::string name) {
  std::ranges::replace(name, '_', '-');
  return "--" + name;
}

}  // namespace

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
  const auto add = [&]<class T>(const char* name, T& value, const auto& allowed, const char* help) {
    if constexpr (std::is_same_v<T, bool>)
      app.add_flag(option_name(name), value, help);
    else
      app.add_option(option_name(name), value, help)->capture_default_str()->type_name(allowed.ends());
  };
  visit_settings(
      [&](const char* name, auto& value, const auto& allowed, const char* help) {
        add(name, value, allowed, help);
        settings.push_back(option_name(name));
      },
      a.settings);
  visit_controls(add, a);
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
  const auto expect = [](const char* name, const auto& value, const auto& allowed, const char*) {
    if (!allowed.holds(value))
      throw gatefold::UsageError(option_name(name) + " is " + to_text(value) + ", expected " + allowed.text());
  };
  visit_settings(expect, a.settings);
  visit_controls(expect, a);
  if (const auto why = contradiction(a.settings, option_name); !why.empty()) throw gatefold::UsageError(why);
  if (!a.resume.empty()) {
    settings.insert(settings.end(), {"--minutes", "--out", "--overwrite"});
    for (const auto& name : settings)
      if (app.count(name))
        throw gatefold::UsageError(name +
                                   " does not go with --resume, which goes on with the run as it was begun; "
                                   "leave it out, or begin another run with --out FOLDER");
    a.out = a.resume;
  }
  if (a.minutes > 0 && app.count("--steps"))
    throw gatefold::UsageError("--minutes and --steps both say how long to train; give one of them");
  if (a.minutes > 0 && !app.count("--warmup")) a.settings.warmup = 50;  // a short run cannot spend itself on warming up
  return a;
}

}  // namespace train_limoe
