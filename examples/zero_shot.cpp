// Says which of some labels fits a picture, with a CLIP or with a small LIMoE, of which it shows what the experts did.
// See --help.
#include "command_line.hpp"
#include "gatefold/image/decode.hpp"
#include "zero_shot/clip_model.hpp"
#include "zero_shot/clip_run.hpp"
#include "zero_shot/clip_templates.hpp"
#include "zero_shot/limoe_run.hpp"
#include "zero_shot/model_kind.hpp"

// Where the model and the pictures are that come with this example; the build knows.
#ifndef GATEFOLD_EXAMPLES_DIR
#define GATEFOLD_EXAMPLES_DIR "examples"
#endif

namespace {

using namespace zero_shot;

/// False when all that was asked for was help.
bool parse(Arguments& a, int argc, char** argv) {
  a.model = GATEFOLD_EXAMPLES_DIR "/models/wardrobe.safetensors";
  a.samples = GATEFOLD_EXAMPLES_DIR "/samples";
  CLI::App app(
      "Says which of some labels fits a picture (zero-shot classification), with a CLIP or a small LIMoE.\n"
      "Examples:\n"
      "  zero_shot                                          the pictures that come with it\n"
      "  zero_shot --report                                 the same, and report.html on what the experts did\n"
      "  zero_shot boot.jpg --labels \"a red boot\" \"a bag\"   your own picture and labels\n"
      "  zero_shot *.png --labels-file my.txt --json        many pictures, labels from a file, for programs\n"
      "  zero_shot holiday/ --labels beach dog --model DIR  a folder of photographs, with a CLIP:\n"
      "      hf download openai/clip-vit-base-patch32 --revision refs/pr/15 --local-dir DIR\n"
      "  zero_shot holiday/ --labels beach dog --model DIR --upcycle 4 --report    the same as a mixture of experts\n");
  gatefold::add_texts(app, "pictures", a.images,
                      "files (" + std::string(gatefold::detail::kDecodable) +
                          "), or folders, of which all that are named so are taken; without any, the samples");
  gatefold::add_texts(app, "--labels", a.labels, "what to choose among: --labels \"a red dress\" \"a blue bag\"");
  gatefold::add_texts(app, "--labels-file", a.labels_file,
                      "the same from a text file (UTF-8) with one label a line; - is standard input. Empty lines are "
                      "skipped, and comments: lines that begin with # and a space (#selfie is a label)");
  gatefold::add_texts(app, "--model", a.model,
                      "a model of train_limoe, or a CLIP: its folder (Hugging Face's), or a .safetensors of OpenAI, "
                      "open_clip or CLIP-MoE with the tokenizer's files beside it. Without it, the small model that "
                      "comes with this program");
  app.add_option("--format", a.format,
                 "what the weights are packed as: fewer bits are faster and less exact. Without it fp32, or as "
                 "--save-packed left them")
      ->check(CLI::IsMember(clip_formats()));
  gatefold::add_texts(app, "--samples", a.samples, "folder of the samples, made by make_samples");
  const auto* top = app.add_option("--top", a.top,
                                   "labels to show of each picture; the right one is shown in any case. Of JSON, where "
                                   "without it all are shown, too")
                        ->capture_default_str()
                        ->check(CLI::Range(1, 10'000));
  const auto* report =
      gatefold::add_texts(
          app, "--report", a.report,
          "write a page with the pictures, and where there are experts, which took what: FILE.html, without "
          "a name report.html")
          ->expected(0, 1);
  auto* json = app.add_flag("--json", a.json, "print one JSON object, with the pictures in a list");
  app.add_flag("--jsonl", a.jsonl, "print JSON lines: an object for each picture, and nothing else")->excludes(json);
  Index megapixels = 0;
  app.add_option(
         "--max-megapixels", megapixels,
         "refuse pictures with more, 1 to 268; without it 89.5, where Pillow begins to warn. Decoding needs 12 "
         "bytes a pixel (23 of 16-bit files); all threads share an eighth of the machine's memory for it, but 1 "
         "GiB in any case, and wait for each other")
      ->check(CLI::Range(Index{1}, gatefold::kMaxPixels / 1'000'000));
  app.add_flag("--crop", a.centre,
               "use the square in the middle of a picture. Otherwise all of it is used, and its missing sides are "
               "filled with the mean colour of its border. Either way it is brought to the model's size by "
               "antialiased bicubic resampling (a CLIP crops the way it was trained)");
  gatefold::add_threads(app, a.threads);
  const std::string clip = "With a CLIP";
  gatefold::add_texts(
      app, "--template", a.templates,
      std::string("the sentence that a label stands in as {}; several are averaged. Without any: ") + kDefaultTemplate)
      ->group(clip);
  gatefold::add_texts(app, "--templates", a.template_set,
                      "imagenet: OpenAI's 80; or a file with one template a line, as for --labels-file")
      ->group(clip);
  gatefold::add_texts(
      app, "--cache", a.cache,
      "a file that keeps what the labels are for the next run; it is written every two minutes, and what "
      "a run that is stopped has done is kept")
      ->group(clip);
  gatefold::add_texts(
      app, "--save-packed", a.packed,
      "make a folder with the model as --format packs it, which --model can name from then on and which "
      "starts at once; pictures need not be given")
      ->group(clip);
  app.add_option("--activation", a.activation, "of weights under open_clip's names that do not tell theirs")
      ->check(CLI::IsMember(clip_activations()))
      ->group(clip);
  app.add_flag("--multi-label", a.multi_label,
               "any number of labels may be right: show the cosine of each instead of a probability among all")
      ->group(clip);
  app.add_option("--threshold", a.threshold,
                 "leave out labels whose probability, or with --multi-label whose cosine, is below it")
      ->check(CLI::Range(-1.0, 1.0))
      ->group(clip);
  app.add_option("--batch", a.batch, "photographs at once")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024))
      ->group(clip);
  app.add_option(
         "--upcycle", a.upcycle,
         "make each feed-forward net so many experts, two for each token, and print who went where (--report shows "
         "it); the answers stay as they are")
      ->check(CLI::Range(2, 64))
      ->group(clip);
  if (!gatefold::parse_command_line(app, "zero_shot", argc, argv)) return false;
  a.wants_report = report->count() > 0;
  if (top->count() > 0) a.json_top = a.top;
  if (megapixels > 0) a.max_pixels = megapixels * 1'000'000;
  if (a.report.empty()) a.report = "report.html";
  const auto extension = std::filesystem::path(a.report).extension();
  if (extension != ".html" && extension != ".htm")  // a picture behind --report must not be overwritten
    throw gatefold::FormatError("--report takes the name of a page, such as report.html, but got " + a.report +
                                "; give pictures before the options");
  return true;
}

int run_main(int argc, char** argv) {
  Arguments a;
  if (!parse(a, argc, argv)) return gatefold::kDone;
  a.labels = all_labels(a);
  for (const auto& doubt : doubts_about(a.labels)) std::cerr << gatefold::message("zero_shot: note: " + doubt);
  if (a.images.empty() && (!a.labels.empty() || !a.labels_file.empty()))
    throw gatefold::FormatError("labels, but no pictures: zero_shot PICTURE... --labels LABEL...");
  if (!a.images.empty() && a.labels.empty())
    throw gatefold::FormatError(
        "no labels to choose among: add --labels \"a red dress\" \"a blue bag\", or --labels-file "
        "FILE with one label a line");
  gatefold::Context ctx{.parallel_for = gatefold::default_parallel_for(a.threads)};
  const bool clip = is_clip(a.model);
  if (!clip && std::filesystem::is_directory(a.model)) a.model /= "model.safetensors";  // the folder of a training run
  return clip ? run_clip(a, ctx) : run_limoe(a, ctx);
}

}  // namespace

int main(int argc, char** argv) { return gatefold::run_program("zero_shot", run_main, argc, argv); }
