#pragma once
#include "gatefold/losses/limoe_losses.hpp"
#include "gatefold/models/sparse_trunk.hpp"
#include "gatefold/nn/embedding.hpp"
#include "gatefold/nn/layout_scope.hpp"
#include "gatefold/nn/padding.hpp"
#include "gatefold/nn/patch_embed.hpp"
#include "gatefold/nn/pool.hpp"
#include "gatefold/nn/position.hpp"

namespace gatefold {

/// Modalities of a LIMoE, as its TokenLayout numbers them.
inline constexpr std::uint8_t kImage = 0, kText = 1;

/// How a LIMoE is made; sizes with the axis letters of core/shape.hpp.
struct LimoeOptions {
  enum class Towers { one, two };
  Index image_size = 48, patch = 6, channels = 3;
  Index vocabulary = 0, max_text_tokens = 24;
  Index width = 128, hidden = 512, num_layers = 4, num_heads = 4, embedding = 128;  // D, H, -, -, P
  Towers towers = Towers::one;  ///< Two: the same trunk once for images and once for text.
  Placement sparse;             ///< Blocks whose feed-forward net is a mixture; none makes a dense model.
  Index num_experts = 8, num_selected = 1;
  Capacity capacity{.factor = 1.25};
  Priority priority = Priority::max_gate;
  double router_noise = 0;
  LimoeLossOptions aux;
  double initial_temperature = 10, max_temperature = 100;  ///< What the cosine is multiplied by.
};

/// LIMoE (Mustafa et al. 2022, arXiv 2206.02770): one transformer encodes images and texts alike. Each modality has its
/// own way in (patches, words) and out (projection); between them every token of the batch, of either kind, goes to the
/// same routers, which are not told its modality. Sequences are packed: text has no padding.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct Limoe {
  using Scalar = T;
  using Parts = SparseTrunk<T, W, LimoeLosses>;
  using Sparse = typename Parts::Sparse;
  using Trunk = typename Parts::Trunk;

  /// What a pass encodes; either part may be empty.
  struct Batch {
    View<const T, 4> images;           // [B, image_size, image_size, channels]
    View<const Index, 1> ids;          // words of all texts, one after the other
    View<const Index, 1> text_offset;  // [B' + 1] where each text begins in ids

    Index num_images() const { return images.extent(0); }
    Index num_texts() const { return std::max<Index>(0, text_offset.extent(0) - 1); }
  };
  /// One run of a trunk: some sequences and their rows.
  struct Run {
    std::size_t trunk = 0;
    Index first_row = 0, first_sequence = 0, num_rows = 0;
    const TokenLayout* layout = nullptr;  // in the workspace, since backward needs it too
    typename Trunk::Saved saved;
  };
  struct Saved {
    typename PatchEmbed<T, W>::Saved patches;
    typename Embedding<T>::Saved words;
    typename LearnedPosition<T>::Saved text_position;
    std::array<Run, 2> runs;
    std::size_t num_runs = 0;
    typename Linear<T, W>::Saved image_projection, text_projection;
    Index image_rows = 0, num_images = 0;
  };

  LimoeOptions options;
  PatchEmbed<T, W> patch_embed;
  Tensor<T, 2> image_position;  // [patches, D], fixed
  Embedding<T> word_embed;
  LearnedPosition<T> text_position;
  std::vector<Trunk> trunks;  // one, or image and text
  Linear<T, W> image_projection, text_projection;
  Tensor<T, 1> log_temperature;  // [1]

  /// Throws OptionError for options that contradict each other.
  explicit Limoe(const LimoeOptions& o)
      : options(checked(o)),
        patch_embed({.patch = o.patch, .channels = o.channels, .width = o.width}),
        image_position(sincos2d<T>(
            {.height = o.image_size / o.patch, .width_in_patches = o.image_size / o.patch, .width = o.width})),
        word_embed({.vocabulary = o.vocabulary, .width = o.width}),
        text_position({.length = o.max_text_tokens, .width = o.width}),
        image_projection({.in = o.width, .out = o.embedding, .bias = Bias::none}),
        text_projection({.in = o.width, .out = o.embedding, .bias = Bias::none}),
        log_temperature({1}) {
    log_temperature.flat()[0] = T(std::log(o.initial_temperature));
    // The mean over sparse layers, as in LIMoE, so that a deeper model is not regularised more.
    const double aux_scale = 1.0 / static_cast<double>(std::max<std::size_t>(1, o.sparse.layers.size()));
    for (int tower = 0; tower < (o.towers == LimoeOptions::Towers::one ? 1 : 2); ++tower)
      trunks.push_back(Parts::make(o, 0, limoe_losses(o.aux), aux_scale));
  }

