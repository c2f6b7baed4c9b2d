#pragma once
#include "gatefold/models/clip_tower.hpp"
#include "gatefold/nn/class_token.hpp"
#include "gatefold/nn/embedding.hpp"
#include "gatefold/nn/patch_embed.hpp"
#include "gatefold/nn/position.hpp"

namespace gatefold {

namespace detail {
/// What forward(begin, end) keeps of each part. // [parts]
template <class Saved, class Forward>
View<Saved, 1> in_parts(const kernels::BalancedSplit& parts, Forward&& forward, Context& ctx) {
  auto saved = ctx.workspace.take<Saved>(parts.count);
  for (Index i = 0; i < parts.count; ++i) saved[i] = forward(parts.begin(i), parts.begin(i + 1));
  return saved;
}

/// Of a tower's forward_in_parts. // saved [parts], dz [B, P]
template <Real T, class Tower>
void backward_in_parts(const Tower& tower, View<typename Tower::Saved, 1> saved, Rows<const T> dz, Tower& grad,
                       Context& ctx) {
  Index begin = 0;
  for (Index i = 0; i < saved.extent(0); ++i) {
    const Index end = begin + saved[i].tower.row.extent(0);
    tower.backward(saved[i], dz.rows(begin, end), grad, ctx);
    begin = end;
  }
}
}  // namespace detail

/// Images: patches (without bias) behind a class token, positions, a norm, the blocks; read off at the class token, or
/// in another way (ClipPool).
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct ClipVision {
  using Scalar = T;
  struct Saved {
    Index batch = 0;
    typename PatchEmbed<T, W>::Saved patches;
    typename LearnedPosition<T>::Saved position;
    typename LayerNorm<T>::Saved pre_norm;
    typename ClipTower<T, W>::Saved tower;
  };

  PatchEmbed<T, W> patch_embed;
  ClassToken<T> class_token;
  LearnedPosition<T> position;
  LayerNorm<T> pre_norm;  ///< Neither used nor a parameter where has_pre_norm is false.
  ClipTower<T, W> tower;
  Index image_size;
  bool has_pre_norm;

  explicit ClipVision(const ClipOptions& o)
      : patch_embed({.patch = o.patch, .channels = o.channels, .width = o.vision.width, .bias = Bias::none}),
        class_token({.width = o.vision.width}),
        position({.length = (o.image_size / o.patch) * (o.image_size / o.patch) + 1, .width = o.vision.width}),
        pre_norm({.width = o.vision.width, .epsilon = o.vision.epsilon}),
        tower(o.vision, o.embedding, kernels::AttentionMask::none, o.image_pool),
        image_size(o.image_size),
        has_pre_norm(o.image_pre_norm) {
    expect_option(
        o.image_size >= o.patch && o.image_size % o.patch == 0,
        "Clip: image_size " + std::to_string(o.image_size) + " is not a multiple of patch " + std::to_string(o.patch));
  }
  static void visit(auto& v, auto&... self) {
    v("patch_embed", self.patch_embed...);
    v("class_token", self.class_token...);
    v("position", self.position...);
    if ((self.has_pre_norm && ...)) v("pre_norm", self.pre_norm...);
    ClipTower<T, W>::visit(v, self.tower...);
  }

  /// Tokens of an image, the class token included.
  Index tokens_per_image() const { return position.table.extent(0); }

  /// images [B, image_size, image_size, channels], z [B, P]
  Saved forward(View<const T, 4> images, Rows<T> z, Context& ctx) const {
    expect_shape(z, {images.extent(0), tower.projection.out()}, "ClipVision::forward: z");
    Saved saved;
    if (images.extent(0) == 0) return saved;
    const auto tokens = embed(images, saved, ctx);
    saved.tower = tower.forward(tokens, z, ctx);
    return saved;
  }

  /// forward of one part of a batch after the other (ClipTower::training_parts): the same embeddings but for rounding,
  /// sooner. For the backward of parts. // [parts]
  View<Saved, 1> forward_in_parts(View<const T, 4> images, Rows<T> z,
                                  Context& ctx) const requires TrainableStorage<W, T> {
    expect_shape(z, {images.extent(0), tower.projection.out()}, "ClipVision::forward_in_parts: z");
    return detail::in_parts<Saved>(
        tower.training_parts(images.extent(0), images.extent(0) * tokens_per_image()),
        [&](Index begin, Index end) { return forward(images.rows(begin, end), z.rows(begin, end), ctx); }, ctx);
  }

  /// forward that keeps nothing.
  void encode(View<const T, 4> images, Rows<T> z, Context& ctx) const {
    expect_shape(z, {images.extent(0), tower.projection.out()}, "ClipVision::encode: z");
    if (images.extent(0) == 0) return;
    tower.for_each_part(images.extent(0), images.extent(0) * tokens_per_image(), ctx, [&](Index begin, Index end) {
      const auto scope = ctx.workspace.scope();
      Saved saved;
      tower.encode(embed(images.rows(begin, end), saved, ctx), z.rows(begin, end), ctx);
    });
  }

  void backward(const Saved& saved, Rows<const T> dz, ClipVision& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    if (saved.batch == 0) return;
    const auto scope = ctx.workspace.scope();
    const auto dx = ctx.workspace.take<T>(saved.batch * tokens_per_image(), tower.width());
    tower.backward(saved.tower, dz, dx, grad.tower, ctx);
    embed_backward(saved, dx, grad, ctx);
  }

  /// What goes into the blocks: patches behind the class token. // images [B, image_size, image_size, channels]
  ClipTokens<T> embed(View<const T, 4> images, Saved& saved, Context& ctx) const {
    const Index batch = images.extent(0), length = tokens_per_image(), width = tower.width();
    expect_shape(images, {batch, image_size, image_size, patch_embed.channels}, "ClipVision: images");
    auto offset = ctx.workspace.take<Index>(batch + 1);
    for (Index b = 0; b <= batch; ++b) offset[b] = b * length;
    const auto patches = ctx.workspace.take<T>(batch * (length - 1), width);
    const auto x = ctx.workspace.take<T>(batch * length, width);
    saved.batch = batch;
    saved.patches = patch_embed.forward(images, patches, ctx);
    class_token.forward(batch, patches, x, ctx);
    saved.position = position.forward(offset, x, ctx);
    if (!has_pre_norm) return {x, detail::clip_layout(offset, ctx), offset.rows(0, batch)};
    const auto normed = ctx.workspace.take<T>(batch * length, width);
    saved.pre_norm = pre_norm.forward(x, normed, ctx);
    return {normed, detail::clip_layout(offset, ctx), offset.rows(0, batch)};
  }
  /// // dtokens [B T, D]
  void embed_backward(const Saved& saved, Rows<const T> dtokens, ClipVision& grad,
                      Context& ctx) const requires TrainableStorage<W, T> {
    const auto scope = ctx.workspace.scope();
    const Index rows = dtokens.extent(0), width = tower.width();
    const auto dpatches = ctx.workspace.take<T>(rows - saved.batch, width);
    Rows<const T> dx = dtokens;
    if (has_pre_norm) {
      const auto before = ctx.workspace.take<T>(rows, width);
      pre_norm.backward(saved.pre_norm, dtokens, before, grad.pre_norm, ctx);
      dx = before;
    }
    position.backward(saved.position, dx, grad.position, ctx);
    class_token.backward(saved.batch, dx, dpatches, grad.class_token, ctx);
    patch_embed.backward(saved.patches, dpatches, grad.patch_embed, ctx);
  }

  template <class To>
  void over_into(const To& to, ClipVision<T, WeightBy<To, W>>& other) const {
    other.patch_embed = patch_embed.over(to);
    other.class_token = class_token;
    other.position = position;
    other.pre_norm = pre_norm;
    tower.over_into(to, other.tower);
  }
};

/// Texts: words and positions, blocks in which a token sees what is before it; read off at the end of the text. What
/// stands behind the token that is read off (padding) can have no influence then and is not computed; where a token
/// sees all others (ClipOptions::causal_text), everything is.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct ClipText {
  using Scalar = T;
  struct Saved {
    Index rows = 0;
    typename Embedding<T>::Saved words;
    typename LearnedPosition<T>::Saved position;
    typename ClipTower<T, W>::Saved tower;
  };

