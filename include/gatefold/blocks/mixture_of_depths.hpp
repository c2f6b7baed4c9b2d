#pragma once
#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include "gatefold/blocks/sparse_layers.hpp"
#include "gatefold/kernels/router_score.hpp"
#include "gatefold/module/decode.hpp"
#include "gatefold/module/pack.hpp"
#include "gatefold/nn/layout_scope.hpp"
#include "gatefold/nn/linear.hpp"
#include "gatefold/nn/padding.hpp"
#include "gatefold/nn/pool.hpp"
#include "gatefold/nn/residual.hpp"

namespace gatefold {

/// How a MixtureOfDepths chooses; fields may be set between passes, but for width.
struct MixtureOfDepthsOptions {
  /// share: of each sequence's tokens that may be skipped, the fixed share of the lowest scores is, as in training.
  /// threshold: a token is run if its own score is above the threshold, whatever else is in the batch.
  enum class Choice { share, threshold };
  /// What the score is a factor of, so that the router learns from the task: the feed-forward branch, as γ-MoD's code
  /// has it (for blocks of two branches), or all that the block adds.
  enum class Gate { net, block };
  /// Where the tokens that are run stand for rotary attention: one behind the other, as γ-MoD's code has it, or where
  /// they stand in their sequence.
  enum class Places { renumbered, kept };

  Index width = 0;            // D
  double skipped = 0.5;       ///< The share, in [0, 1]; the number of tokens is rounded down.
  std::uint32_t always = 0;   ///< Bit m: tokens of modality m are never skipped.
  bool first_always = false;  ///< Nor is the first token of a sequence: a class token.
  Choice choice = Choice::share;
  double threshold = 0.15;  ///< In [0, 1]; decoding always goes by it. γ-MoD: 0.005 of a prompt, 0.5 after it.
  Gate gate = Gate::net;
  Places places = Places::renumbered;
  double aux_weight = 0.1;  ///< Of the penalty, aux_loss. γ-MoD: 0.01, too little where steps are few.
};

namespace detail {
/// The norm before the first branch of a block, or Nothing.
template <class Block>
struct FirstNorm {
  using type = Nothing;
  using Saved = Nothing;
};
template <class Block, class L, class Norm>
constexpr Norm first_norm_of(Residual<L, Norm> Block::*);
template <class Block>
requires requires { first_norm_of(&Block::attention); }
struct FirstNorm<Block> {
  using type = decltype(first_norm_of(&Block::attention));
  using Saved = typename type::Saved;
};
/// A block of two branches: an EncoderBlock.
template <class B>
concept TwoBranches = requires(const B& block) {
  block.attention;
  block.ffn;
};
/// What a branch remembers: its part of the block's cache, nothing where the block remembers nothing.
template <std::size_t kBranch, class Cache>
auto& branch_cache(Cache& cache) {
  if constexpr (requires { std::tuple_size<Cache>::value; })
    return std::get<kBranch>(cache);
  else
    return cache;
}
}  // namespace detail

/// A block that runs on some of the tokens of each sequence; the others pass unchanged, bit for bit (Raposo et al.
/// 2024, «Mixture-of-Depths», arXiv 2404.02258; Luo et al. 2024, «γ-MoD», arXiv 2410.13859). A router of one row w
/// gives each token the score σ(w · norm(x)), with the norm of the block's first branch where it has one, else σ(w ·
/// x). Tokens that are run attend to one another only. The score is a factor of what they get: y = a + σ (f(a) - a).
///   MixtureOfDepths layer({.width = 96, .always = 1u << kQuestion}, block);
/// The block may be any layer on rows of sequences; a block of experts may stand in it, or it in an Encoder. NaN scores
/// are skipped where they may be. Its parameters are those of the block, by the same paths, and the router's.
/// 2 R D flops beside the block's on the tokens that are run; they are gathered once.
template <class Block>
struct MixtureOfDepths {
  static_assert(ForwardLayer<Block>, "MixtureOfDepths is around a layer");
  using Scalar = typename Block::Scalar;
  using Options = MixtureOfDepthsOptions;
  static constexpr bool kTrainable = Layer<Block>, kMixesRows = true;
  static constexpr bool kTwoBranches = detail::TwoBranches<Block>;
  static constexpr bool kNormed = !std::is_same_v<typename detail::FirstNorm<Block>::type, Nothing>;
  static constexpr Index kSkipped = -1, kNoToken = -2;

