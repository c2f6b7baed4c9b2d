#include "zero_shot/clip_run.hpp"

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <optional>

#include "stop_signals.hpp"
#include "zero_shot/clip_answers.hpp"
#include "zero_shot/clip_label_cache.hpp"
#include "zero_shot/clip_page.hpp"
#include "zero_shot/cut_labels.hpp"
#include "zero_shot/model_kind.hpp"
#include "zero_shot/tell.hpp"

namespace zero_shot {
namespace {

OpenClipOptions options_of(const Arguments& a, FileSums* sums, const gatefold::Context& ctx) {
  OpenClipOptions how{.format = a.format, .upcycle = a.upcycle, .sums = sums, .parallel_for = ctx.parallel_for};
  if (!a.activation.empty()) how.activation = clip_activations().at(a.activation);
  how.warn = [](const std::string& what) { tell("note: " + what); };
  return how;
}
/// The first line for people: which model, of how much, packed as what, by how many threads.
std::string first_line(const std::string& name, const ClipModel& clip, const gatefold::Context& ctx) {
  const auto& o = clip.options;
  const auto threads = ctx.parallel_for.workers();
  return "CLIP " + printable(name) + ": pictures of " + std::to_string(o.image_size) + " x " +
         std::to_string(o.image_size) + " in patches of " + std::to_string(o.patch) + " x " + std::to_string(o.patch) +
         ", " + std::to_string(o.vision.num_layers) + " blocks of width " + std::to_string(o.vision.width) +
         "; weights as " + clip.format + ", " + std::to_string(threads) + (threads == 1 ? " thread." : " threads.");
}

}  // namespace

int run_clip(const Arguments& a, gatefold::Context& ctx) {
  if (a.centre)
    throw gatefold::FormatError("--crop is for models of train_limoe, but " + a.model.string() +
                                " is a CLIP, which crops its own way");
  expect_model(a.model);
  if (!a.packed.empty()) {
    FileSums sums;
    const auto clip = open_clip(a.model, options_of(a, &sums, ctx));
    save_packed(clip, a.packed);
    std::cout << "The model is in " << printable(a.packed.string()) << ", packed as " << clip.format << "\n";
    if (a.images.empty()) return 0;
  }
  if (a.images.empty())
    throw gatefold::FormatError("no pictures: zero_shot PHOTO_OR_FOLDER... --model " + a.model.string() +
                                " --labels \"cat\" \"dog\"");
  if (a.multi_label && a.wants_report)
    throw gatefold::FormatError("--report shows probabilities, which --multi-label has none of; leave one of them out");
  ClipAnswers answers{.labels = a.labels,
                      .templates = templates_of(a.templates, a.template_set),
                      .scores = a.multi_label ? Scores::each_by_itself : Scores::one_of_all,
                      .threshold = a.threshold};
  LeftOut left;
  const auto photos = find_photos(a.images, left);
  tell(left);
  FileSums sums;
  if (!a.cache.empty()) sums = FileSums::kept_in(a.cache);
  const auto clip = open_clip(a.model, options_of(a, a.cache.empty() && !a.json ? nullptr : &sums, ctx));
  answers.cut = cut_labels(clip.tokenizer, answers.labels, answers.templates, ctx.parallel_for);
  if (const auto words = words_of_cut(answers.labels, answers.cut, clip.options.context); !words.empty())
    tell("note: " + words);
  const ClipPrintOptions shown{.terminal = terminal_of(STDOUT_FILENO), .top = a.top};
  if (!a.json && !a.jsonl)
    std::cout << wrapped(first_line(a.model.string(), clip, ctx), shown.terminal.width) << "\n\n";
  EmbedOptions how{
      .batch = a.batch, .routing = clip.has_mixtures() ? &answers.routing : nullptr, .max_pixels = a.max_pixels};
  gatefold::Tensor<float, 2> z_labels;
  std::optional<LabelCache> cache;
  if (a.cache.empty()) {
    z_labels = embed_labels(clip, answers.labels, answers.templates, how, ctx);
  } else {
    cache.emplace(a.cache, clip, answers.templates);
    const gatefold::StopSignals signals;
    auto z =
        embed_labels(clip, answers.labels, answers.templates, *cache, how, ctx, {.stop = gatefold::StopSignals::came});
    if (!z) {
      cache->write();
      tell("stopped; the labels that were done are kept in " + a.cache.string());
      return gatefold::StopSignals::exit_status();
    }
    z_labels = std::move(*z);
  }

  std::optional<JsonStream> json;
  if (a.json) {
    json.emplace(std::cout);
    json->member("model", json_of(clip));
    json->member("templates", answers.templates);
    json->begin_list("pictures");
  }
  // Answers that scroll by on a terminal are progress enough, and would be mixed with a line about it.
  if (::isatty(STDOUT_FILENO)) how.progress_from = std::numeric_limits<Index>::max();
  embed_photos(clip, photos, how, ctx, [&](const PhotoBatch& batch) {
    for (Index i = 0; i < batch.z.extent(0); ++i) {
      const auto photo =
          answer(answers, photos[static_cast<std::size_t>(batch.first + i)], batch.faults[static_cast<std::size_t>(i)],
                 batch.z[i], z_labels.view(), clip.temperature);
      if (a.json)
        json->item(json_of(photo, answers, a.json_top));
      else if (a.jsonl)
        std::cout << dump(json_of(photo, answers, a.json_top)) << "\n";
      else
        print(std::cout, photo, answers, shown);
      if (!photo.fault.empty()) tell(photo.fault);
      if (a.wants_report && photo.fault.empty() && std::ssize(answers.kept) < photos_on_a_page(clip))
        answers.kept.push_back(photo);
    }
    std::cout.flush();
    if (!std::cout) throw gatefold::FormatError("what there is to say could not be written to standard output");
  });
  if (a.json) {
    json->end_list();
    if (clip.has_mixtures()) json->member("experts", json_of(answers.routing, clip));
    json->end();
  } else if (!a.jsonl) {
    print_summary(std::cout, answers, clip, shown);
  }
  std::cout.flush();
  if (cache) cache->write();  // when the answers are out: they do not depend on it
  if (a.wants_report) {
    const auto reading = read_for_page(answers, clip, how, ctx);
    write_page(page_html(reading, page_model(answers, clip, a.model.string()), a.top), a.report);
  }
  return answers.unread.empty() && left.closed.empty() ? 0 : 1;
}

}  // namespace zero_shot
