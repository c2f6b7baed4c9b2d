#pragma once
#include <optional>

#include "gatefold/models/vision_encoder.hpp"
#include "gatefold/module/ops.hpp"
#include "gatefold/nn/embedding.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/one_of.hpp"
#include "gatefold/nn/pool.hpp"
#include "gatefold/nn/rms_norm.hpp"

namespace gatefold {

/// Modalities of a VisionLanguage, as its TokenLayout numbers them.
inline constexpr std::uint8_t kPicture = 0, kQuestion = 1, kAnswer = 2;

/// How a VisionLanguage is made; sizes with the axis letters of core/shape.hpp.
struct VisionLanguageOptions {
  /// From the rows of the vision encoder to those of the decoder: one map, or two with GELU between them (LLaVA-1.5).
  enum class Projector { linear, mlp };
  /// Whether words are told by the table that embeds them, or by a matrix of its own.
  enum class Head { tied, free };
  PatchEncoderOptions vision{};  ///< Says nothing where the vision encoder is another.
  Projector projector = Projector::linear;
  Index vocabulary = 0, context = 128;                            // V; tokens of a sequence at most, its picture's too
  Index width = 96, hidden = 256, num_layers = 8, num_heads = 4;  // D, H, -, -
  Index num_key_heads = 0, head_width = 0;                        ///< As Attention has them.
  double rotary_base = 10000;
  double epsilon = 1e-6;        ///< Of the norms.
  bool attention_bias = false;  ///< Qwen2 has one, but for what comes out.
  QueryKeyNorm query_key_norm = QueryKeyNorm::none;
  Head head = Head::tied;
};

/// A block of today's language models: RMS norms before the branches, causal attention with rotary positions and fewer
/// heads of keys than of queries, SwiGLU without biases.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
using DecoderBlock = EncoderBlock<GatedMlp<T, Silu, W>, Attention<T, W>, RmsNorm<T>>;

/// Throws OptionError for options that contradict each other.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
DecoderBlock<T, W> make_decoder_block(const VisionLanguageOptions& o) {
  typename Attention<T, W>::Options attention{.width = o.width,
                                              .num_heads = o.num_heads,
                                              .mask = kernels::AttentionMask::causal,
                                              .num_key_heads = o.num_key_heads,
                                              .head_width = o.head_width,
                                              .bias = o.attention_bias ? Bias::zero : Bias::none,
                                              .norm = o.query_key_norm,
                                              .norm_epsilon = o.epsilon};
  expect_size("VisionLanguage", "num_heads", o.num_heads);
  attention.rotary = {.width = o.head_width ? o.head_width : o.width / o.num_heads, .base = o.rotary_base};
  DecoderBlock<T, W> block(attention, GatedMlp<T, Silu, W>({.width = o.width, .hidden = o.hidden, .bias = Bias::none}));
  block.attention.norm.epsilon = block.ffn.norm.epsilon = o.epsilon;
  return block;
}

/// A language model that sees one picture before each text (the shape of LLaVA, arXiv 2304.08485; γ-MoD, arXiv
/// 2410.13859): an encoder makes rows of the picture, a projector takes them to the width of the decoder, where they
/// stand before the words. Sequences of any lengths are packed: no padding is computed, and the head sees only what it
/// is asked for. Both are open: Vision is any VisionEncoder, Layer any block that decodes. 2 (2 D² (1 + g) + 3 D H + T
/// D) flops a token and dense block, with g heads of keys for each of queries.
template <Real T, WeightStorage<T> W = Tensor<T, 2>, class Vision = PatchEncoder<T, W>,
          class Layer = DecoderBlock<T, W>>
struct VisionLanguage {
  static_assert(VisionEncoder<Vision>, "VisionLanguage sees by a VisionEncoder");
  using Scalar = T;
  using Options = VisionLanguageOptions;
  using Projector = OneOf<Linear<T, W>, Mlp<T, GeluErf, W>>;
  using Decoder = Encoder<Layer, RmsNorm<T>>;
  template <class F = T>
  using Cache = CacheOf<F, Decoder>;

