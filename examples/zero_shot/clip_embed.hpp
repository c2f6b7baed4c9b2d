#pragma once
#include <cmath>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "gatefold/routing/routing_report.hpp"
#include "gatefold/train/progress.hpp"
#include "zero_shot/clip_model.hpp"
#include "zero_shot/clip_templates.hpp"

namespace zero_shot {

/// What the experts did with patches and with words, where a model has any.
struct ClipRouting {
  gatefold::RoutingReport images = gatefold::RoutingReport(), texts = gatefold::RoutingReport();
};

struct EmbedOptions {
  Index batch = 32;                ///< Photographs at once; of texts twice as many.
  ClipRouting* routing = nullptr;  ///< Where the routers report to.
  Index progress_from = 64;        ///< With so many, a line on a terminal says how far it is.
};

/// Rows to length 1. A row of zeros, or with something that is no number, becomes NaN. // z [B, P]
inline void to_unit_length(gatefold::Rows<float> z) {
  for (Index r = 0; r < z.extent(0); ++r) {
    double squares = 0;
    for (Index i = 0; i < z.extent(1); ++i) squares += double{z(r, i)} * double{z(r, i)};
    for (Index i = 0; i < z.extent(1); ++i) z(r, i) = static_cast<float>(double{z(r, i)} / std::sqrt(squares));
  }
}

/// The cosine of two rows of length 1, summed in double and so alike wherever they stand. // [P]
inline double cosine(gatefold::View<const float, 1> a, gatefold::View<const float, 1> b) {
  double sum = 0;
  for (Index i = 0; i < a.extent(0); ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

namespace detail {

/// Points the context at a report for as long as this lives.
class Reporting {
 public:
  Reporting(gatefold::Context& ctx, gatefold::RoutingReport* report) : ctx_(ctx) {
    if (report) report->begin_batch();
    ctx_.report = report;
  }
  ~Reporting() { ctx_.report = nullptr; }
  Reporting(const Reporting&) = delete;
  Reporting& operator=(const Reporting&) = delete;

 private:
  gatefold::Context& ctx_;
};

inline gatefold::ProgressOptions progress_of(Index total, const char* what, const EmbedOptions& how) {
  gatefold::ProgressOptions options{.total_steps = total, .label = what};
  if (total < how.progress_from) options.terminal = false;  // where a line is only written if asked for
  return options;
}

}  // namespace detail

struct PhotoEmbeddings {
  gatefold::Tensor<float, 2> z;     // [N, P] of length 1; NaN where there is a fault
  std::vector<std::string> faults;  // [N] why a photo cannot be read; empty where it can
};

/// What the model makes of photographs. One that cannot be read is a fault of its own and no reason to stop.
inline PhotoEmbeddings embed_photos(const ClipModel& clip, std::span<const std::filesystem::path> photos,
                                    const EmbedOptions& how, gatefold::Context& ctx) {
  const Index count = std::ssize(photos), size = clip.options.image_size;
  PhotoEmbeddings out{gatefold::Tensor<float, 2>({count, clip.options.embedding}),
                      std::vector<std::string>(photos.size())};
  for (float& x : out.z.flat()) x = std::numeric_limits<float>::quiet_NaN();
  const Index batch = std::min(std::max<Index>(how.batch, 1), count);
  gatefold::Tensor<float, 4> images({batch, size, size, 3});
  gatefold::Tensor<float, 2> z({batch, clip.options.embedding});
  gatefold::Progress progress(detail::progress_of(count, "photo", how));
  for (Index first = 0; first < count; first += batch) {
    const Index here = std::min(batch, count - first);
    ctx.parallel_for(here, [&](Index begin, Index end, Index) {
      for (Index i = begin; i < end; ++i) {
        const auto at = static_cast<std::size_t>(first + i);
        try {
          const auto image =
              gatefold::decode_image_file(photos[at], gatefold::clip_decode_options(clip.preprocess.options()));
          clip.preprocess.interleaved<float>(image, images.view()[i]);
        } catch (const std::exception& error) {
          out.faults[at] = error.what();
        }
      }
    });
    Index good = 0;  // they move to the front, so that only they are computed
    std::vector<Index> row;
    for (Index i = 0; i < here; ++i) {
      if (!out.faults[static_cast<std::size_t>(first + i)].empty()) continue;
      if (good < i) std::copy_n(images.view()[i].data(), size * size * 3, images.view()[good].data());
      row.push_back(first + i), ++good;
    }
    {
      const detail::Reporting reporting(ctx, how.routing && good > 0 ? &how.routing->images : nullptr);
      clip.towers->encode_images(images.view().rows(0, good), z.view().rows(0, good), ctx);
    }
    to_unit_length(z.view().rows(0, good));
    for (Index i = 0; i < good; ++i)
      std::copy_n(z.view()[i].data(), clip.options.embedding, out.z.view()[row[static_cast<std::size_t>(i)]].data());
    progress.update(first + here);
  }
  return out;
}

/// What the model makes of texts, of length 1. // [N, P]
inline gatefold::Tensor<float, 2> embed_texts(const ClipModel& clip, std::span<const std::string> texts,
                                              const EmbedOptions& how, gatefold::Context& ctx) {
  const Index count = std::ssize(texts);
  gatefold::Tensor<float, 2> z({count, clip.options.embedding});
  const Index batch = std::min(std::max<Index>(2 * how.batch, 1), count);
  gatefold::Tensor<Index, 2> ids({batch, clip.options.context});
  gatefold::Progress progress(detail::progress_of(count, "text", how));
  for (Index first = 0; first < count; first += batch) {
    const Index here = std::min(batch, count - first);
    const auto own = ids.view().rows(0, here);
    clip.tokenizer.encode(texts.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(here)), own);
    const detail::Reporting reporting(ctx, how.routing ? &how.routing->texts : nullptr);
    clip.towers->encode_texts(own, z.view().rows(first, first + here), ctx);
    progress.update(first + here);
  }
  to_unit_length(z);
  return z;
}

/// What labels are: the mean, of length 1, of what the templates make of them, each of length 1 (Radford et al. 2021,
/// section 3.1.4). // [L, P]
inline gatefold::Tensor<float, 2> embed_labels(const ClipModel& clip, std::span<const std::string> labels,
                                               std::span<const std::string> templates, const EmbedOptions& how,
                                               gatefold::Context& ctx) {
  std::vector<std::string> texts;
  for (const auto& label : labels)
    for (const auto& sentence : templates) texts.push_back(fill_template(sentence, label));
  const auto each = embed_texts(clip, texts, how, ctx);
  gatefold::Tensor<float, 2> z({std::ssize(labels), clip.options.embedding});
  const Index per_label = std::ssize(templates);
  for (Index l = 0; l < z.extent(0); ++l)
    for (Index i = 0; i < z.extent(1); ++i) {
      double sum = 0;
      for (Index t = 0; t < per_label; ++t) sum += double{each.view()(l * per_label + t, i)};
      z.view()(l, i) = static_cast<float>(sum / static_cast<double>(per_label));
    }
  to_unit_length(z);
  return z;
}

}  // namespace zero_shot
