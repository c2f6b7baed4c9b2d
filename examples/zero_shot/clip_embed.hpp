#pragma once
#include <cmath>
#include <filesystem>
#include <functional>
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
std::size_t decoding_budget();

struct EmbedOptions {
  Index batch = 32;                              ///< Photographs at once; of texts twice as many.
  ClipRouting* routing = nullptr;                ///< Where the routers report to.
  Index progress_from = 64;                      ///< With so many, a line on a terminal says how far it is.
  Index max_pixels = gatefold::kUsualPixels;     ///< Of a photograph.
  std::size_t decode_bytes = decoding_budget();  ///< That all decoding threads may need at once.
};

/// Rows to length 1. A row of zeros, or with something that is no number, becomes NaN. // z [B, P]
void to_unit_length(gatefold::Rows<float> z);

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

inline gatefold::ProgressOptions progress_of(Index total, const char* what, const EmbedOptions& how) {
  gatefold::ProgressOptions options{.total_steps = total, .label = what};
  if (total < how.progress_from) options.terminal = false;  // where a line is only written if asked for
  return options;
}

}  // namespace detail

/// A photograph as the model takes it, sized and cropped by `preprocess`. The budget has its bytes until then. Throws
/// FormatError, MemoryError.
void load_photo(const ClipModel& clip, const std::filesystem::path& photo, const EmbedOptions& how,
                gatefold::MemoryBudget& budget, const std::function<void(const gatefold::Image&)>& preprocess);

/// Some photographs: those from `first` on.
struct PhotoBatch {
  Index first = 0;
  gatefold::Rows<const float> z;        // [B, P] of length 1; NaN where there is a fault
  std::span<const std::string> faults;  // [B] why a photo cannot be read; empty where it can
};

/// What the model makes of photographs, handed to `take(PhotoBatch)` as it comes. One that cannot be read is a fault of
/// its own and no reason to stop.
void embed_photos(const ClipModel& clip, std::span<const std::filesystem::path> photos, const EmbedOptions& how,
                  gatefold::Context& ctx, const std::function<void(const PhotoBatch&)>& take);

struct PhotoEmbeddings {
  gatefold::Tensor<float, 2> z;     // [N, P] of length 1; NaN where there is a fault
  std::vector<std::string> faults;  // [N] why a photo cannot be read; empty where it can
};

/// The same, all at once.
PhotoEmbeddings embed_photos(const ClipModel& clip, std::span<const std::filesystem::path> photos,
                             const EmbedOptions& how, gatefold::Context& ctx);

/// What the model makes of `count` texts, of length 1, handed to `take(first, z)` as it comes; `text_of(i)` is asked
/// for one after the other. // z [B, P]
void embed_texts(const ClipModel& clip, Index count, const std::function<std::string(Index)>& text_of,
                 const EmbedOptions& how, gatefold::Context& ctx,
                 const std::function<void(Index first, gatefold::Rows<const float> z)>& take);

/// The same, all at once. // [N, P]
gatefold::Tensor<float, 2> embed_texts(const ClipModel& clip, std::span<const std::string> texts,
                                       const EmbedOptions& how, gatefold::Context& ctx);

/// What labels are: the mean, of length 1, of what the templates make of them, each of length 1 (Radford et al. 2021,
/// section 3.1.4). The sentences are made and averaged a batch at a time. // [L, P]
gatefold::Tensor<float, 2> embed_labels(const ClipModel& clip, std::span<const std::string> labels,
                                        std::span<const std::string> templates, const EmbedOptions& how,
                                        gatefold::Context& ctx);

}  // namespace zero_shot
