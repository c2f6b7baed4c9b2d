#pragma once
#include "gatefold/blocks/encoder_block.hpp"
#include "gatefold/blocks/sparse_layers.hpp"

namespace gatefold {

/// Blocks one after the other, then a norm, or Identity for none. Blocks that cannot be trained keep nothing.
///
/// With `recompute`, a pass keeps what goes into each block, R D, instead of all that its backward needs, about 16 R D
/// in a transformer; backward runs each block forward once more, a third more work in all (Chen et al. 2016, «Training
/// deep nets with sublinear memory cost», arXiv 1604.06174). The second pass repeats the first, routing noise too, so
/// gradients keep every bit; ctx.report sees the first only. A ctx.tape is refused: it would see layers twice.
template <class BlockType, class Norm = LayerNorm<typename BlockType::Scalar>>
struct Encoder {
  static_assert(ForwardLayer<BlockType>, "Encoder is a chain of layers");
  using Block = BlockType;
  using Scalar = typename Block::Scalar;
  static constexpr bool kMixesRows = MixesRows<Block>;
  struct Saved {
    View<typename Block::Saved, 1> blocks;  // [L], none with recompute, but:
    View<Rows<const Scalar>, 1> inputs;     // [L] of each block
    View<Rng::State, 1> rng;                // [L] where noise stood before each block, if there was any
    const TokenLayout* layout = nullptr;    // a copy
    Scalar aux{};                           ///< The penalties on the routing, as aux_loss has them.
    typename Norm::Saved norm;
  };

  std::vector<Block> blocks;
  Norm norm;
  bool recompute = false;  ///< Memory for time, of training; for each pass: forward and its backward.

  /// One block for each call of make(layer). Throws OptionError for a negative number of them.
  template <class Make>
  Encoder(typename Norm::Options o, Index num_layers, Make&& make) : Encoder(Norm(o), num_layers, make) {}
  template <class Make>
  Encoder(Norm n, Index num_layers, Make&& make) : norm(std::move(n)) {
    expect_option(num_layers >= 0, "Encoder", "num_layers", num_layers, "at least 0");
    blocks.reserve(static_cast<std::size_t>(num_layers));
    for (Index layer = 0; layer < num_layers; ++layer) blocks.push_back(make(layer));
  }
  static void visit(auto& v, auto&... self) {
    v("blocks", self.blocks...);
    v("norm", self.norm...);
  }
  static void visit_layers(auto& v, auto& self, auto&... saved) {
    if constexpr (sizeof...(saved) > 0)
      if (self.recompute)
        throw OptionError(
            "Encoder: a pass with recompute does not keep its blocks' routing, expected one without; what "
            "the penalties come to is in Saved::aux");
    for (std::size_t i = 0; i < self.blocks.size(); ++i)
      v("blocks." + std::to_string(i), self.blocks[i], saved.blocks[static_cast<Index>(i)]...);
  }

  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    if constexpr (!Layer<Block>) {
      const auto scope = ctx.workspace.scope();
      Saved saved;
      (void)norm.forward(forward_blocks(x, saved, ctx), y, ctx);
      return {};
    }
    Saved saved;
    saved.norm = norm.forward(forward_blocks(x, saved, ctx), y, ctx);
    return saved;
  }

  /// The blocks alone, for a model that does something else before the norm. What comes back lies in the workspace.
  Rows<const Scalar> forward_blocks(Rows<const Scalar> x, Saved& saved, Context& ctx) const {
    const Index rows = x.extent(0), width = x.extent(1);
    if constexpr (Layer<Block>) {
      if (recompute) return forward_to_recompute(x, saved, ctx);
      saved.blocks = ctx.workspace.template take<typename Block::Saved>(static_cast<Index>(blocks.size()));
      for (std::size_t layer = 0; layer < blocks.size(); ++layer) {
        auto next = ctx.workspace.template take<Scalar>(rows, width);
        saved.blocks[static_cast<Index>(layer)] = blocks[layer].forward(x, next, ctx);
        x = next;
      }
    } else {  // two buffers in turn, whatever the depth
      auto next = ctx.workspace.template take<Scalar>(rows, width);
      auto other = ctx.workspace.template take<Scalar>(rows, width);
      for (const Block& block : blocks) {
        infer(block, x, next, ctx);
        x = next;
        std::swap(next, other);
      }
    }
    return x;
  }

  void backward(const Saved& saved, Rows<const Scalar> dy, Rows<Scalar> dx, Encoder& grad,
                Context& ctx) const requires Layer<Block> {
    backward_blocks(
        saved, [&](Rows<Scalar> here) { norm.backward(saved.norm, dy, here, grad.norm, ctx); }, dx, grad, ctx);
  }

