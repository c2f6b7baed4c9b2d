#include "train_limoe/results.hpp"

#include "gatefold/io/atomic_file.hpp"
#include "gatefold/io/json_file.hpp"
#include "packed_limoe/packed_limoe.hpp"
#include "wardrobe/feed.hpp"
#include "wardrobe/routing_table.hpp"

namespace train_limoe {

gatefold::LimoeFile load_verified(const std::filesystem::path& path, const Context& ctx) {
  auto file = gatefold::load_limoe(path);
  if (const double off = gatefold::verify(file, path, ctx); !(off < 1e-3))
    throw gatefold::FormatError(path.string() + ": its self-check is off by " + to_text(off) + "; the file is damaged");
  return file;
}

void publish(Run& run, const wardrobe::FashionMnist& data, const std::filesystem::path& path) {
  gatefold::LimoeFile file{run.model, run.vocabulary};
  file.card = {{"title", "LIMoE on the wardrobe world"},
               {"licence", "Apache-2.0"},
               {"data", "generated scenes and captions; garments from Fashion-MNIST (Zalando Research, MIT licence)"},
               {"seed", to_text(run.settings.seed)},
               {"pairs", to_text(run.step * run.settings.batch)},
               {"trained_by", "train_limoe"},
               {"settings", to_json(run.settings)}};
  wardrobe::Texts text;
  text.add(run.vocabulary, "a photo of a red dress", run.model.options.max_text_tokens);
  Tensor<float, 4> image({1, wardrobe::kCanvasEdge, wardrobe::kCanvasEdge, 3});
  const auto sample = wardrobe::make_sample({run.settings.seed, 0}, data.test);
  wardrobe::render_batch(std::span(&sample.scene, 1), data.test, image, run.ctx);
  auto unverified = path;
  unverified += ".unverified";
  gatefold::save_limoe(file, image.view(), text.ids_view(), unverified, gatefold::Dtype::bf16, run.ctx);
  try {
    (void)load_verified(unverified, run.ctx);
  } catch (...) {
    std::filesystem::remove(unverified);
    throw;
  }
  gatefold::replace_file(unverified, path);
}

gatefold::RoutingReport observe_routing(Run& run, const wardrobe::Photos& photos) {
  constexpr std::uint64_t kFirstStep = std::uint64_t{1} << 40;  // no training run gets there
  gatefold::RoutingReport report;
  run.ctx.report = &report;
  Tensor<float, 4> images({256, wardrobe::kCanvasEdge, wardrobe::kCanvasEdge, 3});
  Tensor<float, 2> z_image({256, run.settings.embedding}), z_text({256, run.settings.embedding});
  for (std::uint64_t i = 0; i < 8; ++i) {
    const auto batch = wardrobe::make_batch({run.settings.seed, kFirstStep + i, 256}, photos, run.settings.world);
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

void evaluate(Run& run, const wardrobe::FashionMnist& data, const training::RunFolder& folder) {
  run.ctx.rng = nullptr;
  const auto report = observe_routing(run, data.test);
  // For use nobody is turned away, so an embedding does not depend on what else is in its batch.
  const auto trained = run.model.options.capacity;
  run.model.set_capacity({});
  const auto sets = wardrobe::evaluation_sets(data.test);
  const auto rows = wardrobe::evaluate(run.model, run.vocabulary, sets, data.test, run.ctx);
  run.model.set_capacity(trained);
  const std::string text = wardrobe::markdown_table(rows) + "\n" + wardrobe::routing_table(report);
  std::fputs(text.c_str(), stdout);
  gatefold::write_file(folder / training::RunFolder::kReport, text);

  nlohmann::ordered_json summary;
  for (const auto& row : rows)
    summary["tests"].push_back({{"title", row.title}, {"n", row.top1.count}, {"top1", row.top1.value()}});
  const auto usage = wardrobe::mean_usage(report);
  for (std::size_t m = 0; m < usage.size() && !report.layers().empty(); ++m)
    summary["routing"].push_back({{"success", usage[m].success}, {"experts", usage[m].experts}});
  gatefold::write_file(folder / training::RunFolder::kSummary, summary.dump(1) + "\n");
}

void evaluate_file(const Arguments& args) {
  const auto data = wardrobe::load_fashion_mnist(args.fashion_mnist);
  Context ctx;
  auto file = load_verified(args.evaluate, ctx);
  file.model.set_capacity({});
  const auto score = [&](const auto& model) {
    return wardrobe::evaluate(model, file.vocabulary, wardrobe::evaluation_sets(data.test), data.test, ctx);
  };
  const auto rows = args.format == "none" ? score(file.model) : score(*gatefold::pack_as(args.format, file.model));
  std::fputs(wardrobe::markdown_table(rows).c_str(), stdout);
}

}  // namespace train_limoe
