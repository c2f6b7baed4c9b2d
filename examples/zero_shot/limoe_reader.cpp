#include "zero_shot/limoe_reader.hpp"

#include "gatefold/module/ops.hpp"
#include "wardrobe/feed.hpp"
#include "zero_shot/model_kind.hpp"

namespace zero_shot {

Reader open_model(const std::filesystem::path& path, gatefold::Context& ctx, const std::string& format) {
  constexpr double kMost = 1e-3;  // other kernels round otherwise (1e-6); what is broken is off by 1
  const auto refuse = [&](const std::string& why) -> void {
    throw gatefold::FormatError(
        (why.starts_with(path.string()) ? "" : path.string() + ": ") + why +
        "; the file is damaged or is no model: fetch it again, train one (train_limoe --minutes 5 "
        "--out run, then --model run/model.safetensors), or name the folder of a CLIP");
  };
  if (!std::filesystem::exists(path))
    throw gatefold::FormatError(
        "no model at " + path.string() +
        ": name one with --model FILE, or train one (train_limoe --minutes 5 --out run, then "
        "--model run/model.safetensors), or get a CLIP (hf download "
        "openai/clip-vit-base-patch32 --revision refs/pr/15 --local-dir clip, then --model clip)");
  expect_model(path);
  std::optional<gatefold::LimoeFile> file;
  double deviation = 0;
  try {
    file.emplace(gatefold::load_limoe(path));
    deviation = gatefold::verify(*file, path, ctx);
  } catch (const std::exception& e) {
    refuse(e.what());
  }
  if (file->model.options.channels != 3) refuse("it is no model for colour pictures");
  if (!(deviation <= kMost)) {
    std::array<char, 32> shown{};
    std::snprintf(shown.data(), shown.size(), "%.1e", deviation);
    refuse(std::string("its self-check is off by ") + shown.data());
  }
  const auto trained = file->model.options.capacity;
  file->model.set_capacity({});
  auto packed = gatefold::pack_as(format, file->model);
  return {std::move(*file), std::move(packed), trained, deviation};
}

namespace {

/// Begin of part `i` of `n` nearly equal parts of `all`.
Index part(Index i, Index n, Index all) { return all * i / n; }

/// One batch through the model, with what its routers did.
struct Pass {
  gatefold::Tensor<float, 2> z_image, z_text;  // rows of length 1
  gatefold::RoutingReport report{gatefold::RoutingReport::Detail::tokens};
};
struct BatchOf {
  std::span<const Picture> pictures;
  std::span<const Label> labels;
};
Pass run(const Reader& reader, const BatchOf& batch, gatefold::Context& ctx) {
  const auto& o = reader.file.model.options;
  Pass pass{gatefold::Tensor<float, 2>({std::ssize(batch.pictures), o.embedding}),
            gatefold::Tensor<float, 2>({std::ssize(batch.labels), o.embedding}),
            gatefold::RoutingReport(gatefold::RoutingReport::Detail::tokens)};
  gatefold::Tensor<float, 4> images({std::ssize(batch.pictures), o.image_size, o.image_size, 3});
  float* out = images.data();
  for (const auto& picture : batch.pictures)
    for (const std::uint8_t value : picture.image.rgb) *out++ = static_cast<float>(value) / 127.5f - 1;
  wardrobe::Texts texts;
  for (const auto& label : batch.labels) texts.add(reader.file.vocabulary, label.text, o.max_text_tokens);
  const auto scope = ctx.workspace.scope();
  ctx.report = &pass.report;
  reader.model->forward({.images = images.view(), .ids = texts.ids_view(), .text_offset = texts.offset_view()},
                        pass.z_image, pass.z_text, ctx);
  ctx.report = nullptr;
  wardrobe::normalise_rows(pass.z_image);
  wardrobe::normalise_rows(pass.z_text);
  return pass;
}

/// What one sparse layer did in a batch, with a seat for everybody and with the seats of training.
struct LayerRecord {
  std::size_t at = 0;  ///< Which of the reading's layers.
  const gatefold::RoutingReport::Layer &open, &trained;
};

/// Deals the tokens of a layer out to the sequences they belong to, in the order of the batch.
void deal(const LayerRecord& layer, std::span<Picture> pictures, std::span<Label> labels, Index patches) {
  std::array<std::vector<Route>, 2> routes;
  for (std::size_t t = 0; t < layer.open.tokens.size(); ++t) {
    const auto& token = layer.open.tokens[t];
    const auto& then = layer.trained.tokens[t].choices;
    const bool dropped = std::none_of(then.begin(), then.end(), [](const auto& c) { return c.seated; });
    routes.at(static_cast<std::size_t>(token.modality))
        .push_back({token.choices.at(0).expert, token.choices.at(0).gate, dropped});
  }
  const auto deal_to = [&](Routes& to, std::vector<Route>& from, Index& at, Index count) {
    if (from.empty()) return;  // the layer of another tower
    to[layer.at].assign(from.begin() + at, from.begin() + at + count);
    at += count;
  };
  Index image_at = 0, text_at = 0;
  for (Picture& picture : pictures) deal_to(picture.routes, routes[gatefold::kImage], image_at, patches);
  for (Label& label : labels) deal_to(label.routes, routes[gatefold::kText], text_at, std::ssize(label.words));
}

void add(LayerUsage& sum, const LayerRecord& layer) {
  sum.num_experts = layer.open.num_experts;
  for (std::size_t m = 0; m < 2; ++m) {
    Usage& to = sum.modalities[m];
    to.requests.resize(static_cast<std::size_t>(sum.num_experts));
    to.probability.resize(to.requests.size());
    if (m >= layer.open.modalities.size() || m >= layer.trained.modalities.size()) continue;
    const auto &from = layer.open.modalities[m], &trained = layer.trained.modalities[m];
    to.tokens += from.tokens;
    for (std::size_t e = 0; e < from.requests.size(); ++e) {
      to.requests[e] += from.requests[e], to.probability[e] += from.probability[e];
      to.requests_trained += trained.requests[e], to.seated_trained += trained.seated[e];
    }
  }
}

}  // namespace

Label make_label(const std::string& text, const Reader& reader) {
  const auto& vocabulary = reader.file.vocabulary;
  const auto most = reader.file.model.options.max_text_tokens;
  const auto ids = vocabulary.encode(text, most);
  return {text, wardrobe::seen_in_training(text), vocabulary.words(ids), {}, vocabulary.encode(text, most + 1) != ids};
}

void read(Reading& reading, Reader& reader, gatefold::Context& ctx) {
  const auto& model = reader.file.model;
  const auto& o = model.options;
  const Index pictures = std::ssize(reading.pictures), labels = std::ssize(reading.labels);
  const auto sparse = o.sparse.layers.size();
  const bool two_towers = o.towers == gatefold::LimoeOptions::Towers::two;
  reading.temperature = std::exp(double{model.log_temperature.flat()[0]});
  // Batches hold images and texts in equal shares, as they compete for the seats of training.
  const Index batches = std::max<Index>(1, std::max((pictures + 63) / 64, (labels + 255) / 256));
  gatefold::Tensor<float, 2> z_image({pictures, o.embedding}), z_text({labels, o.embedding});
  reading.layers.assign(sparse * (two_towers ? 2 : 1), {});
  for (std::size_t l = 0; l < reading.layers.size(); ++l) {
    const std::string tower = !two_towers ? "Block " : l < sparse ? "Image tower, block " : "Text tower, block ";
    reading.layers[l].block = o.sparse.layers[l % sparse];
    reading.layers[l].title =
        tower + std::to_string(reading.layers[l].block + 1) + " of " + std::to_string(o.num_layers);
  }
  for (Picture& picture : reading.pictures) picture.routes.assign(reading.layers.size(), {});
  for (Label& label : reading.labels) label.routes.assign(reading.layers.size(), {});
  for (Index b = 0; b < batches; ++b) {
    const Index first_picture = part(b, batches, pictures), end_picture = part(b + 1, batches, pictures);
    const Index first_label = part(b, batches, labels), end_label = part(b + 1, batches, labels);
    const auto own_pictures =
        std::span(reading.pictures)
            .subspan(static_cast<std::size_t>(first_picture), static_cast<std::size_t>(end_picture - first_picture));
    const auto own_labels =
        std::span(reading.labels)
            .subspan(static_cast<std::size_t>(first_label), static_cast<std::size_t>(end_label - first_label));
    const auto pass = run(reader, {own_pictures, own_labels}, ctx);
    std::copy_n(pass.z_image.data(), pass.z_image.size(), z_image.data() + first_picture * o.embedding);
    std::copy_n(pass.z_text.data(), pass.z_text.size(), z_text.data() + first_label * o.embedding);
    if (sparse == 0) continue;
    reader.model->set_capacity(reader.trained);
    const auto trained = run(reader, {own_pictures, own_labels}, ctx);
    reader.model->set_capacity({});
    // Of two towers the image's comes first, unless the batch had no image.
    const std::size_t shift = two_towers && own_pictures.empty() ? sparse : 0;
    for (std::size_t l = 0; l < pass.report.layers().size(); ++l) {
      const LayerRecord layer{l + shift, pass.report.layers()[l], trained.report.layers()[l]};
      deal(layer, own_pictures, own_labels, model.patches_per_image());
      add(reading.layers.at(layer.at), layer);
    }
  }
  for (Index i = 0; i < pictures; ++i) {
    Picture& picture = reading.pictures[static_cast<std::size_t>(i)];
    std::vector<double> cosines;
    for (const Index label : picture.choices) {
      double sum = 0;
      for (Index p = 0; p < o.embedding; ++p) sum += double{z_image.view()(i, p)} * double{z_text.view()(label, p)};
      cosines.push_back(sum);
    }
    picture.ranked = rank(picture.choices, cosines, reading.temperature);
  }
}

}  // namespace zero_shot