  /// Of forward_blocks: begin(d) writes the gradient of its result.
  template <class Begin>
  void backward_blocks(const Saved& saved, Begin&& begin, Rows<Scalar> dx, Encoder& grad,
                       Context& ctx) const requires Layer<Block> {
    const auto scope = ctx.workspace.scope();
    if (grad.blocks.size() != blocks.size())
      throw ShapeError("Encoder::backward: the gradient has " + std::to_string(grad.blocks.size()) +
                       " blocks, expected " + std::to_string(blocks.size()));
    auto other = ctx.workspace.template take<Scalar>(dx.extent(0), dx.extent(1));
    // The gradient moves between dx and `other`, so that the last block writes dx.
    Rows<Scalar> here = blocks.size() % 2 == 0 ? dx : other, there = blocks.size() % 2 == 0 ? other : dx;
    begin(here);
    for (std::size_t layer = blocks.size(); layer-- > 0;) {
      const auto at = static_cast<Index>(layer);
      if (saved.inputs.size())
        recompute_block(saved, at, here, there, grad.blocks[layer], ctx);
      else
        blocks[layer].backward(saved.blocks[at], here, there, grad.blocks[layer], ctx);
      std::swap(here, there);
    }
  }

  /// One for each block, so that their lengths may differ. // [L]
  template <class F>
  auto cache(const CacheOptions& o) const requires Remembers<Block> {
    std::vector<CacheOf<F, Block>> all;
    all.reserve(blocks.size());
    for (const Block& block : blocks) all.push_back(make_cache<F>(block, o));
    return all;
  }
  void decode(Rows<const Scalar> x, Rows<Scalar> y, auto& cache, Context& ctx) const requires Remembers<Block> {
    if (cache.size() != blocks.size())
      throw ShapeError("Encoder::decode: the cache is of " + std::to_string(cache.size()) + " blocks, expected " +
                       std::to_string(blocks.size()));
    auto next = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
    auto other = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
    for (std::size_t layer = 0; layer < blocks.size(); ++layer) {
      decode_part(blocks[layer], x, next, cache[layer], ctx);
      x = next;
      std::swap(next, other);
    }
    (void)norm.forward(x, y, ctx);
  }

  template <class To>
  auto over(const To& to) const {
    return Encoder<decltype(with_weights(blocks[0], to)), Norm>(norm, std::ssize(blocks), [&](Index layer) {
      return with_weights(blocks[static_cast<std::size_t>(layer)], to);
    });
  }

 private:
  Rows<const Scalar> forward_to_recompute(Rows<const Scalar> x, Saved& saved, Context& ctx) const {
    if (ctx.tape)
      throw OptionError(
          "Encoder: recompute with a ctx.tape, expected one of them: the tape would see each layer in "
          "forward and in backward");
    const auto depth = static_cast<Index>(blocks.size());
    saved.inputs = ctx.workspace.template take<Rows<const Scalar>>(depth);
    if (ctx.rng) saved.rng = ctx.workspace.template take<Rng::State>(depth);
    saved.layout = keep_layout(ctx);
    for (Index layer = 0; layer < depth; ++layer) {
      const Block& block = blocks[static_cast<std::size_t>(layer)];
      saved.inputs[layer] = x;
      if (ctx.rng) saved.rng[layer] = ctx.rng->state();
      auto next = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
      const auto scope = ctx.workspace.scope();
      const auto kept = block.forward(x, next, ctx);
      saved.aux = saved.aux + aux_loss(block, kept, ctx);
      x = next;
    }
    return x;
  }

  /// Forward again, as it was, then backward.
  void recompute_block(const Saved& saved, Index layer, Rows<const Scalar> dy, Rows<Scalar> dx, Block& grad,
                       Context& ctx) const requires Layer<Block> {
    const auto scope = ctx.workspace.scope();
    const Block& block = blocks[static_cast<std::size_t>(layer)];
    const Rows<const Scalar> x = saved.inputs[layer];
    auto y = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
    Rng noise(saved.rng.size() ? saved.rng[layer] : Rng::State());
    Rng* const rng = std::exchange(ctx.rng, saved.rng.size() ? &noise : nullptr);
    const auto* const layout = std::exchange(ctx.layout, saved.layout);
    auto* const report = std::exchange(ctx.report, nullptr);
    auto* const calibration = std::exchange(ctx.calibration, nullptr);
    const struct Restore {
      Context& ctx;
      Rng* rng;
      const TokenLayout* layout;
      RoutingReport* report;
      Calibration* calibration;
      ~Restore() { ctx.rng = rng, ctx.layout = layout, ctx.report = report, ctx.calibration = calibration; }
    } restore{ctx, rng, layout, report, calibration};
    block.backward(block.forward(x, y, ctx), dy, dx, grad, ctx);
  }
};

}  // namespace gatefold
