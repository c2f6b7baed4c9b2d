#pragma once
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "gatefold/core/memory_budget.hpp"
#include "gatefold/routing/routing_report.hpp"
#include "gatefold/train/progress.hpp"
#include "zero_shot/clip_model.hpp"
#include "zero_shot/clip_templates.hpp"

namespace zero_shot {

/// What the experts did with patches and with words, where a model has any.
struct ClipRouting {
  gatefold::RoutingReport images = gatefold::RoutingReport(), texts = gatefold::RoutingReport();
};

/// An eighth of the machine's memory, but 1 GiB in any case, so that the largest photograph of the usual limit has
/// room: as many are decoded side by side as fit, and what needs more than all of it is decoded alone.
inline std::size_t decoding_budget() {
  const auto pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  const std::size_t memory =
      pages > 0 && page > 0 ? static_cast<std::size_t>(pages) * static_cast<std::size_t>(page) : 0;
  return std::max(std::size_t{1} << 30, memory / 8);
}

struct EmbedOptions {
  Index batch = 32;                              ///< Photographs at once; of texts twice as many.
  ClipRouting* routing = nullptr;                ///< Where the routers report to.
  Index progress_from = 64;                      ///< With so many, a line on a terminal says how far it is.
  Index max_pixels = gatefold::kUsualPixels;     ///< Of a photograph.
  std::size_t decode_bytes = decoding_budget();  ///< That all decoding threads may need at once.
};

/// Rows to length 1. A row of zeros, or with something that is no number, becomes NaN. // z [B, P]
inline void to_unit_length(gatefold::Rows<float> z) {
  for (Index r = 0; r < z.extent(0); ++r) {
    double squares = 0;
    for (Index i = 0; i < z.extent(1); ++i) squares += double{z(r, i)} * double{z(r, i)};
    for (Index i = 0; i < z.extent(1); ++i) z(r, i) = static_cast<float>(double{z(r, i)} / std::sqrt(squares));
  }
}

/// What may be kept as an embedding: a row of length 1. // [P]
inline bool is_unit(gatefold::View<const float, 1> z) {
  double squares = 0;
  for (Index i = 0; i < z.extent(0); ++i) squares += double{z[i]} * double{z[i]};
  return std::abs(squares - 1) < 1e-4;
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

/// A photograph as the model takes it, sized and cropped by `preprocess`. The budget has its bytes until then. Throws
/// FormatError, MemoryError.
template <class Preprocess>
void load_photo(const ClipModel& clip, const std::filesystem::path& photo, const EmbedOptions& how,
                gatefold::MemoryBudget& budget, const Preprocess& preprocess) {
  gatefold::MemoryBudget::Lease lease;
  auto options = gatefold::clip_decode_options(clip.preprocess.options());
  options.max_pixels = how.max_pixels;
  options.limit_name = "--max-megapixels";
  options.reserve = [&](std::size_t bytes) { lease = budget.take(bytes); };
  preprocess(gatefold::decode_image_file(photo, options));
}

/// Some photographs: those from `first` on.
struct PhotoBatch {
  Index first = 0;
  gatefold::Rows<const float> z;        // [B, P] of length 1; NaN where there is a fault
  std::span<const std::string> faults;  // [B] why a photo cannot be read; empty where it can
};

/// What the model makes of photographs, handed to `take(PhotoBatch)` as it comes. One that cannot be read is a fault of
/// its own and no reason to stop.
template <class Take>
void embed_photos(const ClipModel& clip, std::span<const std::filesystem::path> photos, const EmbedOptions& how,
                  gatefold::Context& ctx, const Take& take) {
  const Index count = std::ssize(photos), size = clip.options.image_size;
  const Index batch = std::min(std::max<Index>(how.batch, 1), count);
  gatefold::Tensor<float, 4> images({batch, size, size, 3});
  gatefold::Tensor<float, 2> packed({batch, clip.options.embedding}), z({batch, clip.options.embedding});
  std::vector<std::string> faults(static_cast<std::size_t>(batch));
  gatefold::MemoryBudget budget(how.decode_bytes);
  gatefold::Progress progress(detail::progress_of(count, "photo", how));
  for (Index first = 0; first < count; first += batch) {
    const Index here = std::min(batch, count - first);
    ctx.parallel_for(here, [&](Index begin, Index end, Index) {
      for (Index i = begin; i < end; ++i) {
        auto& fault = faults[static_cast<std::size_t>(i)];
        fault.clear();
        try {
          load_photo(clip, photos[static_cast<std::size_t>(first + i)], how, budget, [&](const gatefold::Image& image) {
            clip.preprocess.interleaved<float>(image, images.view()[i]);
          });
        } catch (const std::exception& error) {
          fault = error.what();
        }
      }
    });
    Index good = 0;  // they move to the front, so that only they are computed
    for (Index i = 0; i < here; ++i) {
      if (!faults[static_cast<std::size_t>(i)].empty()) continue;
      if (good < i) std::copy_n(images.view()[i].data(), size * size * 3, images.view()[good].data());
      ++good;
    }
    {
      const detail::Reporting reporting(ctx, how.routing && good > 0 ? &how.routing->images : nullptr);
      clip.towers->encode_images(images.view().rows(0, good), packed.view().rows(0, good), ctx);
    }
    to_unit_length(packed.view().rows(0, good));
    good = 0;
    for (Index i = 0; i < here; ++i) {
      float* const row = z.view()[i].data();
      if (faults[static_cast<std::size_t>(i)].empty())
        std::copy_n(packed.view()[good++].data(), clip.options.embedding, row);
      else
        std::fill_n(row, clip.options.embedding, std::numeric_limits<float>::quiet_NaN());
    }
    progress.update(first + here);
    take(PhotoBatch{first, z.view().rows(0, here), std::span(faults).first(static_cast<std::size_t>(here))});
  }
}

struct PhotoEmbeddings {
  gatefold::Tensor<float, 2> z;     // [N, P] of length 1; NaN where there is a fault
  std::vector<std::string> faults;  // [N] why a photo cannot be read; empty where it can
};

/// The same, all at once.
inline PhotoEmbeddings embed_photos(const ClipModel& clip, std::span<const std::filesystem::path> photos,
                                    const EmbedOptions& how, gatefold::Context& ctx) {
  PhotoEmbeddings out{gatefold::Tensor<float, 2>({std::ssize(photos), clip.options.embedding}), {}};
  embed_photos(clip, photos, how, ctx, [&](const PhotoBatch& batch) {
    std::copy_n(batch.z.data(), batch.z.extent(0) * batch.z.extent(1), out.z.view()[batch.first].data());
    out.faults.insert(out.faults.end(), batch.faults.begin(), batch.faults.end());
  });
  return out;
}

/// What the model makes of `count` texts, of length 1, handed to `take(first, z)` as it comes; `text_of(i)` is asked
/// for one after the other. // z [B, P]
template <class TextOf, class Take>
void embed_texts(const ClipModel& clip, Index count, const TextOf& text_of, const EmbedOptions& how,
                 gatefold::Context& ctx, const Take& take) {
  const Index batch = std::min(std::max<Index>(2 * how.batch, 1), count);
  gatefold::Tensor<float, 2> z({batch, clip.options.embedding});
  gatefold::Tensor<Index, 2> ids({batch, clip.options.context});
  std::vector<std::string> texts;
  gatefold::Progress progress(detail::progress_of(count, "text", how));
  for (Index first = 0; first < count; first += batch) {
    const Index here = std::min(batch, count - first);
    texts.clear();
    for (Index i = 0; i < here; ++i) texts.push_back(text_of(first + i));
    const auto own = ids.view().rows(0, here);
    clip.tokenizer.encode(texts, own);
    {
      const detail::Reporting reporting(ctx, how.routing ? &how.routing->texts : nullptr);
      clip.towers->encode_texts(own, z.view().rows(0, here), ctx);
    }
    to_unit_length(z.view().rows(0, here));
    progress.update(first + here);
    take(first, gatefold::Rows<const float>(z.view().rows(0, here)));
  }
}

/// The same, all at once. // [N, P]
inline gatefold::Tensor<float, 2> embed_texts(const ClipModel& clip, std::span<const std::string> texts,
                                              const EmbedOptions& how, gatefold::Context& ctx) {
  gatefold::Tensor<float, 2> all({std::ssize(texts), clip.options.embedding});
  embed_texts(
      clip, std::ssize(texts), [&](Index i) { return texts[static_cast<std::size_t>(i)]; }, how, ctx,
      [&](Index first, gatefold::Rows<const float> z) {
        std::copy_n(z.data(), z.extent(0) * z.extent(1), all.view()[first].data());
      });
  return all;
}

/// What labels are: the mean, of length 1, of what the templates make of them, each of length 1 (Radford et al. 2021,
/// section 3.1.4). The sentences are made and averaged a batch at a time. // [L, P]
inline gatefold::Tensor<float, 2> embed_labels(const ClipModel& clip, std::span<const std::string> labels,
                                               std::span<const std::string> templates, const EmbedOptions& how,
                                               gatefold::Context& ctx) {
  gatefold::Tensor<float, 2> means({std::ssize(labels), clip.options.embedding});
  const Index per_label = std::ssize(templates);
  std::vector<double> sum(static_cast<std::size_t>(clip.options.embedding));  // of the label that is at work
  embed_texts(
      clip, std::ssize(labels) * per_label,
      [&](Index i) {
        return fill_template(templates[static_cast<std::size_t>(i % per_label)],
                             labels[static_cast<std::size_t>(i / per_label)]);
      },
      how, ctx,
      [&](Index first, gatefold::Rows<const float> z) {
        for (Index r = 0; r < z.extent(0); ++r) {
          const Index text = first + r;
          for (Index i = 0; i < z.extent(1); ++i) sum[static_cast<std::size_t>(i)] += double{z(r, i)};
          if ((text + 1) % per_label != 0) continue;
          for (Index i = 0; i < z.extent(1); ++i)
            means.view()(text / per_label, i) =
                static_cast<float>(sum[static_cast<std::size_t>(i)] / static_cast<double>(per_label));
          std::fill(sum.begin(), sum.end(), 0.0);
        }
      });
  to_unit_length(means);
  return means;
}

}  // namespace zero_shot