  Embedding<T> word_embed;
  LearnedPosition<T> position;
  ClipTower<T, W> tower;
  std::optional<Index> end_of_text;
  ClipTextPool pool;
  bool causal;

  explicit ClipText(const ClipOptions& o)
      : word_embed({.vocabulary = o.vocabulary, .width = o.text.width}),
        position({.length = o.context, .width = o.text.width}),
        tower(o.text, o.embedding, o.causal_text ? kernels::AttentionMask::causal : kernels::AttentionMask::none),
        end_of_text(o.end_of_text),
        pool(o.text_pool),
        causal(o.causal_text) {}
  static void visit(auto& v, auto&... self) {
    v("word_embed", self.word_embed...);
    v("position", self.position...);
    ClipTower<T, W>::visit(v, self.tower...);
  }

  /// Where a text is read off. Throws ShapeError for a text without an end. // ids [T]
  Index end_of(View<const Index, 1> ids) const {
    const Index* const begin = ids.data();
    const Index* const end = begin + ids.extent(0);
    const Index* const at = end_of_text ? std::find(begin, end, *end_of_text) : std::max_element(begin, end);
    if (at == end)
      throw ShapeError("ClipText: a text of " + std::to_string(ids.extent(0)) + " ids has no end" +
                       (end_of_text ? ", id " + std::to_string(*end_of_text) : ""));
    return at - begin;
  }