  static void visit(auto& v, auto&... self) {
    v("patch_embed", self.patch_embed...);
    v("word_embed", self.word_embed...);
    v("text_position", self.text_position...);
    v("trunks", self.trunks...);
    v("image_projection", self.image_projection...);
    v("text_projection", self.text_projection...);
    v("log_temperature", self.log_temperature...);
  }

  /// First weights: initialise_matrices, then embeddings and routers normal with 0.02.
  void initialise(Rng& rng, Context& ctx) {
    initialise_matrices(*this, options.num_layers, rng, ctx);
    init::truncated_normal(word_embed, rng, 0.02, ctx);
    init::truncated_normal(text_position, rng, 0.02, ctx);
    for (auto& trunk : trunks) initialise_routers(trunk, rng, ctx);
  }

  Index patches_per_image() const { return image_position.extent(0); }

  /// Seats for training are too few on purpose; for use they may be set to something else, or to none at all.
  void set_capacity(const Capacity& capacity) {
    options.capacity = capacity;
    for (auto& trunk : trunks)
      for_each_sparse(trunk, [&](std::string_view, Sparse& sparse) { sparse.router.options.capacity = capacity; });
  }

  /// The temperature learns freely below its bound, which it must not pass (open_clip: after each step).
  void clamp_temperature() {
    auto& t = log_temperature.flat()[0];
    const T most = T(std::log(options.max_temperature));
    if (most < t) t = most;
    if (t < T(0)) t = T(0);
  }

  /// Embeddings, not normalised. Saved lives as long as the caller's workspace scope and batch.ids. Throws ShapeError.
  /// // z_image [B, P], z_text [B', P]
  Saved forward(const Batch& batch, Rows<T> z_image, Rows<T> z_text, Context& ctx) const {
    const Index image_rows = batch.num_images() * patches_per_image(), text_rows = batch.ids.extent(0);
    const Index sequences = batch.num_images() + batch.num_texts();
    if (batch.num_images())
      expect_shape(batch.images, {batch.num_images(), options.image_size, options.image_size, options.channels},
                   "Limoe::forward: images");
    if (text_rows || batch.text_offset.extent(0))
      expect_sequences(batch.text_offset, text_rows, "Limoe::forward: text_offset");
    auto x = ctx.workspace.take<T>(image_rows + text_rows, options.width);
    auto y = ctx.workspace.take<T>(image_rows + text_rows, options.width);
    auto pooled = ctx.workspace.take<T>(sequences, options.width);
    Saved saved;
    saved.image_rows = image_rows;
    saved.num_images = batch.num_images();
    if (image_rows) {
      saved.patches = patch_embed.forward(batch.images, x.rows(0, image_rows), ctx);
      add_positions<T>(image_position, x.rows(0, image_rows), ctx);
    }
    if (text_rows) {
      const auto text = x.rows(image_rows, image_rows + text_rows);
      saved.words = word_embed.forward(batch.ids, text, ctx);
      saved.text_position = text_position.forward(batch.text_offset, text, ctx);
    }
    lay_out(batch, saved, ctx);
    for (std::size_t r = 0; r < saved.num_runs; ++r) {
      Run& run = saved.runs[r];
      const LayoutScope scope(ctx, *run.layout);
      const Index end = run.first_row + run.num_rows, end_sequence = run.first_sequence + run.layout->num_sequences();
      run.saved = trunks[run.trunk].forward(x.rows(run.first_row, end), y.rows(run.first_row, end), ctx);
      pool<T>(Pooling::mean, y.rows(run.first_row, end), *run.layout, pooled.rows(run.first_sequence, end_sequence),
              ctx);
    }
    saved.image_projection = image_projection.forward(pooled.rows(0, saved.num_images), z_image, ctx);
    saved.text_projection = text_projection.forward(pooled.rows(saved.num_images, sequences), z_text, ctx);
    return saved;
  }

  /// The penalties on the routing of a pass, the mean over the sparse blocks of each trunk, summed over trunks: what
  /// backward differentiates beside the loss on the embeddings, without being asked.
  T aux_loss(const Saved& saved, Context& ctx) const {
    T sum(0);
    for (std::size_t r = 0; r < saved.num_runs; ++r)
      for_each_sparse(
          trunks[saved.runs[r].trunk], saved.runs[r].saved,
          [&](std::string_view, const Sparse& sparse, const auto& kept) { sum = sum + sparse.aux_loss(kept, ctx); });
    return sum;
  }