  /// A picture and a text each: a question, and what answers it where that is known.
  struct Batch {
    View<const T, 4> images;           // [B, height, width, channels]
    View<const Index, 1> ids;          // words of all texts, one after the other
    View<const Index, 1> text_offset;  // [B + 1] where each text begins in ids
    View<const Index, 1> answer{};     // [B] where its answer begins in ids; empty for texts without answers

    Index num_sequences() const { return std::max<Index>(0, text_offset.extent(0) - 1); }
    Index answer_begin(Index b) const { return answer.size() ? answer[b] : text_offset[b + 1]; }
    /// N: each is to be told from all that comes before it.
    Index num_answer_tokens() const {
      Index n = 0;
      for (Index b = 0; b < num_sequences(); ++b) n += text_offset[b + 1] - answer_begin(b);
      return n;
    }
    /// The words of all answers, the labels of a CrossEntropy. // [N]
    View<const Index, 1> answer_tokens(Workspace& workspace) const {
      auto label = workspace.take<Index>(num_answer_tokens());
      Index n = 0;
      for (Index b = 0; b < num_sequences(); ++b)
        for (Index i = answer_begin(b); i < text_offset[b + 1]; ++i) label[n++] = ids[i];
      return label;
    }
  };
  struct Saved {
    typename Vision::Saved vision;
    typename Projector::Saved projector;
    typename Embedding<T>::Saved words;
    typename Decoder::Saved decoder;
    typename Linear<T, W>::Saved head;
    Rows<const T> normed;        // [N, D]
    View<const Index, 1> place;  // [R] rows of the decoder: of all pictures' rows, then of all words
    View<const Index, 1> row;    // [N] rows of the decoder before the answers' words
  };

  Options options;
  Vision vision;
  Projector projector;
  Embedding<T> words;
  Decoder decoder;
  std::optional<Linear<T, W>> head;  ///< None where it is tied.

  /// Throws OptionError for options that contradict each other.
  explicit VisionLanguage(
      const Options& o) requires std::same_as<Vision, PatchEncoder<T, W>> && std::same_as<Layer, DecoderBlock<T, W>>
      : VisionLanguage(o, Vision(o.vision), [&](Index) { return make_decoder_block<T, W>(o); }) {}
  /// Of another vision encoder, or of one block for each call of make(layer).
  template <std::invocable<Index> Make>
  VisionLanguage(const Options& o, Vision v, Make&& make)
      : options(checked(o)),
        vision(std::move(v)),
        projector(make_projector(o, vision.width())),
        words({.vocabulary = o.vocabulary, .width = o.width}),
        decoder({.width = o.width, .epsilon = o.epsilon}, o.num_layers, make) {
    expect_option(tokens_per_image() < o.context, "VisionLanguage", "context", o.context,
                  "more than the tokens of a picture");
    if (o.head == Options::Head::free) head = Linear<T, W>({.in = o.width, .out = o.vocabulary, .bias = Bias::none});
  }

  static void visit(auto& v, auto&... self) {
    v("vision", self.vision...);
    v("projector", self.projector...);
    v("words", self.words...);
    v("decoder", self.decoder...);
    v("head", self.head...);
  }
  static void visit_layers(auto& v, auto& self, auto&... saved) {
    v("vision", self.vision, saved.vision...);
    v("decoder", self.decoder, saved.decoder...);
  }

  Index tokens_per_image() const { return vision.tokens_per_image(); }
  /// Tokens of a sequence, its picture's too.
  Index length(const Batch& batch, Index b) const {
    return tokens_per_image() + batch.text_offset[b + 1] - batch.text_offset[b];
  }

  /// First weights: initialise_matrices in the decoder and in a vision encoder that can begin anew (one that comes
  /// trained stays as it is), words normal with 0.02, a head of its own zero, so that training starts from the loss of
  /// knowing nothing.
  void initialise(Rng& rng, Context& ctx) {
    if constexpr (requires { vision.initialise(rng, ctx); }) vision.initialise(rng, ctx);
    init::xavier_uniform(projector, rng, ctx);
    init::truncated_normal(words, rng, 0.02, ctx);
    initialise_matrices(decoder, options.num_layers, rng, ctx);
    initialise_routers(decoder, rng, ctx);
    if (head) init::zeros(*head, "weight");
  }

