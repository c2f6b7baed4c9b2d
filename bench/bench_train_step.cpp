// One step of training of a sparse transformer block: forward, backward, AdamW. 8 sequences of 256 tokens, fp32.
// train_step/fp32/tokens:<R>/width:<D>/experts:<E>/selected:<K>/threads:<t>
#include "bench/transformer.hpp"
#include "gatefold/module/ops.hpp"
#include "gatefold/train/adamw.hpp"

namespace gatefold::bench {
namespace {

Contender ours(const BlockCase& c) {
  using Block = EncoderBlock<Sparse>;
  struct Data {
    Block block, grad;
    AdamW<Block> optimizer;
    Sequences sequences;
    TokenLayout layout;
    Tensor<float, 2> x, y, dy, dx;
    Context ctx;
  };
  Block block = sparse_block(c), grad = zeros_like(block);
  AdamW<Block> optimizer(block, {.lr = 1e-4});
  const Tensor<float, 2> rows({c.tokens(), c.width});
  auto d = std::make_shared<Data>(Data{std::move(block),
                                       std::move(grad),
                                       std::move(optimizer),
                                       Sequences(c),
                                       {},
                                       random_rows(c.tokens(), c.width, 1),
                                       rows,
                                       random_rows(c.tokens(), c.width, 2),
                                       rows,
                                       with_threads(c.threads)});
  d->layout = d->sequences.layout();
  d->ctx.layout = &d->layout;
  return {[d] {
    const auto scope = d->ctx.workspace.scope();
    const auto saved = d->block.forward(d->x, d->y, d->ctx);
    d->block.backward(saved, d->dy, d->dx, d->grad, d->ctx);
    d->optimizer.step_and_clear(d->block, d->grad, {}, d->ctx);
  }};
}

}  // namespace

void add_cases(Session& session) {
  for (const Index threads : {1, 2})
    for (const Index experts : {8, 32}) {
      BlockCase c{.sequences = 8,
                  .length = 256,
                  .width = 512,
                  .hidden = 2048,
                  .heads = 8,
                  .experts = experts,
                  .selected = 1,
                  .threads = threads};
      if (session.quick()) c.sequences = 2, c.length = 16, c.width = 64, c.hidden = 128, c.heads = 2;
      Case row;
      row.name = block_name("train_step", c);
      row.threads = threads;
      row.work = {.flops = 3 * block_flops(c), .format = c.format};
      row.entrants.push_back({"gatefold", [c] { return ours(c); }});
      add_peers(row.entrants, &Peer::train_step, c);
      session.add(std::move(row));
    }
}

}  // namespace gatefold::bench
