#pragma once
#include "gatefold/blocks/encoder.hpp"
#include "gatefold/blocks/sparse_layers.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/losses/balance.hpp"
#include "gatefold/models/clip_options.hpp"
#include "gatefold/nn/layout_scope.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/one_of.hpp"
#include "gatefold/nn/pool.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace gatefold {

template <Real T, Activation Act, WeightStorage<T> W>
using ClipMixtureNet = SparseMlp<TopKRouter<T>, Mlp<T, Act, W>, AuxLosses<Balance>>;
template <Real T, Activation Act, WeightStorage<T> W>
using ClipNet = OneOf<Mlp<T, Act, W>, ClipMixtureNet<T, Act, W>>;
/// Dense or a mixture, of either activation. Each choice is made once for a block, so the kernels do not see it.
template <Real T, WeightStorage<T> W>
using ClipFfn = OneOf<ClipNet<T, QuickGelu, W>, ClipNet<T, GeluErf, W>>;

/// What a tower works on.
template <Real T>
struct ClipTokens {
  Rows<const T> x;                      // [R, D]
  const TokenLayout* layout = nullptr;  // in the workspace, since backward needs it too
  View<const Index, 1> row;             // [B] the token of each sequence that is read off
};

namespace detail {
/// Sequences of one modality. // offset [B + 1]
inline const TokenLayout* clip_layout(View<const Index, 1> offset, Context& ctx) {
  const Index rows = offset[offset.extent(0) - 1];
  auto modality = ctx.workspace.take<std::uint8_t>(rows);
  std::fill_n(modality.data(), rows, std::uint8_t{0});
  auto layout = ctx.workspace.take<TokenLayout>(1);
  layout[0] = {.offset = offset, .modality = modality, .num_modalities = 1};
  return layout.data();
}
}  // namespace detail