  /// ids [B, T] padded behind the end with anything (but see ClipOptions), z [B, P]
  Saved forward(View<const Index, 2> ids, Rows<T> z, Context& ctx) const {
    expect_shape(z, {ids.extent(0), tower.projection.out()}, "ClipText::forward: z");
    Saved saved;
    if (ids.extent(0) == 0) return saved;
    const auto tokens = embed(ids, saved, ctx);
    saved.tower = tower.forward(tokens, z, ctx);
    return saved;
  }

  /// See ClipVision. // [parts]
  View<Saved, 1> forward_in_parts(View<const Index, 2> ids, Rows<T> z,
                                  Context& ctx) const requires TrainableStorage<W, T> {
    expect_shape(z, {ids.extent(0), tower.projection.out()}, "ClipText::forward_in_parts: z");
    return detail::in_parts<Saved>(
        tower.training_parts(ids.extent(0), rows_of(ids)),
        [&](Index begin, Index end) { return forward(ids.rows(begin, end), z.rows(begin, end), ctx); }, ctx);
  }

  /// forward that keeps nothing.
  void encode(View<const Index, 2> ids, Rows<T> z, Context& ctx) const {
    expect_shape(z, {ids.extent(0), tower.projection.out()}, "ClipText::encode: z");
    if (ids.extent(0) == 0) return;
    tower.for_each_part(ids.extent(0), rows_of(ids), ctx, [&](Index begin, Index end) {
      const auto scope = ctx.workspace.scope();
      Saved saved;
      tower.encode(embed(ids.rows(begin, end), saved, ctx), z.rows(begin, end), ctx);
    });
  }

  void backward(const Saved& saved, Rows<const T> dz, ClipText& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    if (saved.rows == 0) return;
    const auto scope = ctx.workspace.scope();
    const auto dx = ctx.workspace.take<T>(saved.rows, tower.width());
    tower.backward(saved.tower, dz, dx, grad.tower, ctx);
    position.backward(saved.position, dx, grad.position, ctx);
    word_embed.backward(saved.words, dx, grad.word_embed, ctx);
  }

 private:
  /// Which token is read off. // ids [T]
  Index row_of(View<const Index, 1> ids) const {
    if (pool == ClipTextPool::end || ids.extent(0) == 0) return end_of(ids);
    return pool == ClipTextPool::first ? 0 : ids.extent(0) - 1;
  }
  /// How many tokens have influence on it. // ids [T]
  Index length_of(View<const Index, 1> ids) const { return causal ? row_of(ids) + 1 : ids.extent(0); }
  /// In all of a batch. // ids [B, T]
  Index rows_of(View<const Index, 2> ids) const {
    Index rows = 0;
    for (Index b = 0; b < ids.extent(0); ++b) rows += length_of(ids[b]);
    return rows;
  }

  ClipTokens<T> embed(View<const Index, 2> ids, Saved& saved, Context& ctx) const {
    const Index batch = ids.extent(0);
    auto offset = ctx.workspace.take<Index>(batch + 1), last = ctx.workspace.take<Index>(batch);
    offset[0] = 0;
    for (Index b = 0; b < batch; ++b) {
      last[b] = offset[b] + row_of(ids[b]);
      offset[b + 1] = offset[b] + length_of(ids[b]);
    }
    auto packed_ids = ctx.workspace.take<Index>(offset[batch]);
    for (Index b = 0; b < batch; ++b)
      std::copy_n(ids[b].data(), offset[b + 1] - offset[b], packed_ids.data() + offset[b]);
    const auto x = ctx.workspace.take<T>(offset[batch], tower.width());
    saved.rows = offset[batch];
    saved.words = word_embed.forward(packed_ids, x, ctx);
    saved.position = position.forward(offset, x, ctx);
    return {x, detail::clip_layout(offset, ctx), last};
  }
};