  /// The logits of each word of the answers, in their order. Saved lives as long as the caller's workspace scope and
  /// batch.ids. Throws ShapeError for texts without a picture or a word, and for sequences longer than the context.
  /// // logits [N, V]
  Saved forward(const Batch& batch, Rows<T> logits, Context& ctx) const {
    expect_batch(batch);
    expect_shape(logits, {batch.num_answer_tokens(), options.vocabulary}, "VisionLanguage::forward: logits");
    Saved saved;
    const TokenLayout layout = lay_out(batch, ctx);
    saved.row = rows_before_answers(batch, ctx);
    const auto x = embed(batch, layout, saved, ctx);
    auto chosen = ctx.workspace.take<T>(logits.extent(0), options.width);
    auto normed = ctx.workspace.take<T>(logits.extent(0), options.width);
    {
      const LayoutScope scope(ctx, layout);
      pool_at<T>(decoder.forward_blocks(x, saved.decoder, ctx), saved.row, chosen, ctx);
    }
    saved.decoder.norm = decoder.norm.forward(chosen, normed, ctx);
    saved.normed = normed;
    saved.head = tell(normed, logits, ctx);
    return saved;
  }

  /// Adds to grad, the gradient of the losses on the routing included (gatefold::aux_loss is their value). Throws
  /// ShapeError. // dlogits [N, V]
  void backward(const Saved& saved, Rows<const T> dlogits, VisionLanguage& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    const auto scope = ctx.workspace.scope();
    const Index width = options.width, rows = saved.place.extent(0), seen = rows - saved.words.ids.extent(0);
    const Index told = saved.row.extent(0);
    auto dnormed = ctx.workspace.take<T>(told, width), dchosen = ctx.workspace.take<T>(told, width);
    auto dx = ctx.workspace.take<T>(rows, width), dparts = ctx.workspace.take<T>(rows, width);
    auto dseen = ctx.workspace.take<T>(seen, vision.width());
    expect_shape(dlogits, {told, options.vocabulary}, "VisionLanguage::backward: dlogits");
    if (head.has_value() != grad.head.has_value())
      throw ShapeError("VisionLanguage::backward: the gradient has another head than the model, expected the same");
    if (head) {
      head->backward(saved.head, dlogits, dnormed, *grad.head, ctx);
    } else {
      expect_shape(grad.words.table.view(), words.table.shape(), "VisionLanguage::backward: grad.words.table");
      kernels::matmul_grad_input<T>(dlogits, words.table, dnormed, ctx);
      if (wants_gradient(words.table, ctx))
        kernels::add_matmul_grad_weight<T>(dlogits, saved.normed, grad.words.table, ctx);
    }
    decoder.norm.backward(saved.decoder.norm, dnormed, dchosen, grad.decoder.norm, ctx);
    decoder.backward_blocks(
        saved.decoder, [&](Rows<T> d) { pool_at_grad<T>(dchosen, saved.row, d, ctx); }, dx, grad.decoder, ctx);
    pool_at<T>(dx, saved.place, dparts, ctx);
    words.backward(saved.words, dparts.rows(seen, rows), grad.words, ctx);
    projector.backward(saved.projector, dparts.rows(0, seen), dseen, grad.projector, ctx);
    vision.backward(saved.vision, dseen, grad.vision, ctx);
  }