  struct Kept {
    typename Linear<Scalar>::Saved router;
    View<const Scalar, 1> logit, score;  // [R]
    View<const Index, 1> row;            // [K] those that are run
    View<const Index, 1> slot;           // [R] place in `row`, kSkipped, or kNoToken for padding
    typename Block::Saved block;
    Rows<const Scalar> from, to;  // [K, D] a and f(a)
    Index num_tokens = 0;         // N, padding not counted
    typename detail::FirstNorm<Block>::Saved norm;
  };
  using Saved = std::conditional_t<kTrainable, Kept, Nothing>;

  Options options;
  Linear<Scalar> router;  // [1, D] without bias; it stays dense where the block is packed
  Block block;

  /// The router starts at zero: all scores are 1/2, and of equal ones the first tokens are run. Throws OptionError.
  MixtureOfDepths(const Options& o, Block b)
      : options(checked(o)), router({.in = o.width, .out = 1, .bias = Bias::none}), block(std::move(b)) {}
  static void visit(auto& v, auto&... self) {
    v("router", self.router...);
    Block::visit(v, self.block...);
  }
  static void visit_layers(auto& v, auto& self, auto&... saved) { v("", self.block, saved.block...); }

  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    return keep<Saved>(ctx, [&] {
      Kept kept;
      const TokenLayout chosen = choose(kForward, x, y, options.choice, {}, kept, ctx);
      auto from = ctx.workspace.template take<Scalar>(kept.row.extent(0), x.extent(1));
      pool_at<Scalar>(x, kept.row, from, ctx);
      kept.from = from;
      if (kept.row.extent(0) > 0) {
        const LayoutScope scope(ctx, chosen);
        auto to = ctx.workspace.template take<Scalar>(from.extent(0), from.extent(1));
        if constexpr (kTwoBranches) {
          if (options.gate == Options::Gate::net) {
            auto mid = ctx.workspace.template take<Scalar>(from.extent(0), from.extent(1));
            kept.block.attention = block.attention.forward(from, mid, ctx);
            kept.block.ffn = block.ffn.forward(mid, to, ctx);
            kept.from = mid;
          } else {
            kept.block = block.forward(from, to, ctx);
          }
        } else {
          kept.block = block.forward(from, to, ctx);
        }
        kept.to = to;
      }
      combine(x, kept, y, ctx);
      return kept;
    });
  }

