#include "zero_shot/clip_embed.hpp"

#include <unistd.h>

#include <limits>

namespace zero_shot {

std::size_t decoding_budget() {
  const auto pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  const std::size_t memory =
      pages > 0 && page > 0 ? static_cast<std::size_t>(pages) * static_cast<std::size_t>(page) : 0;
  return std::max(std::size_t{1} << 30, memory / 8);
}

void to_unit_length(gatefold::Rows<float> z) {
  for (Index r = 0; r < z.extent(0); ++r) {
    double squares = 0;
    for (Index i = 0; i < z.extent(1); ++i) squares += double{z(r, i)} * double{z(r, i)};
    for (Index i = 0; i < z.extent(1); ++i) z(r, i) = static_cast<float>(double{z(r, i)} / std::sqrt(squares));
  }
}

namespace detail {
namespace {

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

}  // namespace

}  // namespace detail

void load_photo(const ClipModel& clip, const std::filesystem::path& photo, const EmbedOptions& how,
                gatefold::MemoryBudget& budget, const std::function<void(const gatefold::Image&)>& preprocess) {
  gatefold::MemoryBudget::Lease lease;
  auto options = gatefold::clip_decode_options(clip.preprocess.options());
  options.max_pixels = how.max_pixels;
  options.limit_name = "--max-megapixels";
  options.reserve = [&](std::size_t bytes) { lease = budget.take(bytes); };
  preprocess(gatefold::decode_image_file(photo, options));
}

void embed_photos(const ClipModel& clip, std::span<const std::filesystem::path> photos, const EmbedOptions& how,
                  gatefold::Context& ctx, const std::function<void(const PhotoBatch&)>& take) {
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

PhotoEmbeddings embed_photos(const ClipModel& clip, std::span<const std::filesystem::path> photos,
                             const EmbedOptions& how, gatefold::Context& ctx) {
  PhotoEmbeddings out{gatefold::Tensor<float, 2>({std::ssize(photos), clip.options.embedding}), {}};
  embed_photos(clip, photos, how, ctx, [&](const PhotoBatch& batch) {
    std::copy_n(batch.z.data(), batch.z.extent(0) * batch.z.extent(1), out.z.view()[batch.first].data());
    out.faults.insert(out.faults.end(), batch.faults.begin(), batch.faults.end());
  });
  return out;
}

void embed_texts(const ClipModel& clip, Index count, const std::function<std::string(Index)>& text_of,
                 const EmbedOptions& how, gatefold::Context& ctx,
                 const std::function<void(Index first, gatefold::Rows<const float> z)>& take) {
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

gatefold::Tensor<float, 2> embed_texts(const ClipModel& clip, std::span<const std::string> texts,
                                       const EmbedOptions& how, gatefold::Context& ctx) {
  gatefold::Tensor<float, 2> all({std::ssize(texts), clip.options.embedding});
  embed_texts(
      clip, std::ssize(texts), [&](Index i) { return texts[static_cast<std::size_t>(i)]; }, how, ctx,
      [&](Index first, gatefold::Rows<const float> z) {
        std::copy_n(z.data(), z.extent(0) * z.extent(1), all.view()[first].data());
      });
  return all;
}

gatefold::Tensor<float, 2> embed_labels(const ClipModel& clip, std::span<const std::string> labels,
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
