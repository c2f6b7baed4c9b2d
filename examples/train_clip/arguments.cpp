#include "train_clip/arguments.hpp"

#include "training/options.hpp"

namespace train_clip {
namespace {

/// Experts are told apart by what no path holds.
constexpr char kSeparator = '\n';

template <class Visitor>
void visit_controls(Visitor&& visit, Arguments& a) {
  using Whole = training::Range<Index>;
  visit("evaluation", a.evaluation, Whole{0, 100000}, "pairs of the evaluation at the end; 0: none");
  visit("stages", a.stages, Whole{1, 16}, "of mcl, where --stage all trains them");
}

}  // namespace

Settings settings_of(const std::string& stage, const nlohmann::json& given) {
  auto json = nlohmann::json::parse(training::json_of_settings(defaults_of(stage)));
  json.update(given);
  return training::settings_of_json<Settings>(json.dump(), "the command line");
}

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments a;
  CLI::App app(
      "Trains a CLIP, and makes a CLIP-MoE of it: a base; stages of contrastive learning among pictures that the "
      "stages "
      "before hold alike; their feed-forward nets as the experts of a mixture; its routers.\n"
      "Examples:\n"
      "  train_clip                                   all of it, tiny, on generated pictures\n"
      "  train_clip --data captions.tsv --model clip  of your model on your pictures\n"
      "  train_clip --stage base --out base           a base alone\n"
      "  train_clip --stage tune --model base --lr 1e-4   train on, everything\n"
      "  train_clip --stage tune --model base --train text --stretch 20   texts, of more words\n"
      "  train_clip --stage mcl --model base --experts mcl-1   the second stage\n"
      "  train_clip --stage upcycle --model base --experts mcl-1 mcl-2   a CLIP-MoE\n"
      "  train_clip --stage router --model upcycled   its routers\n"
      "  train_clip --resume clip-run                 go on where a run was interrupted\n");
  Settings given;
  std::vector<std::string> names{"--stage", "--out", "--overwrite", "--stages"}, experts;
  app.add_option("--stage", a.stage, "what to train")
      ->capture_default_str()
      ->check(CLI::IsMember({"all", "base", "tune", "mcl", "upcycle", "router"}));
  gatefold::add_texts(app, "--model", given.model, "folder of the CLIP to begin with; without it a tiny one is made");
  gatefold::add_texts(app, "--experts", experts,
                      "folders of earlier stages: what stage mcl goes on from, and upcycle makes experts of");
  gatefold::add_texts(app, "--data", given.data,
                      "captions.tsv (photograph, tab, caption), .csv with a header, or a folder with NAME.txt beside "
                      "NAME.jpg; without it generated pictures");
  const training::AddOptions add{app, false};
  visit_settings(
      [&]<class T>(const char* name, T& value, const auto& allowed, const char* help) {
        names.push_back(training::option_name(name));
        if (!*help) return;
        if constexpr (std::is_same_v<T, bool>)  // which some stages have and others not
          app.add_option(training::option_name(name), value, help)->type_name("true|false");
        else
          add(name, value, allowed, help);
      },
      given);
  const training::AddOptions add_with_default{app};
  training::visit_loop_options(add_with_default, a.loop);
  visit_controls(add_with_default, a);
  gatefold::add_threads(app, a.threads);
  app.add_option("--loaders", a.loaders, "threads that read and prepare pictures; 0: a quarter of the threads");
  gatefold::add_texts(app, "--out", a.out, "folder of the run; without it " + a.out.string());
  app.add_flag("--overwrite", a.overwrite, "remove the run that is in the folder, and begin anew");
  gatefold::add_texts(app, "--resume", a.resume, "folder of an interrupted run; takes all settings from it");
  gatefold::add_texts(app, "--evaluate", a.evaluate, "train nothing: print what this model can in the wardrobe world");
  gatefold::add_texts(app, "--fashion-mnist", a.fashion_mnist,
                      "folder of the four idx .gz files, if not Debian's package");
  if (!gatefold::parse_command_line(app, "train_clip", argc, argv)) return std::nullopt;
  for (const auto& folder : experts)
    given.experts += (given.experts.empty() ? "" : std::string(1, kSeparator)) + folder;
  visit_settings(
      [&](const char* name, const auto& value, const auto& allowed, const char* help) {
        const auto option = training::option_name(name);
        if (std::string_view(name) == "stage" || !app.count(option)) return;
        training::ExpectRanges{}(name, value, allowed, help);
        a.given[name] = value;
      },
      given);
  training::visit_loop_options(training::ExpectRanges{}, a.loop);
  visit_controls(training::ExpectRanges{}, a);
  if (a.loaders < 0 || a.loaders > 256)
    throw gatefold::UsageError("--loaders is " + to_text(a.loaders) + ", expected 0..256");
  if (!a.resume.empty()) {
    std::erase_if(names, [&](const std::string& name) { return app.get_option_no_throw(name) == nullptr; });
    training::expect_none_with_resume(app, names);
    a.out = a.resume;
  } else {
    for (const auto* stage : {"base", "tune", "mcl", "upcycle", "router"}) {
      if (a.stage != "all" && a.stage != stage) continue;
      const auto settings = settings_of(stage, a.given);
      if (const auto why = contradiction(settings, training::option_name); !why.empty())
        throw gatefold::UsageError(why);
      const bool needs_model = a.stage == "tune" || a.stage == "mcl" || a.stage == "upcycle" || a.stage == "router";
      if (needs_model && settings.model.empty())
        throw gatefold::UsageError("--stage " + a.stage + " needs --model, the folder of what it begins with");
    }
    if (a.stage == "all" && a.given.contains("train"))
      throw gatefold::UsageError("--train does not go with --stage all, whose stages each train what is theirs");
  }
  if (a.loop.minutes > 0 && a.stage == "all")
    throw gatefold::UsageError("--minutes goes with one stage; give --steps, which is of each");
  return a;
}

}  // namespace train_clip