  void backward(const Saved& saved, Rows<const Scalar> dy, Rows<Scalar> dx, MixtureOfDepths& grad,
                Context& ctx) const requires kTrainable {
    const auto scope = ctx.workspace.scope();
    const Index rows = saved.slot.extent(0), width = options.width, run = saved.row.extent(0);
    expect_shape(dy, {rows, width}, "MixtureOfDepths::backward: dy");
    expect_shape(dx, {rows, width}, "MixtureOfDepths::backward: dx");
    auto dto = ctx.workspace.template take<Scalar>(run, width), dfrom = ctx.workspace.template take<Scalar>(run, width);
    auto dlogit = ctx.workspace.template take<Scalar>(rows, 1);
    penalty_grad(saved, dlogit, ctx);
    kernels::for_each_row(run, width, ctx, [&](Index j) {
      const Index i = saved.row[j];
      const Scalar* const d = dy.data() + i * dy.stride(0);
      const Scalar score = saved.score[i];
      dlogit(i, 0) = dlogit(i, 0) + score * (Scalar(1) - score) *
                                        kernels::simd::sum<Scalar>(
                                            ctx.isa, width, [](auto g, auto a, auto b) { return g * (b - a); }, d,
                                            &saved.from(j, 0), &saved.to(j, 0));
      kernels::simd::transform<Scalar>(
          ctx.isa, width, [=](auto g) { return g * score; }, &dto(j, 0), d);
    });
    const bool net_only = kTwoBranches && options.gate == Options::Gate::net;
    // What goes past f: dfrom += (1 - score) dy.
    const auto add_past = [&](Rows<Scalar> to) {
      kernels::for_each_row(run, width, ctx, [&](Index j) {
        const Index i = saved.row[j];
        const Scalar past = Scalar(1) - saved.score[i];
        kernels::simd::transform<Scalar>(
            ctx.isa, width, [=](auto old, auto g) { return old + past * g; }, &to(j, 0), &to(j, 0),
            dy.data() + i * dy.stride(0));
      });
    };
    if (run > 0) {
      if constexpr (kTwoBranches) {
        if (net_only) {
          auto dmid = ctx.workspace.template take<Scalar>(run, width);
          block.ffn.backward(saved.block.ffn, dto, dmid, grad.block.ffn, ctx);
          add_past(dmid);
          block.attention.backward(saved.block.attention, dmid, dfrom, grad.block.attention, ctx);
        }
      }
      if (!net_only) {
        block.backward(saved.block, dto, dfrom, grad.block, ctx);
        add_past(dfrom);
      }
    }
    auto drouted = ctx.workspace.template take<Scalar>(rows, width);
    router.backward(saved.router, dlogit, drouted, grad.router, ctx);
    if constexpr (kNormed) {
      auto dnormed = drouted;
      drouted = ctx.workspace.template take<Scalar>(rows, width);
      block.attention.norm.backward(saved.norm, dnormed, drouted, grad.block.attention.norm, ctx);
    }
    kernels::for_each_row(rows, width, ctx, [&](Index i) {
      const Index j = saved.slot[i];
      kernels::simd::transform<Scalar>(
          ctx.isa, width, [](auto a, auto b) { return a + b; }, dx.data() + i * dx.stride(0), &drouted(i, 0),
          j >= 0 ? &dfrom(j, 0) : dy.data() + i * dy.stride(0));
    });
  }

  /// aux_weight times the mean over the tokens of the cross-entropy between their scores and whether they were run, by
  /// which scores learn to say it themselves (masked routing learning); backward adds its gradient.
  Scalar aux_loss(const Saved& saved, Context&) const requires kTrainable {
    Wide<Scalar> sum(0.0);
    for (Index i = 0; i < saved.slot.extent(0); ++i) {
      if (saved.slot[i] == kNoToken) continue;
      const Scalar z = saved.logit[i];
      sum += Wide<Scalar>(kernels::softplus(saved.slot[i] >= 0 ? Scalar(Scalar(0) - z) : z));
    }
    return static_cast<Scalar>(sum) * penalty_of_a_token(saved);
  }

  /// The block's, of the tokens that were run, and how many there were of each sequence.
  template <class F>
  auto cache(const CacheOptions& o) const {
    return std::tuple(make_cache<F>(block, o), std::vector<Index>(static_cast<std::size_t>(o.sequences)));
  }
  /// A token is run, and remembered, if its score is above the threshold.
  void decode(Rows<const Scalar> x, Rows<Scalar> y, auto& cache, Context& ctx) const {
    Kept kept;
    auto& [inner, seen] = cache;
    const TokenLayout chosen =
        choose(kDecode, x, y, Options::Choice::threshold, {seen.data(), {std::ssize(seen)}}, kept, ctx);
    auto from = ctx.workspace.template take<Scalar>(kept.row.extent(0), x.extent(1));
    pool_at<Scalar>(x, kept.row, from, ctx);
    kept.from = from;
    if (kept.row.extent(0) > 0) {
      const LayoutScope scope(ctx, chosen);
      auto to = ctx.workspace.template take<Scalar>(from.extent(0), from.extent(1));
      if constexpr (kTwoBranches) {
        if (options.gate == Options::Gate::net) {
          auto mid = ctx.workspace.template take<Scalar>(from.extent(0), from.extent(1));
          decode_part(block.attention, from, mid, detail::branch_cache<0>(inner), ctx);
          decode_part(block.ffn, mid, to, detail::branch_cache<1>(inner), ctx);
          kept.from = mid;
        } else {
          decode_part(block, from, to, inner, ctx);
        }
      } else {
        decode_part(block, from, to, inner, ctx);
      }
      kept.to = to;
    }
    combine(x, kept, y, ctx);
  }

