#pragma once
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "zero_shot/arguments.hpp"
#include "zero_shot/clip_answers.hpp"
#include "zero_shot/clip_label_cache.hpp"
#include "zero_shot/clip_page.hpp"

namespace zero_shot {

/// zero_shot with a CLIP. Returns the exit status: 1 when a photograph could not be read, which is named on standard
/// error while the others are answered.
inline int run_clip(const Arguments& a, gatefold::Context& ctx) {
  if (a.centre)
    throw gatefold::FormatError("--crop is for models of train_limoe, but " + a.model.string() +
                                " is a CLIP, which crops its own way");
  if (a.images.empty())
    throw gatefold::FormatError("no pictures: zero_shot PHOTO_OR_FOLDER... --model " + a.model.string() +
                                " --labels \"cat\" \"dog\"");
  ClipAnswers answers{.labels = a.labels, .templates = templates_of(a.templates, a.template_set)};
  const auto photos = find_photos(a.images);
  const auto clip = open_clip(a.model, {.format = a.format, .upcycle = a.upcycle, .parallel_for = ctx.parallel_for});
  const EmbedOptions how{.batch = a.batch, .routing = clip.has_mixtures() ? &answers.routing : nullptr};
  gatefold::Tensor<float, 2> z_labels;
  if (a.cache.empty()) {
    z_labels = embed_labels(clip, answers.labels, answers.templates, how, ctx);
  } else {
    LabelCache cache(a.cache, clip, answers.templates);
    z_labels = embed_labels(clip, answers.labels, answers.templates, cache, how, ctx);
  }
  answer(answers, embed_photos(clip, photos, how, ctx), photos, z_labels.view(), clip.temperature);

  if (a.json) {
    std::cout << to_json(answers, clip);
  } else {
    const bool colour = ::isatty(STDOUT_FILENO) && !std::getenv("NO_COLOR");
    using Style = ClipPrintOptions::Style;
    print(std::cout, answers, clip, {.style = colour ? Style::colour : Style::plain, .top = a.top});
  }
  std::cout.flush();
  for (const PhotoAnswer& photo : answers.photos)
    if (!photo.fault.empty()) std::cerr << "zero_shot: " << printable(photo.fault) << "\n";
  if (a.wants_report) {
    const auto reading = read_for_page(answers, photos, clip, a.batch, ctx);
    write_page(Page(reading, page_model(answers, clip, a.model.string()), a.top).html(), a.report);
  }
  return answers.faults() > 0 ? 1 : 0;
}

}  // namespace zero_shot
