// Says which of some labels fits a picture, with a small LIMoE, and shows what its experts did. See --help.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>

#include "gatefold/image/decode.hpp"
#include "zero_shot/fit.hpp"
#include "zero_shot/json.hpp"
#include "zero_shot/labels.hpp"
#include "zero_shot/page.hpp"
#include "zero_shot/print.hpp"
#include "zero_shot/samples.hpp"

// Where the model and the pictures are that come with this example; the build knows.
#ifndef GATEFOLD_EXAMPLES_DIR
#define GATEFOLD_EXAMPLES_DIR "examples"
#endif

namespace {

using namespace zero_shot;

struct Arguments {
  std::vector<std::filesystem::path> images;
  std::vector<std::string> labels;
  std::string labels_file, report;
  std::filesystem::path model = GATEFOLD_EXAMPLES_DIR "/models/wardrobe.safetensors";
  std::filesystem::path samples = GATEFOLD_EXAMPLES_DIR "/samples";
  std::string format = "fp32";
  Index top = 5;
  int threads = 0;
  bool json = false, centre = false, wants_report = false;
};

Arguments parse(int argc, char** argv) {
  Arguments a;
  CLI::App app(
      "Says which of some labels fits a picture (zero-shot classification), with a small LIMoE.\n"
      "Examples:\n"
      "  zero_shot                                          the pictures that come with it\n"
      "  zero_shot --report                                 the same, and report.html on what the experts did\n"
      "  zero_shot boot.jpg --labels \"a red boot\" \"a bag\"   your own picture and labels\n"
      "  zero_shot *.png --labels-file my.txt --json        many pictures, labels from a file, for programs\n");
  app.add_option("pictures", a.images, "PNG or JPEG files; without any, the samples");
  app.add_option("--labels", a.labels, "what to choose among: --labels \"a red dress\" \"a blue bag\"");
  app.add_option("--labels-file", a.labels_file, "the same from a file with one label a line; - is standard input");
  app.add_option("--model", a.model, "a model of train_limoe")->capture_default_str();
  std::vector<std::string> formats;
  for (const auto& [name, pack] : gatefold::packed_formats()) formats.push_back(name);
  app.add_option("--format", a.format, "what the weights are packed as: fewer bits are faster and less exact")
      ->capture_default_str()
      ->check(CLI::IsMember(formats));
  app.add_option("--samples", a.samples, "folder of the samples, made by make_samples")->capture_default_str();
  app.add_option("--top", a.top, "labels to show of each picture; the right one is shown in any case")
      ->capture_default_str()
      ->check(CLI::Range(1, 10'000));
  const auto* report =
      app.add_option("--report", a.report, "write a page with pictures: FILE.html, without a name report.html")
          ->expected(0, 1);
  app.add_flag("--json", a.json, "print JSON, with all labels");
  app.add_flag("--crop", a.centre,
               "use the square in the middle of a picture. Otherwise all of it is used, and its missing sides are "
               "filled with the mean colour of its border. Either way it is brought to the model's size by "
               "antialiased bicubic resampling");
  app.add_option("--threads", a.threads, "0: as many as OpenMP takes")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
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

std::vector<std::string> all_labels(const Arguments& a) {
  auto labels = a.labels;
  if (!a.labels_file.empty()) {
    const auto more = a.labels_file == "-" ? read_labels(std::cin, "standard input")
                                           : read_labels(std::filesystem::path(a.labels_file));
    labels.insert(labels.end(), more.begin(), more.end());
  }
  return without_repeats(labels);
}

/// The index of a label, which is added if it is new.
Index add_label(Reading& reading, const std::string& text, const Reader& reader) {
  const auto at =
      std::find_if(reading.labels.begin(), reading.labels.end(), [&](const Label& l) { return l.text == text; });
  const Index index = at - reading.labels.begin();
  if (at == reading.labels.end()) reading.labels.push_back(make_label(text, reader));
  return index;
}

gatefold::Image load(const std::filesystem::path& path, const Arguments& a, const Reader& reader) {
  if (!std::filesystem::exists(path)) {
    const bool sentence = path.string().find(' ') != std::string::npos && !path.has_extension();
    throw gatefold::FormatError("no picture at " + path.string() +
                                (sentence ? "; is this a label? Labels come behind --labels" : "; is the name right?"));
  }
  return fit(gatefold::decode_image_file(path), reader.file.model.options.image_size,
             a.centre ? Fit::centre : Fit::whole);
}

Reading plan_samples(const Arguments& a, const Reader& reader) {
  Reading reading;
  const auto manifest = read_manifest(a.samples / "manifest.json");
  for (const Sample& sample : manifest.pictures) {
    Picture picture;
    picture.name = sample.file;
    picture.image = load(a.samples / sample.file, a, reader);
    for (const auto& label : manifest.label_sets.at(sample.label_set))
      picture.choices.push_back(add_label(reading, label, reader));
    picture.expected = add_label(reading, sample.expected, reader);
    reading.pictures.push_back(std::move(picture));
  }
  return reading;
}

Reading plan_own(const Arguments& a, const std::vector<std::string>& labels, const Reader& reader) {
  Reading reading;
  for (const auto& label : labels) reading.labels.push_back(make_label(label, reader));
  std::vector<Index> choices(labels.size());
  std::iota(choices.begin(), choices.end(), Index{0});
  for (const auto& path : a.images) {
    Picture picture;
    picture.name = path.string();
    picture.image = load(path, a, reader);
    picture.choices = choices;
    reading.pictures.push_back(std::move(picture));
  }
  return reading;
}

int run_main(int argc, char** argv) {
  const Arguments a = parse(argc, argv);
  const auto labels = all_labels(a);
  const bool asked_for_labels = !a.labels.empty() || !a.labels_file.empty();
  if (a.images.empty() && asked_for_labels)
    throw gatefold::FormatError("labels, but no pictures: zero_shot PICTURE... --labels LABEL...");
  if (!a.images.empty() && labels.empty())
    throw gatefold::FormatError(
        "no labels to choose among: add --labels \"a red dress\" \"a blue bag\", or --labels-file "
        "FILE with one label a line");
  gatefold::Context ctx;
#ifdef _OPENMP
  if (a.threads > 0) ctx.parallel_for = gatefold::openmp(a.threads);
#endif
  Reader reader = open_model(a.model, ctx, a.format);
  Reading reading = a.images.empty() ? plan_samples(a, reader) : plan_own(a, labels, reader);
  read(reading, reader, ctx);

  if (a.json) {
    std::cout << to_json(reading, reader);
  } else {
    const bool colour = ::isatty(STDOUT_FILENO) && !std::getenv("NO_COLOR");
    const auto title = reader.file.card.find("title");
    std::printf("%s, %.1f million parameters; the file's self-check holds.\n\n",
                title == reader.file.card.end() ? "A LIMoE" : printable(title->second).c_str(),
                static_cast<double>(gatefold::count_params(reader.file.model)) / 1e6);
    std::fflush(stdout);
    print(std::cout, reading,
          {.style = colour ? PrintOptions::Style::colour : PrintOptions::Style::plain, .top = a.top});
  }
  if (a.wants_report) {
    write_page(Page(reading, reader, {.model_name = a.model.filename().string(), .top = a.top}).html(), a.report);
    std::cerr << "\nThe report is in " << a.report << "; any browser shows it.\n";
  }
  std::cout.flush();
  if (!std::cout) throw gatefold::FormatError("the answers could not be written to standard output");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run_main(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "zero_shot: %s\n", e.what());
    return 1;
  }
}