  template <class To>
  auto over(const To& to) const {
    MixtureOfDepths<decltype(with_weights(block, to))> other(options, with_weights(block, to));
    other.router = router;
    return other;
  }

 private:
  static Options checked(const Options& o) {
    const std::string_view who = "MixtureOfDepths";
    expect_size(who, "width", o.width);
    expect_option(o.skipped >= 0 && o.skipped <= 1, who, "skipped", o.skipped, "a share in [0, 1]");
    expect_option(o.threshold >= 0 && o.threshold <= 1, who, "threshold", o.threshold, "a score in [0, 1]");
    expect_rate(who, "aux_weight", o.aux_weight);
    Options all = o;
    if (!kTwoBranches) all.gate = Options::Gate::block;
    return all;
  }

  Scalar penalty_of_a_token(const Kept& kept) const {
    return Scalar(options.aux_weight / static_cast<double>(std::max<Index>(1, kept.num_tokens)));
  }
  /// aux_weight / N (score - whether it was run). // dlogit [R, 1]
  void penalty_grad(const Kept& kept, Rows<Scalar> dlogit, Context& ctx) const {
    const Scalar each = penalty_of_a_token(kept);
    kernels::for_each_row(dlogit.extent(0), 1, ctx, [&](Index i) {
      dlogit(i, 0) = kept.slot[i] == kNoToken ? Scalar(0) : each * (kept.score[i] - Scalar(kept.slot[i] >= 0 ? 1 : 0));
    });
  }

  /// y = a + score (f(a) - a) for the tokens that were run, x for the others.
  void combine(Rows<const Scalar> x, const Kept& kept, Rows<Scalar> y, Context& ctx) const {
    kernels::for_each_row(y.extent(0), y.extent(1), ctx, [&](Index i) {
      const Index j = kept.slot[i];
      Scalar* const out = y.data() + i * y.stride(0);
      if (j >= 0)
        kernels::simd::transform<Scalar>(
            ctx.isa, y.extent(1), [s = kept.score[i]](auto a, auto b) { return a + s * (b - a); }, out,
            &kept.from(j, 0), &kept.to(j, 0));
      else
        std::copy_n(x.data() + i * x.stride(0), y.extent(1), out);
    });
  }

  struct Names {
    std::string_view x, y, offset, modality, place, sequences{};
  };
  static constexpr Names kForward{
      "MixtureOfDepths::forward: x", "MixtureOfDepths::forward: y", "MixtureOfDepths::forward: ctx.layout->offset",
      "MixtureOfDepths::forward: ctx.layout->modality", "MixtureOfDepths::forward: ctx.layout->place"};
  static constexpr Names kDecode{"MixtureOfDepths::decode: x",
                                 "MixtureOfDepths::decode: y",
                                 "MixtureOfDepths::decode: ctx.layout->offset",
                                 "MixtureOfDepths::decode: ctx.layout->modality",
                                 "MixtureOfDepths::decode: ctx.layout->place",
                                 "MixtureOfDepths::decode: the cache's sequences"};

