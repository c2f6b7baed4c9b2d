#include "compress/compress.hpp"
#include "compress/repair.hpp"
#include "gatefold/models/limoe_file.hpp"
#include "program.hpp"
#include "wardrobe/feed.hpp"

namespace compress {
namespace {

using gatefold::Limoe;
using gatefold::Tensor;

/// Batches of the wardrobe world that no training run sees: from this step on.
constexpr std::uint64_t kFirstStep = std::uint64_t{1} << 41;

class World {
 public:
  World(const gatefold::LimoeFile& file, const wardrobe::FashionMnist& data, const Arguments& args)
      : file_(file), data_(data), seed_(static_cast<std::uint64_t>(args.seed)) {}

  /// The pairs of a step, rendered; they live until the next.
  Pairs<Limoe<float>> pairs(std::uint64_t step, Index size, bool negatives, Context& ctx) {
    const auto batch = wardrobe::make_batch({seed_, kFirstStep + step, size}, data_.train);
    if (images_.extent(0) != size) images_ = Tensor<float, 4>({size, wardrobe::kCanvasEdge, wardrobe::kCanvasEdge, 3});
    wardrobe::render_batch(batch.scenes, data_.train, images_.view(), ctx);
    texts_ = {};
    const Index most = file_.model.options.max_text_tokens;
    for (const auto& caption : batch.captions) texts_.add(file_.vocabulary, caption.text, most);
    for (const auto& text : batch.extra_negatives)
      if (negatives) texts_.add(file_.vocabulary, text, most);
    if (negatives) left_out_ = wardrobe::true_pairs(batch);
    return {.batch = {.images = images_.view(), .ids = texts_.ids_view(), .text_offset = texts_.offset_view()},
            .images = size,
            .texts = texts_.size(),
            .left_out = negatives ? left_out_.view() : gatefold::View<const std::uint8_t, 2>()};
  }

 private:
  const gatefold::LimoeFile& file_;
  const wardrobe::FashionMnist& data_;
  std::uint64_t seed_;
  Tensor<float, 4> images_ = Tensor<float, 4>({0, 0, 0, 0});
  wardrobe::Texts texts_;
  Tensor<std::uint8_t, 2> left_out_ = Tensor<std::uint8_t, 2>({0, 0});
};

/// Throws FormatError for one that does not answer as it says.
gatefold::LimoeFile load(const std::filesystem::path& path, const Context& ctx) {
  auto file = gatefold::load_limoe(path);
  if (const double off = gatefold::verify(file, path, ctx); !(off < 1e-3))
    throw gatefold::FormatError(path.string() + ": its self-check is off by " + std::to_string(off) +
                                "; the file is damaged");
  return file;
}

void save(gatefold::LimoeFile file, const gatefold::Pruned& pruned, const Arguments& args, const Context& ctx,
          const gatefold::CheckpointReader& reader) {
  const auto rules = args.rules();
  for (const auto& weight : pruned.weights)
    for (const auto& rule : rules)
      if (gatefold::PathPattern(rule.weights).matches(weight.path)) {
        file.sparsity.emplace(weight.path, gatefold::to_text(rule.sparsity));
        break;
      }
  file.card["compressed_by"] = "compress --prune " + args.prune;
  const auto image = reader.read_tensor<float, 4>("probe.input.image");
  const auto ids = reader.read_tensor<std::int64_t, 1>("probe.input.ids");
  const std::vector<Index> words(ids.flat().begin(), ids.flat().end());
  gatefold::save_limoe(file, image.view(), {words.data(), {std::ssize(words)}}, args.out, gatefold::Dtype::bf16, ctx);
}

}  // namespace

void compress_limoe(const Arguments& args) {
  if (!args.calibrate.empty() || !args.repair.empty())
    throw gatefold::UsageError("--calibrate and --repair are for a CLIP; the wardrobe model draws its own pictures");
  if (std::filesystem::exists(args.out) && !args.overwrite)
    throw gatefold::UsageError(args.out.string() + " is there already; --overwrite replaces it");
  Context ctx{.parallel_for = gatefold::default_parallel_for(args.threads)};
  const auto data =
      args.fashion_mnist.empty() ? wardrobe::load_fashion_mnist() : wardrobe::load_fashion_mnist(args.fashion_mnist);
  auto file = load(args.model, ctx);
  const auto capacity = file.model.options.capacity;
  file.model.set_capacity({});  // as in use: what an expert sees does not depend on who came before
  // Their penalties are for routers that learn; these do not.
  for (auto& trunk : file.model.trunks)
    for_each_sparse(trunk, [](std::string_view, auto& sparse) { sparse.aux_scale = 0; });
  World world(file, data, args);

  const auto sets = wardrobe::evaluation_sets(data.test);
  std::vector<std::string> rows;
  std::vector<Score> scores;
  const auto evaluate = [&](const std::string& name, const Limoe<float>& model) {
    const auto all = wardrobe::evaluate(model, file.vocabulary, sets, data.test, ctx);
    scores.push_back({.name = name});
    rows.clear();
    for (const auto& row : all) {
      rows.push_back(row.title + ", top-1 %");
      scores.back().values.push_back(100 * row.top1.value());
    }
  };
  evaluate("dense", file.model);

  std::optional<Teacher<Limoe<float>>> teacher;
  if (!args.no_repair) teacher = gatefold::pack<gatefold::SharedWeight<float>>(file.model);
  const auto pruned = prune_model(
      file.model, args,
      [&](const Limoe<float>& model, Context& here) {
        const auto scope = here.workspace.scope();
        const auto pairs = world.pairs(0, args.samples, false, here);
        auto z_image = here.workspace.take<float>(pairs.images, model.options.embedding);
        auto z_text = here.workspace.take<float>(pairs.texts, model.options.embedding);
        (void)model.forward(pairs.batch, z_image, z_text, here);
      },
      ctx);
  print_sparsity(pruned);
  evaluate(args.prune + " " + args.pattern.front(), file.model);
  if (teacher) {
    const Index batch = args.batch ? args.batch : 256;
    const double scale = std::exp(double{file.model.log_temperature.flat()[0]});
    file.model = repaired<Limoe<float>>(
        *teacher, file.model, pruned.masks, args, scale,
        [&](Index step) { return world.pairs(static_cast<std::uint64_t>(step) + 1, batch, true, ctx); }, ctx);
    evaluate("repaired", file.model);
  }
  print_scores(rows, scores);
  file.model.set_capacity(capacity);
  save(file, pruned, args, ctx, gatefold::CheckpointReader(args.model));
  (void)load(args.out, ctx);
  std::printf("%s written\n", args.out.c_str());
  print_memory();
}

}  // namespace compress
