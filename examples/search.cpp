// Finds photographs by words, with a CLIP: an index of a folder, questions to it, and how good the answers are. See
// --help.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>

#include "program.hpp"
#include "search/captions.hpp"
#include "search/photo_index.hpp"
#include "search/recall.hpp"
#include "zero_shot/terminal.hpp"

namespace {

using namespace search;
using zero_shot::printable;

struct Arguments {
  fs::path folder, model, index, captions;
  std::vector<std::string> queries;
  std::string format = "fp32", sentence = "{}";
  Index top = 10, batch = 32;
  int threads = 0;
  bool json = false;
};

zero_shot::ClipModel open(const Arguments& a, const gatefold::Context& ctx) {
  return zero_shot::open_clip(a.model, {.format = a.format, .parallel_for = ctx.parallel_for});
}

int make_index(const Arguments& a, gatefold::Context& ctx) {
  auto path = a.index;
  if (path.empty()) {
    // As it was named, and not where a link leads: that is what query is then told.
    auto folder = a.folder.lexically_normal();
    if (!folder.has_filename()) folder = folder.parent_path();
    if (folder.filename() == "." || folder.filename() == "..") folder = fs::weakly_canonical(folder);
    path = folder.string() + ".index.safetensors";
  }
  std::optional<PhotoIndex> old;
  if (fs::exists(path)) old = read_index(path);  // what is no index is not overwritten
  const auto update = update_index(a.folder, open(a, ctx), old, {.batch = a.batch}, ctx);
  for (const auto& fault : update.faults) std::cerr << "search: " << printable(fault) << "\n";
  write_index(update.index, path);
  std::printf("%zu photographs in %s: %td embedded, %td as they were, %td gone, %zu cannot be read\n",
              update.index.entries.size(), printable(path.string()).c_str(), update.embedded, update.kept, update.gone,
              update.faults.size());
  return update.faults.empty() ? 0 : 1;
}

int query(const Arguments& a, gatefold::Context& ctx) {
  const auto index = read_index(a.index);
  const auto clip = open(a, ctx);
  if (index.model != clip.identity || index.z.extent(1) != clip.options.embedding)
    throw gatefold::FormatError(a.index.string() + ": was made with another model; run search index " + index.folder +
                                " --model " + a.model.string() + " --out " + a.index.string());
  std::vector<std::string> texts;
  for (const auto& words : a.queries) texts.push_back(zero_shot::fill_template(a.sentence, words));
  const auto z = zero_shot::embed_texts(clip, texts, {.batch = a.batch}, ctx);
  auto json = nlohmann::ordered_json::array();
  for (std::size_t q = 0; q < a.queries.size(); ++q) {
    const auto hits = best(index, z.view()[static_cast<Index>(q)], a.top);
    if (a.json) {
      nlohmann::ordered_json answer{{"query", a.queries[q]}, {"photos", nlohmann::ordered_json::array()}};
      for (const Hit& hit : hits)
        answer["photos"].push_back(nlohmann::ordered_json{{"path", index.path_of(hit.photo)}, {"cosine", hit.cosine}});
      json.push_back(std::move(answer));
      continue;
    }
    if (a.queries.size() > 1) std::cout << (q ? "\n" : "") << printable(a.queries[q]) << "\n";
    for (const Hit& hit : hits) {
      std::array<char, 16> cosine{};
      std::snprintf(cosine.data(), cosine.size(), "%7.4f", hit.cosine);
      // Cosines of photographs and texts lie in a narrow range, so the bar is of what they are above the worst shown.
      const double worst = hits.back().cosine, span = hits.front().cosine - worst;
      const double share = span > 0 ? 0.1 + 0.9 * (hit.cosine - worst) / span : 1;
      std::cout << cosine.data() << "  " << zero_shot::in_columns(zero_shot::bar(share, 12), 12) << "  "
                << printable(index.path_of(hit.photo)) << "\n";
    }
  }
  if (a.json) std::cout << json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  return 0;
}

/// Some questions at a time, so that many photographs and captions fit into memory. // [Q, P], [A, P]
Recall recall(const gatefold::Tensor<float, 2>& questions, const gatefold::Tensor<float, 2>& answers,
              const std::function<bool(Index, Index)>& right, gatefold::Context& ctx) {
  constexpr Index kAtOnce = 256;
  gatefold::Tensor<float, 2> similarity({std::min(kAtOnce, questions.extent(0)), answers.extent(0)});
  Recall recall;
  for (Index first = 0; first < questions.extent(0); first += kAtOnce) {
    const Index end = std::min(first + kAtOnce, questions.extent(0));
    const auto here = similarity.view().rows(0, end - first);
    gatefold::kernels::matmul<float>(questions.view().rows(first, end), answers.view(), here, ctx);
    recall.add(here, first, right);
  }
  return recall;
}

int evaluate(const Arguments& a, gatefold::Context& ctx) {
  const auto captions = read_captions(a.captions);
  const auto clip = open(a, ctx);
  const auto photos = zero_shot::embed_photos(clip, captions.photos, {.batch = a.batch}, ctx);
  for (const auto& fault : photos.faults)
    if (!fault.empty()) throw gatefold::FormatError(fault);  // without it the figures would be of another set
  const auto texts = zero_shot::embed_texts(clip, captions.texts, {.batch = a.batch}, ctx);
  const auto& of = captions.photo_of;
  const auto image_to_text = recall(
      photos.z, texts, [&](Index q, Index t) { return of[static_cast<std::size_t>(t)] == q; }, ctx);
  const auto text_to_image = recall(
      texts, photos.z, [&](Index q, Index i) { return of[static_cast<std::size_t>(q)] == i; }, ctx);
  if (a.json) {
    const auto as_json = [](const Recall& r) {
      return nlohmann::ordered_json{
          {"n", r.questions()}, {"recall@1", r.percent(0)}, {"recall@5", r.percent(1)}, {"recall@10", r.percent(2)}};
    };
    const nlohmann::ordered_json json{
        {"format", a.format}, {"image_to_text", as_json(image_to_text)}, {"text_to_image", as_json(text_to_image)}};
    std::cout << json.dump(2) << "\n";
    return 0;
  }
  std::printf("%-16s%10s%10s%10s%8s\n", "recall, %", "@1", "@5", "@10", "n");
  for (const auto& [name, r] : {std::pair("image to text", image_to_text), {"text to image", text_to_image}})
    std::printf("%-16s%10.1f%10.1f%10.1f%8td\n", name, r.percent(0), r.percent(1), r.percent(2), r.questions());
  return 0;
}

int run_main(int argc, char** argv) {
  Arguments a;
  CLI::App app(
      "Finds photographs by words, with a CLIP.\n"
      "Examples:\n"
      "  hf download openai/clip-vit-base-patch32 --revision refs/pr/15 --local-dir clip\n"
      "  search index holiday --model clip                                  writes holiday.index.safetensors\n"
      "  search query \"a red car\" --index holiday.index.safetensors --model clip\n"
      "  search eval captions.tsv --model clip                              recall@1, 5 and 10\n");
  app.require_subcommand(1);
  const auto add_common = [&](CLI::App* command) {
    command->add_option("--model", a.model, "a CLIP: its folder, or a .safetensors beside its tokenizer")->required();
    command->add_option("--format", a.format, "what the weights are packed as")
        ->capture_default_str()
        ->check(CLI::IsMember(zero_shot::clip_formats()));
    command->add_option("--batch", a.batch, "photographs at once")->capture_default_str()->check(CLI::Range(1, 1024));
    command->add_option("--threads", a.threads, "0: as many as OpenMP takes")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
  };
  auto* index = app.add_subcommand("index", "embed a folder's photographs; what has not changed since is kept");
  index->add_option("folder", a.folder, "PNG and JPEG files, also in folders below")->required();
  index->add_option("--out", a.index, "the index; without it FOLDER.index.safetensors");
  add_common(index);
  auto* ask = app.add_subcommand("query", "the photographs that are nearest to some words");
  ask->add_option("words", a.queries, "one text, or several")->required();
  ask->add_option("--index", a.index, "of search index")->required();
  ask->add_option("--top", a.top, "photographs to show")->capture_default_str()->check(CLI::Range(1, 100'000));
  ask->add_option("--template", a.sentence, "a sentence that the words stand in as {}")->capture_default_str();
  ask->add_flag("--json", a.json, "print JSON");
  add_common(ask);
  auto* eval = app.add_subcommand("eval", "how often the right caption and the right photograph are found");
  eval->add_option("captions", a.captions,
                   "lines of a photograph's path, a tab and its caption, or a .json list of image and caption")
      ->required();
  eval->add_flag("--json", a.json, "print JSON");
  add_common(eval);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e);
  }
  if (a.sentence.find("{}") == std::string::npos)
    throw gatefold::FormatError("--template «" + a.sentence + "» has no place for the words, expected {} in it");
  gatefold::Context ctx{.parallel_for = gatefold::default_parallel_for(a.threads)};
  return index->parsed() ? make_index(a, ctx) : ask->parsed() ? query(a, ctx) : evaluate(a, ctx);
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("search", run_main, argc, argv); }
