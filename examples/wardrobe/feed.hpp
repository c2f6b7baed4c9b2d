#pragma once

#include "gatefold/models/limoe.hpp"
#include "gatefold/text/vocabulary.hpp"
#include "wardrobe/evaluation.hpp"
#include "wardrobe/render.hpp"
#include "wardrobe/sampler.hpp"

namespace wardrobe {

using gatefold::Context;
using gatefold::Tensor;
using gatefold::View;

/// The words of the grammar as the tokenizer takes them apart («t-shirt» is two), in byte order.
gatefold::Vocabulary model_vocabulary();

/// Texts as the model reads them: their ids one after the other.
struct Texts {
  std::vector<Index> ids, offset = {0};

  void add(const gatefold::Vocabulary& vocabulary, std::string_view text, Index max_tokens);
  Index size() const { return std::ssize(offset) - 1; }
  View<const Index, 1> ids_view() const { return {ids.data(), {std::ssize(ids)}}; }
  View<const Index, 1> offset_view() const { return {offset.data(), {std::ssize(offset)}}; }
};

/// Renders scenes into model input in [-1, 1], in parallel. // images [B, 48, 48, 3]
void render_batch(std::span<const Scene> scenes, const Photos& photos, View<float, 4> images, Context& ctx);

/// The rows scaled to length 1, so that inner products are cosines; a row of zeros stays.
void normalise_rows(gatefold::Rows<float> z);

/// Embeds all images and labels of a set, in batches. // [R, P] each, rows of length 1
struct SetEmbeddings {
  Tensor<float, 2> images, labels;
};
template <class Model>
SetEmbeddings embed(const Model& model, const gatefold::Vocabulary& vocabulary, const EvaluationSet& set,
                    const Photos& photos, Context& ctx) {
  constexpr Index kBatch = 128;
  const Index width = model.options.embedding, size = model.options.image_size;
  SetEmbeddings out{Tensor<float, 2>({std::ssize(set.scenes), width}),
                    Tensor<float, 2>({std::ssize(set.labels), width})};
  for (Index begin = 0; begin < out.images.extent(0); begin += kBatch) {
    const auto scope = ctx.workspace.scope();
    if (ctx.report) ctx.report->begin_batch();
    const Index end = std::min(begin + kBatch, out.images.extent(0));
    auto images = ctx.workspace.take<float>(end - begin, size, size, 3);
    render_batch(std::span(set.scenes).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
                 photos, images, ctx);
    (void)model.forward({.images = images, .ids = {}, .text_offset = {}}, out.images.view().rows(begin, end),
                        gatefold::Rows<float>(nullptr, {0, width}), ctx);
  }
  for (Index begin = 0; begin < out.labels.extent(0); begin += kBatch) {
    const auto scope = ctx.workspace.scope();
    if (ctx.report) ctx.report->begin_batch();
    const Index end = std::min(begin + kBatch, out.labels.extent(0));
    Texts texts;
    for (Index i = begin; i < end; ++i)
      texts.add(vocabulary, set.labels[static_cast<std::size_t>(i)], model.options.max_text_tokens);
    (void)model.forward({.images = {}, .ids = texts.ids_view(), .text_offset = texts.offset_view()},
                        gatefold::Rows<float>(nullptr, {0, width}), out.labels.view().rows(begin, end), ctx);
  }
  normalise_rows(out.images);
  normalise_rows(out.labels);
  return out;
}

/// Scores the model, a Limoe over any weights, on every set.
template <class Model>
std::vector<EvaluationRow> evaluate(const Model& model, const gatefold::Vocabulary& vocabulary,
                                    std::span<const EvaluationSet> sets, const Photos& photos, Context& ctx) {
  std::vector<EvaluationRow> rows;
  for (const auto& set : sets) {
    const auto z = embed(model, vocabulary, set, photos, ctx);
    const auto scored =
        score(set, EmbeddedSet{{z.images.flat(), z.images.extent(1)}, {z.labels.flat(), z.labels.extent(1)}});
    rows.insert(rows.end(), scored.begin(), scored.end());
  }
  return rows;
}

}  // namespace wardrobe
