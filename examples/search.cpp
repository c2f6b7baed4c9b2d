// Finds photographs by words, with a CLIP: an index of a folder, questions to it, and how good the answers are. See
// --help.
#include <cstdio>
#include <iostream>

#include "command_line.hpp"
#include "gatefold/products/matmul.hpp"
#include "search/captions.hpp"
#include "search/embeddings_out.hpp"
#include "search/photo_index.hpp"
#include "search/question.hpp"
#include "search/recall.hpp"
#include "stop_signals.hpp"
#include "zero_shot/arguments.hpp"
#include "zero_shot/cut_labels.hpp"
#include "zero_shot/model_kind.hpp"
#include "zero_shot/terminal.hpp"

namespace {

using namespace search;
using zero_shot::printable;

struct Arguments {
  fs::path folder, model, index, captions, embeddings;
  std::vector<std::string> queries;
  zero_shot::Arguments embed;  ///< What embed has in common with zero_shot.
  std::string format, activation, sentence = "{}";
  Index top = 10, batch = 32, megapixels = 0;
  double save_every = zero_shot::SaveOptions().every_seconds;
  int threads = 0;
  bool json = false;
};

/// On standard error, behind what standard output has had so far.
void say(const std::string& text) {
  std::fflush(stdout);
  std::cout.flush();
  std::cerr << gatefold::message("search: " + text);
}

/// Says what was left of a folder; true when all of it could be opened.
bool say(const zero_shot::LeftOut& left) {
  for (const auto& folder : left.closed) say("folder " + folder);
  if (const auto others = left.of_other_kinds(); !others.empty()) say("note: " + others);
  return left.closed.empty();
}

/// Says of which texts the model does not see the end, and returns which they are.
std::vector<bool> say_cut(const zero_shot::ClipModel& clip, std::span<const std::string> texts,
                          std::span<const std::string> templates, const std::string& what) {
  auto cut = zero_shot::cut_labels(clip.tokenizer, texts, templates);
  if (const auto words = zero_shot::words_of_cut(texts, cut, clip.options.context, what); !words.empty())
    say("note: " + words);
  return cut;
}

zero_shot::ClipModel open(const Arguments& a, const gatefold::Context& ctx, zero_shot::FileSums* sums = nullptr) {
  zero_shot::expect_model(a.model);
  zero_shot::OpenClipOptions how{.format = a.format, .sums = sums, .parallel_for = ctx.parallel_for};
  if (!a.activation.empty()) how.activation = zero_shot::clip_activations().at(a.activation);
  how.warn = [](const std::string& what) { say("note: " + what); };
  return zero_shot::open_clip(a.model, how);
}

zero_shot::EmbedOptions how_to_embed(const Arguments& a) {
  zero_shot::EmbedOptions how{.batch = a.batch};
  if (a.megapixels > 0) how.max_pixels = a.megapixels * 1'000'000;
  return how;
}

/// FOLDER.index.safetensors: as the folder was named, and not where a link leads, for that is what query is then told.
fs::path index_path(const fs::path& named) {
  auto folder = named.lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  if (folder.filename() == "." || folder.filename() == "..") folder = fs::weakly_canonical(folder);
  return folder.string() + ".index.safetensors";
}

int make_index(const Arguments& a, gatefold::Context& ctx) {
  const auto path = a.index.empty() ? index_path(a.folder) : a.index;
  IndexFile file(path);
  std::optional<PhotoIndex> old;
  try {
    if (fs::exists(path)) old = read_index(path);  // what is no index is not overwritten
  } catch (const DamagedIndex& damage) {
    say(std::string(damage.what()) + "; it is made anew");
  }
  zero_shot::expect_writable(path, "the index");
  auto sums = zero_shot::FileSums::kept_in(path);
  const auto clip = open(a, ctx, &sums);
  if (old && (old->model != clip.identity || old->format != clip.format))
    say(path.string() + " is of another model or --format and is made anew");
  const gatefold::StopSignals signals;
  const zero_shot::SaveOptions saving{.every_seconds = a.save_every, .stop = gatefold::StopSignals::came};
  const auto update = update_index(a.folder, clip, old, how_to_embed(a), ctx, saving,
                                   [&](const PhotoIndex& index) { file.write(index); });
  file.write(update.index);
  const bool all_seen = say(update.left);
  for (const auto& fault : update.faults) say(fault);
  std::printf("%zu photographs in %s: %td embedded, %td as they were, %td gone, %zu cannot be read",
              update.index.entries.size(), printable(path.string()).c_str(), update.embedded, update.kept, update.gone,
              update.faults.size());
  std::printf(update.not_seen ? ", %td not seen\n" : "\n", update.not_seen);
  if (update.stopped) {
    say("stopped; what was done is kept, and the same command goes on with it");
    return gatefold::StopSignals::exit_status();
  }
  return update.faults.empty() && all_seen ? 0 : 1;
}

/// One line for each photograph.
void print(const PhotoIndex& index, const std::vector<Hit>& hits) {
  for (const Hit& hit : hits) {
    std::array<char, 16> cosine{};
    std::snprintf(cosine.data(), cosine.size(), "%7.4f", hit.cosine);
    // Cosines of photographs and texts lie in a narrow range, so the bar is of what they are above the worst shown.
    const double worst = hits.back().cosine, span = hits.front().cosine - worst;
    const double share = span > 0 ? 0.1 + 0.9 * (hit.cosine - worst) / span : 1;
    std::cout << cosine.data() << "  " << zero_shot::in_columns(zero_shot::bar(share, 12), 12) << "  "
              << printable(index.path_of(hit.photo)) << (index.is_gone(hit.photo) ? "  (gone)" : "") << "\n";
  }
}

nlohmann::ordered_json to_json(const PhotoIndex& index, const std::vector<Hit>& hits) {
  auto photos = nlohmann::ordered_json::array();
  for (const Hit& hit : hits) {
    nlohmann::ordered_json photo{{"path", index.path_of(hit.photo)}, {"cosine", hit.cosine}};
    if (index.is_gone(hit.photo)) photo["gone"] = true;
    photos.push_back(std::move(photo));
  }
  return photos;
}

int query(const Arguments& a, gatefold::Context& ctx) {
  const auto questions = questions_of(a.queries);
  const auto index = read_index(a.index);
  auto sums = zero_shot::FileSums::kept_in(a.index);
  const auto clip = open(a, ctx, &sums);
  if (index.model != clip.identity || index.z.extent(1) != clip.options.embedding)
    throw gatefold::FormatError(a.index.string() + ": was made with another model; run search index " +
                                index.folder.string() + " --model " + a.model.string() + " --out " + a.index.string());
  std::vector<std::string> texts;
  std::vector<std::size_t> asked_by;  // [texts]
  for (std::size_t q = 0; q < questions.size(); ++q)
    for (const Term& term : questions[q].terms)
      if (!term.picture) texts.push_back(term.words), asked_by.push_back(q);
  const auto cut = say_cut(clip, texts, std::array{a.sentence}, "text");
  std::vector<bool> cut_question(questions.size());
  for (std::size_t i = 0; i < texts.size(); ++i)
    if (cut[i]) cut_question[asked_by[i]] = true;
  const auto z = embed_questions(clip, questions, a.sentence, how_to_embed(a), ctx);
  auto json = nlohmann::ordered_json::array();
  for (std::size_t q = 0; q < questions.size(); ++q) {
    const auto hits = best(index, z.view()[static_cast<Index>(q)], a.top);
    if (a.json) {
      json.push_back(nlohmann::ordered_json{
          {"query", questions[q].text()}, {"cut", bool{cut_question[q]}}, {"photos", to_json(index, hits)}});
      continue;
    }
    if (questions.size() > 1) std::cout << (q ? "\n" : "") << printable(questions[q].text()) << "\n";
    print(index, hits);
  }
  if (a.json) std::cout << json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  return 0;
}

int embed(const Arguments& a, gatefold::Context& ctx) {
  const bool npy = a.embeddings.extension() == ".npy";
  if (!npy && a.embeddings.extension() != ".safetensors")
    throw gatefold::FormatError("--out " + a.embeddings.string() +
                                ": expected a name that ends in .npy or .safetensors");
  const auto labels = zero_shot::all_labels(a.embed);
  if (labels.empty() && a.embed.images.empty())
    throw gatefold::FormatError("nothing to embed: name photographs or folders, or give --labels");
  const auto templates = zero_shot::templates_of(a.embed.templates, a.embed.template_set);
  std::vector<fs::path> photos;
  zero_shot::LeftOut left;
  if (!a.embed.images.empty()) photos = zero_shot::find_photos(a.embed.images, left);
  zero_shot::expect_writable(a.embeddings, "--out");
  if (npy) zero_shot::expect_writable(npy_names(a.embeddings), "--out");

  zero_shot::FileSums sums;
  const auto clip = open(a, ctx, &sums);
  Embeddings out;
  out.labels = labels;
  out.facts = {{"model", clip.identity}, {"format", clip.format}};
  say_cut(clip, labels, templates, "label");
  out.z_labels = zero_shot::embed_labels(clip, labels, templates, how_to_embed(a), ctx);
  auto found = zero_shot::embed_photos(clip, photos, how_to_embed(a), ctx);
  std::vector<Index> rows;
  bool whole = say(left);
  const auto refuse = [&](const std::string& why) {
    say(why);
    whole = false;
  };
  for (std::size_t i = 0; i < photos.size(); ++i) {
    const auto row = static_cast<Index>(i);
    if (!found.faults[i].empty()) {
      refuse(found.faults[i]);
    } else if (!zero_shot::is_unit(found.z.view()[row])) {
      refuse(photos[i].string() + ": the model makes no number of it; are its weights damaged?");
    } else {
      out.images.push_back(photos[i].string());
      rows.push_back(row);
    }
  }
  out.z_images = gatefold::Tensor<float, 2>({std::ssize(rows), clip.options.embedding});
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::copy_n(found.z.view()[rows[i]].data(), found.z.extent(1), out.z_images.view()[static_cast<Index>(i)].data());
  for (Index l = 0; l < out.z_labels.extent(0); ++l)
    if (!zero_shot::is_unit(out.z_labels.view()[l]))
      throw gatefold::FormatError("the model makes no number of the label «" + labels[static_cast<std::size_t>(l)] +
                                  "»; are its weights damaged?");
  npy ? write_npy(out, a.embeddings) : write_safetensors(out, a.embeddings);
  std::printf("%zu photographs and %zu labels in %s\n", out.images.size(), labels.size(),
              printable(a.embeddings.string()).c_str());
  return whole ? 0 : 1;
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
  const auto photos = zero_shot::embed_photos(clip, captions.photos, how_to_embed(a), ctx);
  for (const auto& fault : photos.faults)
    if (!fault.empty()) throw gatefold::FormatError(fault);  // without it the figures would be of another set
  const auto texts = zero_shot::embed_texts(clip, captions.texts, how_to_embed(a), ctx);
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
        {"format", clip.format}, {"image_to_text", as_json(image_to_text)}, {"text_to_image", as_json(text_to_image)}};
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
      "  search query photo.jpg + snow - people --index holiday.index.safetensors --model clip\n"
      "  search embed holiday --labels cat dog --out z.npy --model clip     for numpy\n"
      "  search eval captions.tsv --model clip                              recall@1, 5 and 10\n");
  app.require_subcommand(1);
  const auto add_common = [&](CLI::App* command) {
    gatefold::add_texts(
        *command, "--model", a.model,
        "a CLIP: its folder, or a .safetensors beside its tokenizer, or what zero_shot --save-packed made")
        ->required();
    command
        ->add_option("--format", a.format,
                     "what the weights are packed as; without it fp32, or as zero_shot --save-packed left them")
        ->check(CLI::IsMember(zero_shot::clip_formats()));
    command->add_option("--activation", a.activation, "of weights under open_clip's names that do not tell theirs")
        ->check(CLI::IsMember(zero_shot::clip_activations()));
    command->add_option("--batch", a.batch, "photographs at once")->capture_default_str()->check(CLI::Range(1, 1024));
    command
        ->add_option("--max-megapixels", a.megapixels,
                     "refuse pictures with more, 1 to 268; without it 89.5, where Pillow begins to warn")
        ->check(CLI::Range(Index{1}, gatefold::kMaxPixels / 1'000'000));
    gatefold::add_threads(*command, a.threads);
  };
  const std::string kinds = "files (" + std::string(gatefold::detail::kDecodable) + ")";
  auto* index = app.add_subcommand("index", "Embed a folder's photographs; what has not changed since is kept");
  gatefold::add_texts(*index, "folder", a.folder, kinds + " there and in folders below")->required();
  gatefold::add_texts(*index, "--out", a.index,
                      "the index; without it FOLDER.index.safetensors. It may be moved together with the folder");
  index
      ->add_option(
          "--save-every", a.save_every,
          "seconds between two times that the index is written while it is made; what was written is kept when "
          "the run is stopped, and the same command goes on with it")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 86400.0));
  add_common(index);
  auto* ask = app.add_subcommand("query", "The photographs that are nearest to some words or to another photograph");
  gatefold::add_texts(*ask, "words", a.queries,
                      "a text or a picture, or several questions. + and - that stand alone add and take away: beach + "
                      "sunset - people is one question, the sum of the three embeddings of length 1")
      ->required();
  gatefold::add_texts(*ask, "--index", a.index, "of search index")->required();
  ask->add_option("--top", a.top, "photographs to show")->capture_default_str()->check(CLI::Range(1, 100'000));
  gatefold::add_texts(*ask, "--template", a.sentence, "a sentence that the words stand in as {}; without it {}");
  ask->add_flag("--json", a.json, "print JSON");
  add_common(ask);
  auto* out =
      app.add_subcommand("embed", "What the model makes of photographs and labels, as a file for other programs");
  gatefold::add_texts(*out, "photos", a.embed.images, kinds + ", or folders of them");
  gatefold::add_texts(*out, "--labels", a.embed.labels, "texts to embed as well, each the mean of its sentences");
  gatefold::add_texts(*out, "--labels-file", a.embed.labels_file,
                      "the same from a text file (UTF-8) with one label a line; - is standard input");
  gatefold::add_texts(*out, "--template", a.embed.templates,
                      std::string("the sentence that a label stands in as {}; several are averaged. Without any: ") +
                          zero_shot::kDefaultTemplate);
  gatefold::add_texts(*out, "--templates", a.embed.template_set,
                      "imagenet: OpenAI's 80; or a file with one template a line");
  gatefold::add_texts(
      *out, "--out", a.embeddings,
      ".npy: one array of floats, photographs, then labels, and the names of its rows in FILE.npy.json; "
      ".safetensors: tensors images and labels, and the names in the metadata. Rows have length 1")
      ->required();
  add_common(out);
  auto* eval = app.add_subcommand("eval", "How often the right caption and the right photograph are found");
  gatefold::add_texts(*eval, "captions", a.captions,
                      "lines of a photograph's path, a tab and its caption, or a .json list of image and caption")
      ->required();
  eval->add_flag("--json", a.json, "print JSON");
  add_common(eval);
  if (!gatefold::parse_command_line(app, "search", argc, argv)) return gatefold::kDone;
  if (a.sentence.find("{}") == std::string::npos)
    throw gatefold::FormatError("--template «" + a.sentence + "» has no place for the words, expected {} in it");
  gatefold::Context ctx{.parallel_for = gatefold::default_parallel_for(a.threads)};
  if (index->parsed()) return make_index(a, ctx);
  if (ask->parsed()) return query(a, ctx);
  return out->parsed() ? embed(a, ctx) : evaluate(a, ctx);
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("search", run_main, argc, argv); }
