// Answers a question about a picture with a model of train_ask. See --help.
#include <cmath>
#include <cstdio>
#include <iostream>
#include <optional>
#include <set>

#include "command_line.hpp"
#include "gatefold/image/decode.hpp"
#include "gatefold/models/vision_language_file.hpp"
#include "wardrobe/asked_texts.hpp"
#include "wardrobe/questions.hpp"
#include "zero_shot/fit.hpp"
#include "zero_shot/json_stream.hpp"

namespace {

using gatefold::Context, gatefold::Index;

struct Arguments {
  std::filesystem::path picture, model = "ask-run";
  std::string question;
  int threads = 0;
  Index top = 3;
  bool json = false;
};

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments a;
  CLI::App app(
      "Answers a question about a picture of a garment or a shape, or of two, one above the other.\n"
      "Examples:\n"
      "  ask picture.png \"what colour is the bag?\" --model ask-run\n"
      "  ask picture.png \"what is below the star?\" --top 1\n"
      "  ask picture.png \"is the dress above the bag?\" --json\n"
      "train_ask makes a model. It is asked: what is this, what colour is the bag, what pattern has the bag, what "
      "colour is the background, what is above the bag, how many things are there, is the bag red, is there a bag.\n");
  gatefold::add_texts(app, "picture", a.picture, "a PNG or JPEG file")->required();
  gatefold::add_texts(app, "question", a.question, "in quotes, in words that the model knows")->required();
  gatefold::add_texts(app, "--model", a.model, "file or folder of train_ask; without it " + a.model.string());
  app.add_option("--top", a.top, "answers to show, 1 or more")->capture_default_str()->type_name("N");
  app.add_flag("--json", a.json, "for programs");
  gatefold::add_threads(app, a.threads);
  if (!gatefold::parse_command_line(app, "ask", argc, argv)) return std::nullopt;
  if (a.top < 1) throw gatefold::UsageError("--top is " + std::to_string(a.top) + ", expected 1 or more");
  return a;
}

gatefold::VisionLanguageFile load(std::filesystem::path path) {
  if (std::filesystem::is_directory(path)) path /= "model.safetensors";
  if (!std::filesystem::exists(path))
    throw gatefold::FormatError("there is no model " + path.string() +
                                "; name one with --model, or make one:\n  train_ask");
  return gatefold::load_vision_language(path);
}

/// Throws UsageError for a question that the model cannot have learnt to read.
void expect_known(const std::string& question, const gatefold::Vocabulary& vocabulary) {
  const auto words = gatefold::split_words(question), known = std::vector(vocabulary.words().begin(),  //
                                                                          vocabulary.words().end());
  if (words.empty()) throw gatefold::UsageError("the question has no words");
  for (const auto& word : words) {
    if (std::ranges::find(known, word) != known.end()) continue;
    std::string all;
    for (const auto& one : known) all += " " + one;
    throw gatefold::UsageError("the model does not know the word «" + word + "»; it knows" + all);
  }
}

/// The picture as the model sees it. // [1, S, S, 3]
gatefold::Tensor<float, 4> see(const std::filesystem::path& path, Index side) {
  const auto image = zero_shot::fit(gatefold::decode_image_file(path), side, zero_shot::Fit::whole);
  gatefold::Tensor<float, 4> seen({1, side, side, 3});
  std::ranges::transform(image.rgb, seen.data(),
                         [](std::uint8_t value) { return static_cast<float>(value) / 127.5f - 1; });
  return seen;
}

struct Reply {
  std::string text;
  double probability;
};

/// All answers of the world, the most probable first: of each the probability that the model says it, word for word,
/// and then ends.
template <class Model>
std::vector<Reply> answer(const Model& model, const gatefold::Vocabulary& vocabulary, const std::string& question,
                          const gatefold::Tensor<float, 4>& picture, Context& ctx) {
  std::set<std::string> answers;
  for (Index k = 0; k < wardrobe::kAsksCount; ++k) {
    const auto& of_kind = wardrobe::answers_to(static_cast<wardrobe::Asks>(k));
    answers.insert(of_kind.begin(), of_kind.end());
  }
  std::vector<Reply> replies;
  for (const auto& text : answers) {
    const auto scope = ctx.workspace.scope();
    wardrobe::AskedTexts texts;
    texts.add(vocabulary, question, text);
    const auto batch = texts.batch<typename Model::Batch>(picture);
    auto logits = ctx.workspace.take<float>(batch.num_answer_tokens(), model.options.vocabulary);
    auto log_probs = ctx.workspace.take<float>(logits.extent(0), logits.extent(1));
    (void)model.forward(batch, logits, ctx);
    gatefold::kernels::log_softmax_rows<float>(logits, log_probs, ctx);
    double sum = 0;
    const auto word = batch.answer_tokens(ctx.workspace);
    for (Index i = 0; i < word.extent(0); ++i) sum += static_cast<double>(log_probs(i, word[i]));
    replies.push_back({text, std::exp(sum)});
  }
  std::ranges::stable_sort(replies, [](const Reply& a, const Reply& b) { return a.probability > b.probability; });
  return replies;
}

int run_main(int argc, char** argv) {
  const auto args = parse(argc, argv);
  if (!args) return gatefold::kDone;
  const auto file = load(args->model);
  expect_known(args->question, file.vocabulary);
  const auto picture = see(args->picture, file.model.options.vision.image_size);
  Context ctx{.parallel_for = gatefold::default_parallel_for(args->threads)};
  auto replies = answer(file.model, file.vocabulary, args->question, picture, ctx);
  replies.resize(std::min(replies.size(), static_cast<std::size_t>(args->top)));
  if (args->json) {
    zero_shot::JsonStream json(std::cout);
    json.member("picture", args->picture.string());
    json.member("question", args->question);
    json.begin_list("answers");
    for (const auto& [text, probability] : replies) json.item({{"answer", text}, {"probability", probability}});
    json.end_list();
    json.end();
    return gatefold::kDone;
  }
  for (const auto& [text, probability] : replies) std::printf("%5.1f %%  %s\n", 100 * probability, text.c_str());
  return gatefold::kDone;
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("ask", run_main, argc, argv); }
