// Says which of some labels fits a picture, with a CLIP or with a small LIMoE, of which it shows what the experts did.
// See --help.
#include <CLI/CLI.hpp>

#include "program.hpp"
#include "zero_shot/clip_run.hpp"
#include "zero_shot/limoe_run.hpp"

// Where the model and the pictures are that come with this example; the build knows.
#ifndef GATEFOLD_EXAMPLES_DIR
#define GATEFOLD_EXAMPLES_DIR "examples"
#endif

namespace {

using namespace zero_shot;

Arguments parse(int argc, char** argv) {
  Arguments a;
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
  app.add_option("pictures", a.images,
                 "PNG or JPEG files, or folders, of which all png, jpg and jpeg are taken; without any, the samples");
  app.add_option("--labels", a.labels, "what to choose among: --labels \"a red dress\" \"a blue bag\"");
  app.add_option("--labels-file", a.labels_file, "the same from a file with one label a line; - is standard input");
  app.add_option("--model", a.model,
                 "a model of train_limoe, or a CLIP: its folder (Hugging Face's), or a .safetensors of OpenAI, "
                 "open_clip or CLIP-MoE with the tokenizer's files beside it")
      ->capture_default_str();
  app.add_option("--format", a.format, "what the weights are packed as: fewer bits are faster and less exact")
      ->capture_default_str()
      ->check(CLI::IsMember(clip_formats()));
  app.add_option("--samples", a.samples, "folder of the samples, made by make_samples")->capture_default_str();
  app.add_option("--top", a.top, "labels to show of each picture; the right one is shown in any case")
      ->capture_default_str()
      ->check(CLI::Range(1, 10'000));
  const auto* report =
      app.add_option("--report", a.report,
                     "write a page with the pictures, and where there are experts, which took what: FILE.html, without "
                     "a name report.html")
          ->expected(0, 1);
  app.add_flag("--json", a.json, "print JSON, with all labels");
  app.add_flag("--crop", a.centre,
               "use the square in the middle of a picture. Otherwise all of it is used, and its missing sides are "
               "filled with the mean colour of its border. Either way it is brought to the model's size by "
               "antialiased bicubic resampling (a CLIP crops the way it was trained)");
  app.add_option("--threads", a.threads, "0: as many as OpenMP takes")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  const std::string clip = "With a CLIP";
  app.add_option("--template", a.templates,
                 std::string("the sentence that a label stands in as {}; several are averaged. Without any: ") +
                     kDefaultTemplate)
      ->group(clip);
  app.add_option("--templates", a.template_set, "imagenet: OpenAI's 80; or a file with one template a line")
      ->group(clip);
  app.add_option("--cache", a.cache, "a file that keeps what the labels are for the next run")->group(clip);
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
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    std::exit(app.exit(e));
  }
  a.wants_report = report->count() > 0;
  if (a.report.empty()) a.report = "report.html";
  const auto extension = std::filesystem::path(a.report).extension();
  if (extension != ".html" && extension != ".htm")  // a picture behind --report must not be overwritten
    throw gatefold::FormatError("--report takes the name of a page, such as report.html, but got " + a.report +
                                "; give pictures before the options");
  return a;
}

int run_main(int argc, char** argv) {
  Arguments a = parse(argc, argv);
  a.labels = all_labels(a);
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