  /// Scores all tokens and chooses; the layout of those that are run. // seen [B] tokens before, none in forward
  TokenLayout choose(const Names& names, Rows<const Scalar> x, Rows<Scalar> y, Options::Choice choice,
                     View<Index, 1> seen, Kept& kept, Context& ctx) const {
    const Index rows = x.extent(0);
    expect_shape(x, {rows, options.width}, names.x);
    expect_shape(y, {rows, options.width}, names.y);
    const TokenLayout layout = ctx.layout ? *ctx.layout : one_sequence(rows, ctx.workspace);
    const Index sequences = layout.num_sequences();
    if (ctx.layout) {
      expect_sequences(layout.offset, rows, names.offset);
      expect_shape(layout.modality, {rows}, names.modality);
      if (layout.place.size()) expect_shape(layout.place, {rows}, names.place);
    }
    if (!names.sequences.empty()) expect_shape(seen, {sequences}, names.sequences);
    auto logit = ctx.workspace.template take<Scalar>(rows), score = ctx.workspace.template take<Scalar>(rows);
    Rows<const Scalar> routed = x;
    if constexpr (kNormed) {
      auto normed = ctx.workspace.template take<Scalar>(rows, options.width);
      kept.norm = block.attention.norm.forward(x, normed, ctx);
      routed = normed;
    }
    // Summed alike for any number of rows: whether a token is run does not depend on what else is in the batch.
    kernels::matmul<Scalar>(routed, router.weight, {logit.data(), {rows, 1}}, ctx, nullptr, kernels::SumOrder::alike);
    kept.router = {routed};
    auto slot = ctx.workspace.template take<Index>(rows);
    auto order = ctx.workspace.template take<Index>(rows);
    ctx.parallel_for(sequences, [&](Index first, Index last, Index) {
      for (Index b = first; b < last; ++b) {
        Index* const own = order.data() + layout.offset[b];
        Index count = 0;  // of tokens that may be skipped
        bool begins = !seen.size() || seen[b] == 0;
        for (Index i = layout.offset[b]; i < layout.offset[b + 1]; ++i) {
          score[i] = kernels::logistic(logit[i]);
          const auto modality = layout.modality[i];
          slot[i] = modality == kPadding ? kNoToken : 0;
          if (modality == kPadding) continue;
          const bool must = (options.first_always && begins) || (modality < 32 && (options.always >> modality & 1));
          begins = false;
          if (must) continue;
          if (choice == Options::Choice::threshold)
            slot[i] = to_double(score[i]) > options.threshold ? 0 : kSkipped;
          else
            own[count++] = i;
        }
        const auto skip = static_cast<Index>(options.skipped * static_cast<double>(count));
        // The lowest first, NaN below all; of equal ones the later.
        const auto before = [&](Index i, Index j) {
          const Scalar a = logit[i], b2 = logit[j];
          const bool nan_a = !(a == a), nan_b = !(b2 == b2);
          if (nan_a != nan_b) return nan_a;
          if (!nan_a && (a < b2 || b2 < a)) return a < b2;
          return j < i;
        };
        if (skip > 0 && skip < count) std::nth_element(own, own + skip, own + count, before);
        for (Index k = 0; k < skip; ++k) slot[own[k]] = kSkipped;
      }
    });
    Index run = 0;
    for (Index i = 0; i < rows; ++i) {
      kept.num_tokens += slot[i] != kNoToken;
      if (slot[i] >= 0) slot[i] = run++;
    }
    auto row = ctx.workspace.template take<Index>(run);
    auto offset = ctx.workspace.template take<Index>(sequences + 1);
    auto modality = ctx.workspace.template take<std::uint8_t>(run);
    const bool kept_places = options.places == Options::Places::kept;
    auto place = ctx.workspace.template take<Index>(kept_places ? run : 0);
    offset[0] = 0;
    for (Index b = 0, n = 0; b < sequences; offset[++b] = n) {
      Index token = seen.size() ? seen[b] : 0;
      for (Index i = layout.offset[b]; i < layout.offset[b + 1]; ++i) {
        if (slot[i] >= 0) {
          row[n] = i;
          modality[n] = layout.modality[i];
          if (kept_places) place[n] = layout.place.size() ? layout.place[i] : token;
          ++n;
        }
        token += slot[i] != kNoToken;
      }
      if (seen.size()) seen[b] = token;
    }
    kept.logit = logit;
    kept.score = score;
    kept.row = row;
    kept.slot = slot;
    return {.offset = offset, .modality = modality, .num_modalities = layout.num_modalities, .place = place};
  }
};

template <class Block>
MixtureOfDepths(const MixtureOfDepthsOptions&, Block) -> MixtureOfDepths<Block>;

}  // namespace gatefold
