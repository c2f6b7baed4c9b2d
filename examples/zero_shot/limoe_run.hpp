#pragma once
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "gatefold/image/decode.hpp"
#include "zero_shot/arguments.hpp"
#include "zero_shot/fit.hpp"
#include "zero_shot/json.hpp"
#include "zero_shot/limoe_page.hpp"
#include "zero_shot/print.hpp"
#include "zero_shot/samples.hpp"

namespace zero_shot {

namespace detail {

/// The index of a label, which is added if it is new.
inline Index add_label(Reading& reading, const std::string& text, const Reader& reader) {
  const auto at =
      std::find_if(reading.labels.begin(), reading.labels.end(), [&](const Label& l) { return l.text == text; });
  const Index index = at - reading.labels.begin();
  if (at == reading.labels.end()) reading.labels.push_back(make_label(text, reader));
  return index;
}

inline gatefold::Image load(const std::filesystem::path& path, const Arguments& a, const Reader& reader) {
  return fit(gatefold::decode_image_file(path), reader.file.model.options.image_size,
             a.centre ? Fit::centre : Fit::whole);
}

inline Reading plan_samples(const Arguments& a, const Reader& reader) {
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

inline Reading plan_own(const Arguments& a, const Reader& reader) {
  Reading reading;
  for (const auto& label : a.labels) reading.labels.push_back(make_label(label, reader));
  std::vector<Index> choices(a.labels.size());
  std::iota(choices.begin(), choices.end(), Index{0});
  for (const auto& path : find_photos(a.images)) {
    Picture picture;
    picture.name = path.string();
    picture.image = load(path, a, reader);
    picture.choices = choices;
    reading.pictures.push_back(std::move(picture));
  }
  return reading;
}

}  // namespace detail

/// zero_shot with a LIMoE. Returns the exit status.
inline int run_limoe(const Arguments& a, gatefold::Context& ctx) {
  const bool for_clip = !a.templates.empty() || !a.template_set.empty() || !a.cache.empty() || a.upcycle != 0;
  Reader reader = open_model(a.model, ctx, a.format);
  if (for_clip)
    throw gatefold::FormatError("--template, --templates, --cache and --upcycle are for a CLIP, but " +
                                a.model.string() + " is a model of train_limoe");
  Reading reading = a.images.empty() ? detail::plan_samples(a, reader) : detail::plan_own(a, reader);
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
    write_page(Page(reading, page_model(reader, a.model.filename().string()), a.top).html(), a.report);
  }
  return 0;
}

}  // namespace zero_shot
