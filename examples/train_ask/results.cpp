#include "train_ask/results.hpp"

#include <cstdio>

#include "gatefold/io/atomic_file.hpp"
#include "gatefold/models/vision_language_file.hpp"
#include "wardrobe/feed.hpp"

namespace train_ask {
namespace {

using wardrobe::Asks, wardrobe::kAsksCount, wardrobe::Proportion;

double chance(Asks asks) { return 1 / static_cast<double>(wardrobe::answers_to(asks).size()); }

std::string table(const Scores& never_seen, const Scores& seen) {
  std::string text =
      "| question | chance | never-seen combinations | n | seen combinations | n |\n|---|---|---|---|---|---|\n";
  Proportion all_never_seen, all_seen;
  double all_chance = 0;
  const auto add_row = [&](std::string_view title, double guess, const Proportion& a, const Proportion& b) {
    char row[160];
    std::snprintf(row, sizeof row, "| %s | %.1f | %.1f | %s | %.1f | %s |\n", std::string(title).c_str(), 100 * guess,
                  100 * a.value(), to_text(a.count).c_str(), 100 * b.value(), to_text(b.count).c_str());
    text += row;
  };
  for (std::size_t k = 0; k < never_seen.size(); ++k) {
    const auto asks = static_cast<Asks>(k);
    add_row(name_of(asks), chance(asks), never_seen[k], seen[k]);
    for (auto [all, one] : {std::pair(&all_never_seen, &never_seen[k]), {&all_seen, &seen[k]}})
      all->count += one->count, all->hits += one->hits;
    all_chance += chance(asks) / static_cast<double>(kAsksCount);
  }
  add_row("all", all_chance, all_never_seen, all_seen);
  return text;
}

}  // namespace

void publish(Run& run, const std::filesystem::path& path) {
  gatefold::Rng no_routers(0);  // every block is dense
  gatefold::VisionLanguageFile file{gatefold::with_depths(run.model, {}, {}, no_routers, run.ctx), run.vocabulary};
  file.card = {{"title", "Questions about the wardrobe world"},
               {"licence", "Apache-2.0"},
               {"data", "generated scenes and questions; garments from Fashion-MNIST (Zalando Research, MIT licence)"},
               {"seed", to_text(run.settings.seed)},
               {"questions", to_text(run.step() * run.settings.batch)},
               {"trained_by", "train_ask"},
               {"settings", to_json(run.settings)}};
  gatefold::save_vision_language(file, path, gatefold::Dtype::bf16);
}

Scores score(Run& run, Index count, wardrobe::Shown shown, const wardrobe::Photos& photos) {
  constexpr Index kBatch = 128;
  Scores scores;
  for (Index begin = 0; begin < count; begin += kBatch) {
    const auto scope = run.ctx.workspace.scope();
    const Index size = std::min(kBatch, count - begin);
    const auto asked =
        make_batch({run.settings.seed, static_cast<std::uint64_t>(begin)}, size, shown, photos, run.vocabulary);
    auto images = run.ctx.workspace.take<float>(size, wardrobe::kCanvasEdge, wardrobe::kCanvasEdge, 3);
    wardrobe::render_batch(asked.scenes, photos, images, run.ctx);
    const auto batch = asked.texts.batch<Model::Batch>(images);
    auto logits = run.ctx.workspace.take<float>(batch.num_answer_tokens(), run.model.options.vocabulary);
    (void)run.model.forward(batch, logits, run.ctx);
    const auto right = right_answers(logits, asked.texts);
    for (std::size_t i = 0; i < right.size(); ++i) {
      auto& of_kind = scores[static_cast<std::size_t>(asked.asks[i])];
      ++of_kind.count;
      of_kind.hits += right[i];
    }
  }
  return scores;
}

void evaluate(Run& run, Index count, const wardrobe::FashionMnist& data, const training::RunFolder& folder) {
  const auto never_seen = score(run, count, wardrobe::Shown::never_seen, data.test);
  const auto seen = score(run, count, wardrobe::Shown::seen, data.test);
  const auto text = table(never_seen, seen);
  std::fputs(text.c_str(), stdout);
  gatefold::write_file(folder / training::RunFolder::kReport, text);

  nlohmann::ordered_json summary;
  summary["steps"] = run.step();
  summary["seconds"] = training::seconds_of(run, folder);
  for (std::size_t k = 0; k < seen.size(); ++k) {
    const auto asks = static_cast<Asks>(k);
    summary["questions"].push_back({{"kind", name_of(asks)},
                                    {"chance", chance(asks)},
                                    {"n", never_seen[k].count},
                                    {"never_seen", never_seen[k].value()},
                                    {"seen", seen[k].value()}});
  }
  gatefold::write_file(folder / training::RunFolder::kSummary, summary.dump(1) + "\n");
}

}  // namespace train_ask