/// What both halves of a CLIP have in common: blocks, a norm, and the projection of one token of each sequence, or of
/// their mean.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct ClipTower {
  using Scalar = T;
  using Mask = kernels::AttentionMask;
  using Block = EncoderBlock<ClipFfn<T, W>, Attention<T, W>>;
  struct Saved {
    const TokenLayout* layout = nullptr;
    View<const Index, 1> row;               // [B]
    const TokenLayout* averaged = nullptr;  // where a mean is taken: the layout in which the first tokens are padding
    typename Encoder<Block>::Saved encoder;
    typename Linear<T, W>::Saved projection;
  };

  Encoder<Block> encoder;
  Linear<T, W> projection;
  ClipPool pooling;
  BalanceOver balance_over;

  /// Throws OptionError for options that contradict each other.
  ClipTower(const ClipTowerOptions& o, Index embedding, Mask mask, ClipPool pool = ClipPool::token)
      : encoder({.width = o.width, .epsilon = o.epsilon}, checked(o).num_layers,
                [&](Index layer) { return make_block(o, mask, layer); }),
        projection({.in = o.width, .out = embedding, .bias = Bias::none}),
        pooling(pool),
        balance_over(o.mixture.balance_over) {}
  static void visit(auto& v, auto&... self) {
    v("encoder", self.encoder...);
    v("projection", self.projection...);
  }

  Index width() const { return encoder.norm.gain.extent(0); }

  /// z[b] = the projection of row[b], or of the mean. // z [B, P]
  Saved forward(const ClipTokens<T>& tokens, Rows<T> z, Context& ctx) const {
    const LayoutScope layout(ctx, *tokens.layout);
    Saved saved{.layout = tokens.layout, .row = tokens.row, .averaged = nullptr, .encoder = {}, .projection = {}};
    const Index rows = tokens.x.extent(0), sequences = tokens.row.extent(0);
    auto pooled = ctx.workspace.take<T>(sequences, width());
    if (pooling != ClipPool::token) saved.averaged = all_but_the_first(*tokens.layout, ctx);
    if (pooling == ClipPool::mean_then_norm) {
      auto mean = ctx.workspace.take<T>(sequences, width());
      pool<T>(Pooling::mean, encoder.forward_blocks(tokens.x, saved.encoder, ctx), *saved.averaged, mean, ctx);
      saved.encoder.norm = encoder.norm.forward(mean, pooled, ctx);
    } else {
      auto y = ctx.workspace.take<T>(rows, width());
      saved.encoder = encoder.forward(tokens.x, y, ctx);
      if (saved.averaged)
        pool<T>(Pooling::mean, y, *saved.averaged, pooled, ctx);
      else
        pool_at<T>(y, tokens.row, pooled, ctx);
    }
    if constexpr (TrainableStorage<W, T>)
      if (balance_over == BalanceOver::tower) count_choices(saved.encoder, ctx);
    saved.projection = projection.forward(pooled, z, ctx);
    return saved;
  }

  /// forward that keeps nothing, and of the last block computes only what is read off and the keys and values for it:
  /// 1 / 16 less work in 12 blocks. Not where all of it is read off, nor where that would change who gets a seat at an
  /// expert, a report or a calibration.
  void encode(const ClipTokens<T>& tokens, Rows<T> z, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    if (pooling != ClipPool::token || ctx.report || ctx.calibration || !turns_nobody_away(encoder.blocks.back())) {
      (void)forward(tokens, z, ctx);
      return;
    }
    const Index rows = tokens.x.extent(0), sequences = tokens.row.extent(0);
    Rows<const T> x = tokens.x;
    auto next = ctx.workspace.take<T>(rows, width()), other = ctx.workspace.take<T>(rows, width());
    auto read_off = ctx.workspace.take<T>(sequences, width()), y = ctx.workspace.take<T>(sequences, width());
    const Block& last = encoder.blocks.back();
    {
      const LayoutScope layout(ctx, *tokens.layout);
      for (const Block& block : std::span(encoder.blocks).first(encoder.blocks.size() - 1)) {
        infer(block, x, next, ctx);
        x = next;
        std::swap(next, other);
      }
      last.attention.infer_at(x, tokens.row, read_off, ctx);
    }
    auto offset = ctx.workspace.take<Index>(sequences + 1);
    for (Index b = 0; b <= sequences; ++b) offset[b] = b;
    const LayoutScope layout(ctx, *detail::clip_layout(offset, ctx));
    infer(last.ffn, read_off, y, ctx);
    (void)encoder.norm.forward(y, read_off, ctx);
    (void)projection.forward(read_off, z, ctx);
  }

  /// body(begin, end) for the parts of a batch that are best encoded one after the other: so small that what passes
  /// from layer to layer stays in the caches. The whole batch where sequences contend for seats or share a report or
  /// noise, and where the weights are packed in each call. `rows` are the tokens of all sequences.
  template <class Body>
  void for_each_part(Index sequences, Index rows, const Context& ctx, Body&& body) const {
    const bool apart = !TrainableStorage<W, T> && !ctx.report && !ctx.rng &&
                       std::ranges::all_of(encoder.blocks, &ClipTower::turns_nobody_away);
    const Index most = 2 * kernels::kPackedRows * ctx.parallel_for.workers();
    const Index parts = apart ? std::max<Index>(1, (rows + most - 1) / most) : 1;
    const kernels::BalancedSplit split(sequences, (sequences + parts - 1) / parts);
    for (Index i = 0; i < split.count; ++i) body(split.begin(i), split.begin(i + 1));
  }

  /// The parts in which training takes a batch, likewise: each of about kPartTokens, whatever the number of threads,
  /// which decides nothing then. A tower with mixtures takes it whole, since their balance is one of the whole batch.
  kernels::BalancedSplit training_parts(Index sequences, Index rows) const requires TrainableStorage<W, T> {
    // So few tokens that what a block hands from one product to the next stays in L2, so many that the gradients, which
    // each part adds to, cost little.
    constexpr Index kPartTokens = 2048;
    const bool dense = std::ranges::all_of(encoder.blocks, [](const Block& block) {
      return std::visit([](const auto& net) { return net.layer.index() == 0; }, block.ffn.inner.layer);
    });
    const Index parts = dense ? std::max<Index>(1, (rows + kPartTokens - 1) / kPartTokens) : 1;
    return {sequences, std::max<Index>(1, (sequences + parts - 1) / parts)};
  }

  /// dz [B, P], dx [R, D]
  void backward(const Saved& saved, Rows<const T> dz, Rows<T> dx, ClipTower& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    const auto scope = ctx.workspace.scope();
    const LayoutScope layout(ctx, *saved.layout);
    auto dpooled = ctx.workspace.take<T>(dz.extent(0), width());
    projection.backward(saved.projection, dz, dpooled, grad.projection, ctx);
    if (pooling == ClipPool::mean_then_norm) {
      auto dmean = ctx.workspace.take<T>(dz.extent(0), width());
      encoder.norm.backward(saved.encoder.norm, dpooled, dmean, grad.encoder.norm, ctx);
      encoder.backward_blocks(
          saved.encoder, [&](Rows<T> d) { pool_grad<T>(Pooling::mean, dmean, *saved.averaged, d, ctx); }, dx,
          grad.encoder, ctx);
      return;
    }
    auto dy = ctx.workspace.take<T>(dx.extent(0), width());
    if (saved.averaged)
      pool_grad<T>(Pooling::mean, dpooled, *saved.averaged, dy, ctx);
    else
      pool_at_grad<T>(dpooled, saved.row, dy, ctx);
    encoder.backward(saved.encoder, dy, dx, grad.encoder, ctx);
  }

  /// The balance of the mixtures in a pass, what backward differentiates beside the loss on the embeddings.
  T aux_loss(const Saved& saved, Context& ctx) const {
    if (!saved.layout) return T(0);
    return encoder.recompute ? saved.encoder.aux : gatefold::aux_loss(encoder, saved.encoder, ctx);
  }

  template <class To>
  void over_into(const To& to, ClipTower<T, WeightBy<To, W>>& other) const {
    other.encoder = encoder.over(to);
    other.projection = projection.over(to);
  }

  /// The router of the mixtures of a tower, without weights yet.
  static TopKRouter<T> make_router(const ClipTowerOptions& o) {
    return TopKRouter<T>({.width = o.width,
                          .num_experts = o.mixture.num_experts,
                          .num_selected = o.mixture.num_selected,
                          .capacity = o.mixture.capacity,
                          .renormalise = Renormalise::before_dropping});
  }
  /// A mixture of copies of one net.
  template <Activation Act>
  static ClipMixtureNet<T, Act, W> make_mixture(const ClipTowerOptions& o, const Mlp<T, Act, W>& net) {
    AuxLosses<Balance> aux;
    aux.coefficient = o.mixture.balance;
    if (o.mixture.balance_over == BalanceOver::tower) std::get<0>(aux.terms).loss.picks = Balance::Picks::any;
    ClipMixtureNet<T, Act, W> mixture(make_router(o), net, aux);
    mixture.aux_scale = 1.0 / static_cast<double>(o.mixture.placement.layers.size());
    return mixture;
  }

 private:
  /// Tells each mixture what the others of the tower chose.
  void count_choices(typename Encoder<Block>::Saved& saved, Context& ctx) const requires TrainableStorage<W, T> {
    if (encoder.recompute)
      throw OptionError(
          "ClipTower: BalanceOver::tower with recompute, expected BalanceOver::block: the choices of all "
          "mixtures are known only when their passes are gone");
    double tokens = 0;
    View<double, 1> all;
    for_each_sparse(encoder, saved, [&](std::string_view, const auto& mixture, auto& kept) {
      auto& scores = kept.routing.scores;
      if (!all.size()) all = ctx.workspace.take_zeroed<double>(scores.num_experts());
      auto own = ctx.workspace.take_zeroed<double>(scores.num_experts());
      scores.beside = {own, std::get<0>(mixture.aux.terms).loss.count(scores, own, ctx)};
      for (Index e = 0; e < own.extent(0); ++e) all[e] += own[e];
      tokens += scores.beside.tokens;
    });
    for_each_sparse(encoder, saved, [&](std::string_view, const auto&, auto& kept) {
      auto& beside = kept.routing.scores.beside;
      auto others = ctx.workspace.take<double>(all.extent(0));
      for (Index e = 0; e < all.extent(0); ++e) others[e] = all[e] - beside.choices[e];
      beside = {others, tokens - beside.tokens};
    });
  }

  static const TokenLayout* all_but_the_first(const TokenLayout& layout, Context& ctx) {
    const Index rows = layout.offset[layout.num_sequences()];
    auto modality = ctx.workspace.take<std::uint8_t>(rows);
    std::fill_n(modality.data(), rows, std::uint8_t{0});
    for (Index b = 0; b < layout.num_sequences(); ++b) modality[layout.offset[b]] = kPadding;
    auto averaged = ctx.workspace.take<TokenLayout>(1);
    averaged[0] = {.offset = layout.offset, .modality = modality, .num_modalities = 1};
    return averaged.data();
  }

  static bool turns_nobody_away(const Block& block) {
    return std::visit(
        [](const auto& net) {
          const auto* mixture = std::get_if<1>(&net.layer);
          return !mixture || std::isinf(mixture->router.options.capacity.factor);
        },
        block.ffn.inner.layer);
  }

  static const ClipTowerOptions& checked(const ClipTowerOptions& o) {
    expect_option(o.width >= 1 && o.hidden >= 1 && o.num_layers >= 1 && o.num_heads >= 1,
                  "ClipTower: width, hidden, num_layers and num_heads are " + std::to_string(o.width) + ", " +
                      std::to_string(o.hidden) + ", " + std::to_string(o.num_layers) + ", " +
                      std::to_string(o.num_heads) + ", expected 1 or more");
    for (const Index layer : o.mixture.placement.layers)
      expect_option(0 <= layer && layer < o.num_layers, "ClipTower: sparse layer " + std::to_string(layer) +
                                                            " does not exist, expected 0.." +
                                                            std::to_string(o.num_layers - 1));
    return o;
  }

  template <Activation Act>
  static ClipFfn<T, W> make_ffn(const ClipTowerOptions& o, Index layer) {
    Mlp<T, Act, W> net({.width = o.width, .hidden = o.hidden});
    using Net = ClipNet<T, Act, W>;
    if (o.mixture.placement.is_sparse(layer)) return ClipFfn<T, W>(Net(make_mixture<Act>(o, net)));
    return ClipFfn<T, W>(Net(std::move(net)));
  }

  static Block make_block(const ClipTowerOptions& o, Mask mask, Index layer) {
    const bool quick = o.activation == ClipActivation::quick_gelu;
    Block block({.width = o.width, .num_heads = o.num_heads, .mask = mask},
                quick ? make_ffn<QuickGelu>(o, layer) : make_ffn<GeluErf>(o, layer));
    block.attention.norm.epsilon = block.ffn.norm.epsilon = o.epsilon;
    return block;
  }
};

}  // namespace gatefold