  /// What the decoder remembers of so many sequences (module/decode.hpp), numbers kept as F.
  template <class F = T>
  Cache<F> make_cache(Index sequences) const {
    return gatefold::make_cache<F>(decoder, {.capacity = options.context, .sequences = sequences});
  }
  /// The whole batch, answers too, goes into a cache; logits are of the word that follows each sequence. Keeps nothing
  /// else. Throws as forward, and CacheError. // logits [B, V]
  void prefill(const Batch& batch, Rows<T> logits, auto& cache, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    expect_batch(batch);
    expect_shape(logits, {batch.num_sequences(), options.vocabulary}, "VisionLanguage::prefill: logits");
    Saved saved;
    const TokenLayout layout = lay_out(batch, ctx);
    auto last = ctx.workspace.take<Index>(batch.num_sequences());
    for (Index b = 0; b < batch.num_sequences(); ++b) last[b] = layout.offset[b + 1] - 1;
    go_on(embed(batch, layout, saved, ctx), layout, last, logits, cache, ctx);
  }
  /// Words that go on from what is in a cache, any number for each sequence; logits are of what follows each of them.
  /// // ids [N], offset [B + 1], logits [N, V]
  void step(View<const Index, 1> ids, View<const Index, 1> offset, Rows<T> logits, auto& cache, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    expect_sequences(offset, ids.extent(0), "VisionLanguage::step: offset");
    expect_shape(logits, {ids.extent(0), options.vocabulary}, "VisionLanguage::step: logits");
    auto x = ctx.workspace.take<T>(ids.extent(0), options.width);
    (void)words.forward(ids, x, ctx);
    auto modality = ctx.workspace.take<std::uint8_t>(ids.extent(0));
    auto row = ctx.workspace.take<Index>(ids.extent(0));
    for (Index i = 0; i < ids.extent(0); ++i) modality[i] = kAnswer, row[i] = i;
    go_on(x, {.offset = offset, .modality = modality, .num_modalities = 3}, row, logits, cache, ctx);
  }

  /// The same model over other weights (module/pack.hpp); embeddings and norms stay as they are. A tied head becomes
  /// one of its own, since words are looked up in numbers and told by weights.
  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    using Other = VisionLanguage<T, WeightBy<To, W>, decltype(with_weights(vision, to)),
                                 decltype(with_weights(decoder.blocks[0], to))>;
    auto other_options = options;
    other_options.head = Options::Head::free;
    Other other(other_options, with_weights(vision, to),
                [&](Index layer) { return with_weights(decoder.blocks[static_cast<std::size_t>(layer)], to); });
    other.projector = with_weights(projector, to);
    other.words = words;
    other.decoder.norm = decoder.norm;
    if (head)
      other.head = head->over(to);
    else
      other.head->weight = to(words.table);
    return other;
  }

 private:
  static const Options& checked(const Options& o) {
    const std::string_view who = "VisionLanguage";
    expect_size(who, "vocabulary", o.vocabulary);
    expect_size(who, "context", o.context);
    expect_size(who, "width", o.width);
    expect_size(who, "hidden", o.hidden);
    expect_size(who, "num_layers", o.num_layers);
    return o;
  }
  static Projector make_projector(const Options& o, Index seen_width) {
    if (o.projector == Options::Projector::linear) return Projector(Linear<T, W>({.in = seen_width, .out = o.width}));
    Mlp<T, GeluErf, W> net({.width = seen_width, .hidden = o.width});
    net.down = Linear<T, W>({.in = o.width, .out = o.width});
    return Projector(std::move(net));
  }

  void expect_batch(const Batch& batch) const {
    const Index sequences = batch.num_sequences();
    const auto refuse = [](const std::string& why) { throw ShapeError("VisionLanguage: " + why); };
    if (batch.images.extent(0) != sequences)
      refuse("there are " + std::to_string(batch.images.extent(0)) + " pictures, expected one for each of the " +
             std::to_string(sequences) + " texts");
    if (sequences || batch.ids.extent(0))
      expect_sequences(batch.text_offset, batch.ids.extent(0), "VisionLanguage: batch.text_offset");
    if (batch.answer.size()) expect_shape(batch.answer, {sequences}, "VisionLanguage: batch.answer");
    for (Index b = 0; b < sequences; ++b) {
      const Index begin = batch.text_offset[b], end = batch.text_offset[b + 1];
      if (begin == end) refuse("text " + std::to_string(b) + " has no words, expected at least 1");
      if (length(batch, b) > options.context)
        refuse("sequence " + std::to_string(b) + " has " + std::to_string(tokens_per_image()) +
               " tokens of its picture and " + std::to_string(end - begin) + " words, expected at most " +
               std::to_string(options.context) + " (context) in all");
      if (batch.answer_begin(b) < begin || batch.answer_begin(b) > end)
        refuse("batch.answer[" + std::to_string(b) + "] is " + std::to_string(batch.answer[b]) + ", expected " +
               std::to_string(begin) + ".." + std::to_string(end));
    }
  }