/// CLIP (Radford et al. 2021, arXiv 2103.00020): a tower for images and one for texts that embed a picture and its
/// caption in the same place. With mixtures in place of feed-forward nets it is CLIP-MoE (arXiv 2409.19291).
/// Weights of others: models/clip_file.hpp.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct Clip {
  using Scalar = T;
  /// What a pass encodes; either part may be empty.
  struct Batch {
    View<const T, 4> images;   // [B, image_size, image_size, channels]
    View<const Index, 2> ids;  // [B', T]
  };
  struct Saved {
    typename ClipVision<T, W>::Saved vision;
    typename ClipText<T, W>::Saved text;
  };
  struct SavedInParts {
    View<typename ClipVision<T, W>::Saved, 1> vision;
    View<typename ClipText<T, W>::Saved, 1> text;
  };

  ClipOptions options;
  ClipVision<T, W> vision;
  ClipText<T, W> text;
  Tensor<T, 1> logit_scale;  // [1] the logarithm of the temperature

  /// Throws OptionError for options that contradict each other.
  explicit Clip(const ClipOptions& o) : options(o), vision(o), text(o), logit_scale({1}) {
    logit_scale.flat()[0] = T(std::log(o.initial_temperature));
  }
  static void visit(auto& v, auto&... self) {
    v("vision", self.vision...);
    v("text", self.text...);
    v("logit_scale", self.logit_scale...);
  }

  /// Embeddings, not normalised. Saved lives as long as the caller's workspace scope and the batch. Throws ShapeError.
  /// // z_image [B, P], z_text [B', P]
  Saved forward(const Batch& batch, Rows<T> z_image, Rows<T> z_text, Context& ctx) const {
    return {vision.forward(batch.images, z_image, ctx), text.forward(batch.ids, z_text, ctx)};
  }

  /// forward for training in parts: a step of a small model, whose activations are what costs, in 0.86 of the time.
  /// Gradients are those of forward but for rounding, and bitwise the same for any number of threads.
  SavedInParts forward_in_parts(const Batch& batch, Rows<T> z_image, Rows<T> z_text,
                                Context& ctx) const requires TrainableStorage<W, T> {
    return {vision.forward_in_parts(batch.images, z_image, ctx), text.forward_in_parts(batch.ids, z_text, ctx)};
  }

  /// forward of images alone, keeping nothing and so a little faster. // images [B, image_size, image_size, channels],
  /// z [B, P]
  void encode_images(View<const T, 4> images, Rows<T> z, Context& ctx) const { vision.encode(images, z, ctx); }

  /// forward of texts alone, likewise. // ids [B, T], z [B, P]
  void encode_texts(View<const Index, 2> ids, Rows<T> z, Context& ctx) const { text.encode(ids, z, ctx); }

  /// The balance of the experts in a pass, summed over the towers: what backward differentiates beside the loss on the
  /// embeddings, without being asked. 0 without mixtures.
  T aux_loss(const Saved& saved, Context& ctx) const {
    return vision.tower.aux_loss(saved.vision.tower, ctx) + text.tower.aux_loss(saved.text.tower, ctx);
  }

  T aux_loss(const SavedInParts& saved, Context& ctx) const {
    T sum(0);
    for (Index i = 0; i < saved.vision.extent(0); ++i) sum = sum + vision.tower.aux_loss(saved.vision[i].tower, ctx);
    for (Index i = 0; i < saved.text.extent(0); ++i) sum = sum + text.tower.aux_loss(saved.text[i].tower, ctx);
    return sum;
  }

  /// What the balance of the experts counts for from now on: the options' value divided by the number of chunks, say,
  /// where a batch is taken in chunks that have one each (accumulate_contrastive). Throws OptionError.
  void set_balance(double balance) {
    expect_rate("Clip::set_balance", "balance", balance);
    const auto set = [&](std::string_view, auto& mixture) { mixture.aux.coefficient = balance; };
    for_each_sparse(vision.tower.encoder, set);
    for_each_sparse(text.tower.encoder, set);
  }

  /// Adds to grad; the gradient of logit_scale comes from the loss on the embeddings. // dz_image [B, P], dz_text [B',
  /// P]
  void backward(const Saved& saved, Rows<const T> dz_image, Rows<const T> dz_text, Clip& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    vision.backward(saved.vision, dz_image, grad.vision, ctx);
    text.backward(saved.text, dz_text, grad.text, ctx);
  }

  void backward(const SavedInParts& saved, Rows<const T> dz_image, Rows<const T> dz_text, Clip& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    detail::backward_in_parts<T>(vision, saved.vision, dz_image, grad.vision, ctx);
    detail::backward_in_parts<T>(text, saved.text, dz_text, grad.text, ctx);
  }

  /// To be called after each step of training: the temperature stays in 1..max_temperature (open_clip).
  void clamp_temperature() {
    auto& t = logit_scale.flat()[0];
    const T most = T(std::log(options.max_temperature));
    if (most < t) t = most;
    if (t < T(0)) t = T(0);
  }

  /// The same model over other weights (module/pack.hpp); embeddings, norms and routers stay as they are.
  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    Clip<T, WeightBy<To, W>> other(options);
    vision.over_into(to, other.vision);
    other.text.word_embed = text.word_embed;
    other.text.position = text.position;
    text.tower.over_into(to, other.text.tower);
    other.logit_scale = logit_scale;
    return other;
  }
};

}  // namespace gatefold
