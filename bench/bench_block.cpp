// A transformer block forward, dense (experts:0) and sparse: 8 sequences of 256 tokens.
// block/<format>/tokens:<R>/width:<D>/experts:<E>/selected:<K>/threads:<t>
// The dense one on a share of the tokens (skipped, in %) beside all of them: depths/<format>/.../skipped:<s>
#include "bench/transformer.hpp"
#include "gatefold/blocks/mixture_of_depths.hpp"

namespace gatefold::bench {
namespace {

template <ForwardLayer L>
Contender ours(L block, const BlockCase& c) {
  struct Data {
    L block;
    Sequences sequences;
    TokenLayout layout;
    Tensor<float, 2> x, y;
    Context ctx;
  };
  auto d = std::make_shared<Data>(Data{std::move(block),
                                       Sequences(c),
                                       {},
                                       random_rows(c.tokens(), c.width, 1),
                                       Tensor<float, 2>({c.tokens(), c.width}),
                                       with_threads(c.threads)});
  d->layout = d->sequences.layout();
  d->ctx.layout = &d->layout;
  return {[d] { infer(d->block, d->x, d->y, d->ctx); }};
}

void add(Session& session, const BlockCase& c) {
  Case row;
  row.name = block_name("block", c);
  row.threads = c.threads;
  row.work = {.flops = block_flops(c), .format = c.format};
  row.entrants.push_back({"gatefold", [c] {
                            return with_format(c.format, [&]<class F>() {
                              return c.experts ? ours(pack<F>(sparse_block(c)), c) : ours(pack<F>(dense_block(c)), c);
                            });
                          }});
  add_peers(row.entrants, &Peer::block, c);
  session.add(std::move(row));
}

void add_depths(Session& session, const BlockCase& c, Index skipped) {
  BlockCase run = c;
  run.length = c.length - c.length * skipped / 100;
  Case row;
  row.name = block_name("depths", c) + "/skipped:" + std::to_string(skipped);
  row.threads = c.threads;
  row.work = {.flops = block_flops(run), .format = c.format};
  row.entrants.push_back({"gatefold", [c, skipped] {
                            return with_format(c.format, [&]<class F>() {
                              const MixtureOfDepthsOptions o{.width = c.width,
                                                             .skipped = static_cast<double>(skipped) / 100};
                              return ours(MixtureOfDepths(o, pack<F>(dense_block(c))), c);
                            });
                          }});
  row.entrants.push_back({"all_tokens", [c] {
                            return with_format(c.format, [&]<class F>() { return ours(pack<F>(dense_block(c)), c); });
                          }});
  session.add(std::move(row));
}

}  // namespace

void add_cases(Session& session) {
  BlockCase c{.sequences = 8,
              .length = 256,
              .width = 512,
              .hidden = 2048,
              .heads = 8,
              .experts = 0,
              .selected = 1,
              .threads = 1};
  if (session.quick()) c.sequences = 2, c.length = 16, c.width = 64, c.hidden = 128, c.heads = 2;
  for (const Format format : kFormats)
    for (const Index threads : {1, 2})
      for (const Index experts : {0, 8, 32}) {
        c.format = format, c.threads = threads, c.experts = experts;
        add(session, c);
      }
  c.format = Format::fp32, c.experts = 0;
  for (const Index threads : {1, 2})
    for (const Index skipped : {0, 50}) c.threads = threads, add_depths(session, c, skipped);
}

}  // namespace gatefold::bench
