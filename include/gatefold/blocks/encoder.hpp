#pragma once
#include "gatefold/blocks/encoder_block.hpp"

namespace gatefold {

/// Blocks one after the other, then a layer norm. Blocks that cannot be trained keep nothing.
template <ForwardLayer BlockType>
struct Encoder {
  using Block = BlockType;
  using Scalar = typename Block::Scalar;
  struct Saved {
    View<typename Block::Saved, 1> blocks;  // [L]
    typename LayerNorm<Scalar>::Saved norm;
  };

  std::vector<Block> blocks;
  LayerNorm<Scalar> norm;

  /// One block for each call of make(layer).
  template <class Make>
  Encoder(typename LayerNorm<Scalar>::Options o, Index num_layers, Make&& make) : norm(o) {
    blocks.reserve(static_cast<std::size_t>(num_layers));
    for (Index layer = 0; layer < num_layers; ++layer) blocks.push_back(make(layer));
  }
  static void visit(auto& v, auto&... self) {
    v("blocks", self.blocks...);
    v("norm", self.norm...);
  }

  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    const Index rows = x.extent(0), width = x.extent(1);
    if constexpr (!Layer<Block>) {
      forward_only(x, y, ctx);
      return {};
    }
    Saved saved{ctx.workspace.template take<typename Block::Saved>(static_cast<Index>(blocks.size())), {}};
    for (std::size_t layer = 0; layer < blocks.size(); ++layer) {
      auto next = ctx.workspace.template take<Scalar>(rows, width);
      saved.blocks[static_cast<Index>(layer)] = blocks[layer].forward(x, next, ctx);
      x = next;
    }
    saved.norm = norm.forward(x, y, ctx);
    return saved;
  }

  void backward(const Saved& saved, Rows<const Scalar> dy, Rows<Scalar> dx, Encoder& grad,
                Context& ctx) const requires Layer<Block> {
    const auto scope = ctx.workspace.scope();
    auto other = ctx.workspace.template take<Scalar>(dy.extent(0), dy.extent(1));
    // The gradient moves between dx and `other`, so that the last block writes dx.
    Rows<Scalar> here = blocks.size() % 2 == 0 ? dx : other, there = blocks.size() % 2 == 0 ? other : dx;
    norm.backward(saved.norm, dy, here, grad.norm, ctx);
    for (std::size_t layer = blocks.size(); layer-- > 0;) {
      blocks[layer].backward(saved.blocks[static_cast<Index>(layer)], here, there, grad.blocks[layer], ctx);
      std::swap(here, there);
    }
  }

  template <class F>
  auto packed() const {
    Encoder<decltype(pack<F>(blocks[0]))> other({.width = 0}, static_cast<Index>(blocks.size()), [&](Index layer) {
      return pack<F>(blocks[static_cast<std::size_t>(layer)]);
    });
    other.norm = norm;
    return other;
  }

 private:
  /// Two buffers in turn, whatever the depth.
  void forward_only(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    auto next = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
    auto other = ctx.workspace.template take<Scalar>(x.extent(0), x.extent(1));
    for (const Block& block : blocks) {
      infer(block, x, next, ctx);
      x = next;
      std::swap(next, other);
    }
    (void)norm.forward(x, y, ctx);
  }
};

}  // namespace gatefold