  /// Each picture before its text. // in the workspace
  TokenLayout lay_out(const Batch& batch, Context& ctx) const {
    const Index sequences = batch.num_sequences(), seen = tokens_per_image();
    auto offset = ctx.workspace.take<Index>(sequences + 1);
    auto modality = ctx.workspace.take<std::uint8_t>(sequences * seen + batch.ids.extent(0));
    offset[0] = 0;
    for (Index b = 0; b < sequences; ++b) {
      const Index answer = batch.answer_begin(b) + (b + 1) * seen;
      offset[b + 1] = batch.text_offset[b + 1] + (b + 1) * seen;
      const auto mark = [&](Index begin, Index end, std::uint8_t what) {
        std::fill(modality.data() + begin, modality.data() + end, what);
      };
      mark(offset[b], offset[b] + seen, kPicture);
      mark(offset[b] + seen, answer, kQuestion);
      mark(answer, offset[b + 1], kAnswer);
    }
    return {.offset = offset, .modality = modality, .num_modalities = 3};
  }

  View<const Index, 1> rows_before_answers(const Batch& batch, Context& ctx) const {
    auto row = ctx.workspace.take<Index>(batch.num_answer_tokens());
    Index n = 0;
    for (Index b = 0; b < batch.num_sequences(); ++b)
      for (Index i = batch.answer_begin(b); i < batch.text_offset[b + 1]; ++i)
        row[n++] = (b + 1) * tokens_per_image() + i - 1;
    return row;
  }

  /// What goes into the decoder. // [R, D]
  Rows<const T> embed(const Batch& batch, const TokenLayout& layout, Saved& saved, Context& ctx) const {
    const Index sequences = batch.num_sequences(), seen = sequences * tokens_per_image();
    const Index rows = seen + batch.ids.extent(0);
    auto rows_seen = ctx.workspace.take<T>(seen, vision.width());
    auto parts = ctx.workspace.take<T>(rows, options.width), x = ctx.workspace.take<T>(rows, options.width);
    saved.vision = vision.forward(batch.images, rows_seen, ctx);
    saved.projector = projector.forward(rows_seen, parts.rows(0, seen), ctx);
    saved.words = words.forward(batch.ids, parts.rows(seen, rows), ctx);
    auto place = ctx.workspace.take<Index>(rows), part = ctx.workspace.take<Index>(rows);
    Index picture = 0, word = seen;
    for (Index i = 0; i < rows; ++i) {
      part[i] = layout.modality[i] == kPicture ? picture++ : word++;
      place[part[i]] = i;
    }
    saved.place = place;
    pool_at<T>(parts, part, x, ctx);
    return x;
  }

  /// The logits of the words. // normed [N, D], logits [N, V]
  typename Linear<T, W>::Saved tell(Rows<const T> normed, Rows<T> logits, Context& ctx) const {
    if (head) return head->forward(normed, logits, ctx);
    kernels::matmul<T>(normed, words.table, logits, ctx);
    return {};
  }

  /// New rows of the decoder go into a cache; logits are told from some of them. // x [R, D], row [N], logits [N, V]
  void go_on(Rows<const T> x, const TokenLayout& layout, View<const Index, 1> row, Rows<T> logits, auto& cache,
             Context& ctx) const {
    auto y = ctx.workspace.take<T>(x.extent(0), options.width);
    auto chosen = ctx.workspace.take<T>(row.extent(0), options.width);
    {
      const LayoutScope scope(ctx, layout);
      decode(decoder, x, y, cache, ctx);
    }
    pool_at<T>(y, row, chosen, ctx);
    (void)tell(chosen, logits, ctx);
  }
};

}  // namespace gatefold