  /// Adds to grad, the gradient of aux_loss included; that of log_temperature comes from the loss on the embeddings.
  /// Throws ShapeError. // dz_image [B, P], dz_text [B', P]
  void backward(const Saved& saved, Rows<const T> dz_image, Rows<const T> dz_text, Limoe& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    const auto scope = ctx.workspace.scope();
    const Index sequences = dz_image.extent(0) + dz_text.extent(0);
    Index rows = 0;
    for (std::size_t r = 0; r < saved.num_runs; ++r) rows += saved.runs[r].num_rows;
    auto dpooled = ctx.workspace.take<T>(sequences, options.width);
    auto dy = ctx.workspace.take<T>(rows, options.width);
    auto dx = ctx.workspace.take<T>(rows, options.width);
    image_projection.backward(saved.image_projection, dz_image, dpooled.rows(0, saved.num_images),
                              grad.image_projection, ctx);
    text_projection.backward(saved.text_projection, dz_text, dpooled.rows(saved.num_images, sequences),
                             grad.text_projection, ctx);
    for (std::size_t r = 0; r < saved.num_runs; ++r) {
      const Run& run = saved.runs[r];
      const LayoutScope layout(ctx, *run.layout);
      const Index end = run.first_row + run.num_rows, end_sequence = run.first_sequence + run.layout->num_sequences();
      pool_grad<T>(Pooling::mean, dpooled.rows(run.first_sequence, end_sequence), *run.layout,
                   dy.rows(run.first_row, end), ctx);
      trunks[run.trunk].backward(run.saved, dy.rows(run.first_row, end), dx.rows(run.first_row, end),
                                 grad.trunks[run.trunk], ctx);
    }
    if (saved.image_rows) patch_embed.backward(saved.patches, dx.rows(0, saved.image_rows), grad.patch_embed, ctx);
    if (rows > saved.image_rows) {
      const auto dtext = dx.rows(saved.image_rows, rows);
      word_embed.backward(saved.words, dtext, grad.word_embed, ctx);
      text_position.backward(saved.text_position, dtext, grad.text_position, ctx);
    }
  }

  /// The same model over other weights (module/pack.hpp); embeddings, norms and routers stay as they are.
  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    Limoe<T, WeightBy<To, W>> other(options);
    other.patch_embed = patch_embed.over(to);
    other.word_embed = word_embed;
    other.text_position = text_position;
    for (std::size_t t = 0; t < trunks.size(); ++t) other.trunks[t] = trunks[t].over(to);
    other.image_projection = image_projection.over(to);
    other.text_projection = text_projection.over(to);
    other.log_temperature = log_temperature;
    return other;
  }

 private:
  static const LimoeOptions& checked(const LimoeOptions& o) {
    const std::string_view who = "Limoe";
    expect_trunk_options(who, o);
    expect_size(who, "vocabulary", o.vocabulary);
    expect_size(who, "max_text_tokens", o.max_text_tokens);
    expect_size(who, "embedding", o.embedding);
    expect_option(o.initial_temperature > 0 && std::isfinite(o.initial_temperature), who, "initial_temperature",
                  o.initial_temperature, "a finite number above 0");
    expect_option(o.max_temperature >= 1, who, "max_temperature", o.max_temperature, "a number of at least 1");
    return o;
  }

  /// Images first, then texts: one run over all rows, or one for each tower that has any.
  void lay_out(const Batch& batch, Saved& saved, Context& ctx) const {
    const Index images = batch.num_images(), texts = batch.num_texts(), length = patches_per_image();
    const Index text_rows = batch.ids.extent(0);
    const auto add = [&](std::size_t trunk, Index num_images, Index num_texts) {
      const Index image_rows = num_images * length, own_text_rows = num_texts ? text_rows : 0;
      auto offset = ctx.workspace.take<Index>(num_images + num_texts + 1);
      auto modality = ctx.workspace.take<std::uint8_t>(image_rows + own_text_rows);
      for (Index b = 0; b <= num_images; ++b) offset[b] = b * length;
      for (Index b = 0; b < num_texts; ++b) offset[num_images + b + 1] = image_rows + batch.text_offset[b + 1];
      std::fill_n(modality.data(), image_rows, kImage);
      std::fill_n(modality.data() + image_rows, own_text_rows, kText);
      auto layout = ctx.workspace.take<TokenLayout>(1);
      layout[0] = {.offset = offset, .modality = modality, .num_modalities = 2};
      saved.runs[saved.num_runs++] = Run{.trunk = trunk,
                                         .first_row = num_images ? 0 : images * length,
                                         .first_sequence = num_images ? 0 : images,
                                         .num_rows = image_rows + own_text_rows,
                                         .layout = layout.data(),
                                         .saved = {}};
    };
    if (trunks.size() == 1) {
      if (images + texts) add(0, images, texts);
    } else {
      if (images) add(0, images, 0);
      if (texts) add(1, 0, texts);
    }
  }
};

}  // namespace gatefold
