#include "compress/arguments.hpp"

#include "command_line.hpp"

namespace compress {
namespace {

/// The weights of attention and of feed-forward nets, in every block of every tower.
constexpr const char* kWeights[] = {"*blocks.*.qkv.weight", "*blocks.*.out.weight", "*blocks.*.up.weight",
                                    "*blocks.*.down.weight"};

}  // namespace

std::vector<gatefold::PruneRule> Arguments::rules() const {
  std::vector<gatefold::PruneRule> rules;
  const auto scope = prune == "magnitude" || prune == "sparsegpt" ? gatefold::Scope::tensor : gatefold::Scope::row;
  for (const auto& text : pattern) {
    const auto at = text.rfind('=');
    const auto sparsity = gatefold::sparsity_of(text.substr(at == text.npos ? 0 : at + 1), scope);
    if (at != text.npos) {
      rules.push_back({text.substr(0, at), sparsity});
      continue;
    }
    for (const char* weights : kWeights) rules.push_back({weights, sparsity});
  }
  return rules;
}

std::vector<gatefold::LoraRule> Arguments::lora() const {
  std::vector<gatefold::LoraRule> rules;
  for (const char* weights : kWeights) rules.push_back({.weights = weights, .rank = rank, .alpha = alpha});
  return rules;
}

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments a;
  CLI::App app(
      "Prunes a model and repairs what that cost it, by adapters that are trained through the masks with the dense "
      "model as teacher.\n"
      "Examples:\n"
      "  compress --model limoe.safetensors --pattern 2:4 --out small.safetensors\n"
      "  compress --model clip --prune wanda --pattern 2:4 --calibrate photos/ --repair captions.tsv --out clip-2-4\n"
      "  compress --model clip --pattern \"vision*=2:4\" \"text*=50%\" --calibrate captions.tsv --out clip-small\n");
  gatefold::add_texts(app, "--model", a.model, "a CLIP (folder or .safetensors), or a model of train_limoe")
      ->required();
  gatefold::add_texts(app, "--out", a.out, "folder of the new CLIP, or file of the new wardrobe model")->required();
  app.add_option("--prune", a.prune, "by what weights are chosen")
      ->capture_default_str()
      ->check(CLI::IsMember({"magnitude", "wanda", "sparsegpt", "dsnot"}));
  gatefold::add_texts(app, "--pattern", a.pattern,
                      "2:4 (kept of each group of inputs) or 70% (that go); PATH=2:4 for some weights; without it 2:4");
  gatefold::add_texts(app, "--calibrate", a.calibrate,
                      "what activations are seen on: a folder of photographs, or captions as for --repair");
  app.add_option("--samples", a.samples, "of them")->capture_default_str()->check(CLI::Range(Index{1}, Index{100000}));
  gatefold::add_texts(app, "--repair", a.repair, "lines of photograph, tab, caption to repair a CLIP with");
  app.add_flag("--no-repair", a.no_repair, "of the wardrobe model, which draws its own pictures");
  app.add_option("--steps", a.steps, "of repair")->capture_default_str()->check(CLI::Range(Index{1}, Index{1000000}));
  app.add_option("--batch", a.batch, "pairs of a step; 0: 256 of the wardrobe world, 64 of photographs")
      ->capture_default_str()
      ->check(CLI::Range(Index{0}, Index{65536}));
  app.add_option("--lr", a.lr, "learning rate, which falls as a cosine")->capture_default_str();
  app.add_option("--distill", a.distill, "weight of the teacher, the rest is that of the captions")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--teacher", a.teacher, "compares: similarity of pictures and texts, or the embeddings of each tower")
      ->capture_default_str()
      ->check(CLI::IsMember({"similarity", "embeddings"}));
  app.add_option("--rank", a.rank, "of the adapters")->capture_default_str()->check(CLI::Range(Index{1}, Index{4096}));
  app.add_option("--alpha", a.alpha, "of the adapters")->capture_default_str();
  app.add_option("--seed", a.seed, "of samples, adapters and the order of pairs")->capture_default_str();
  gatefold::add_threads(app, a.threads);
  gatefold::add_texts(app, "--fashion-mnist", a.fashion_mnist,
                      "folder of the four idx .gz files, if not Debian's package");
  app.add_flag("--overwrite", a.overwrite, "replace what is at --out");
  if (!gatefold::parse_command_line(app, "compress", argc, argv)) return std::nullopt;
  if (a.pattern.empty()) a.pattern = {"2:4"};
  try {
    (void)a.rules();
  } catch (const gatefold::OptionError& error) {
    throw gatefold::UsageError(std::string("--pattern: ") + error.what());
  }
  return a;
}

}  // namespace compress
