#include "zero_shot/limoe_run.hpp"

#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "gatefold/image/decode.hpp"
#include "gatefold/module/ops.hpp"
#include "zero_shot/fit.hpp"
#include "zero_shot/json.hpp"
#include "zero_shot/limoe_page.hpp"
#include "zero_shot/print.hpp"
#include "zero_shot/samples.hpp"
#include "zero_shot/tell.hpp"

namespace zero_shot {
namespace {

/// The index of a label, which is added if it is new.
Index add_label(Reading& reading, const std::string& text, const Reader& reader) {
  const auto at =
      std::find_if(reading.labels.begin(), reading.labels.end(), [&](const Label& l) { return l.text == text; });
  const Index index = at - reading.labels.begin();
  if (at == reading.labels.end()) reading.labels.push_back(make_label(text, reader));
  return index;
}

/// Adds a picture, or says that it cannot be read, which is no reason to stop.
void add_picture(Reading& reading, Picture picture, const std::filesystem::path& path, const Arguments& a,
                 const Reader& reader) {
  try {
    picture.image =
        fit(gatefold::decode_image_file(path, {.max_pixels = a.max_pixels, .limit_name = "--max-megapixels"}),
            reader.file.model.options.image_size, a.centre ? Fit::centre : Fit::whole);
    reading.pictures.push_back(std::move(picture));
  } catch (const gatefold::OptionError& error) {  // of a picture that is too elongated for --crop
    reading.unread.push_back({picture.name, path.string() + ": " + error.what(), reading.pictures.size()});
  } catch (const std::exception& error) {
    reading.unread.push_back({picture.name, error.what(), reading.pictures.size()});
  }
}

Reading plan_samples(const Arguments& a, const Reader& reader) {
  Reading reading;
  const auto manifest = read_manifest(a.samples / "manifest.json");
  for (const Sample& sample : manifest.pictures) {
    Picture picture;
    picture.name = sample.file;
    for (const auto& label : manifest.label_sets.at(sample.label_set))
      picture.choices.push_back(add_label(reading, label, reader));
    picture.expected = add_label(reading, sample.expected, reader);
    add_picture(reading, std::move(picture), a.samples / sample.file, a, reader);
  }
  return reading;
}

Reading plan_own(const Arguments& a, const Reader& reader, LeftOut& left) {
  Reading reading;
  for (const auto& label : a.labels) reading.labels.push_back(make_label(label, reader));
  std::vector<Index> choices(a.labels.size());
  std::iota(choices.begin(), choices.end(), Index{0});
  for (const auto& path : find_photos(a.images, left)) {
    Picture picture;
    picture.name = path.string();
    picture.choices = choices;
    add_picture(reading, std::move(picture), path, a, reader);
  }
  return reading;
}

}  // namespace

int run_limoe(const Arguments& a, gatefold::Context& ctx) {
  const bool for_clip = !a.templates.empty() || !a.template_set.empty() || !a.cache.empty() || a.upcycle != 0 ||
                        a.multi_label || std::isfinite(a.threshold) || !a.packed.empty() || !a.activation.empty();
  Reader reader = open_model(a.model, ctx, a.format.empty() ? "fp32" : a.format);
  if (for_clip)
    throw gatefold::FormatError(
        "--template, --templates, --cache, --save-packed, --activation, --upcycle, --multi-label and --threshold are "
        "for a CLIP, but " +
        a.model.string() + " is a model of train_limoe");
  LeftOut left;
  Reading reading = a.images.empty() ? plan_samples(a, reader) : plan_own(a, reader, left);
  tell(left);
  if (!reading.pictures.empty())
    read(reading, reader, ctx);
  else
    reading.temperature = std::exp(double{reader.file.model.log_temperature.flat()[0]});
  const auto terminal = terminal_of(STDOUT_FILENO);
  if (a.json) {
    write_json(std::cout, reading, reader, a.json_top);
  } else if (a.jsonl) {
    write_json_lines(std::cout, reading, a.json_top);
  } else {
    const auto title = reader.file.card.find("title");
    std::array<char, 32> millions{};
    std::snprintf(millions.data(), millions.size(), "%.1f",
                  static_cast<double>(gatefold::count_params(reader.file.model)) / 1e6);
    std::cout << wrapped((title == reader.file.card.end() ? "A LIMoE" : printable(title->second)) + ", " +
                             millions.data() + " million parameters; the file's self-check holds.",
                         terminal.width)
              << "\n\n";
    print(std::cout, reading, {.terminal = terminal, .top = a.top});
  }
  for (const Unread& picture : reading.unread) tell(picture.fault);
  if (a.wants_report) {
    write_page(page_html(reading, page_model(reader, a.model.filename().string()), a.top), a.report);
  }
  return reading.unread.empty() && left.closed.empty() ? 0 : 1;
}

}  // namespace zero_shot
