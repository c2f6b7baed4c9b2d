// What a token costs from 8 experts to 1,024 and from 256 tokens to 262,144: forward, and a training step of the layer
// with AdamW. Small experts, as they come by the hundred: width 1024, 128 hidden units, one expert a token. The bound
// counts the router's product too, whose share grows with the experts, and each expert's weights once; a training step
// reads and writes parameters, gradients and two moments of all experts, however few tokens there are.
// scale/<forward or train_step>/<routing>/experts:<E>/tokens:<S>/threads:<t>
#include "bench/session.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/module/ops.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "gatefold/train/adamw.hpp"

namespace gatefold::bench {
namespace {

using Layer = SparseMlp<TopKRouter<float>, Mlp<float>>;
enum class Pass { forward, train_step };

Layer layer_of(const MoeCase& c) {
  Layer layer =
      filled(Layer(TopKRouter<float>({.width = c.width, .num_experts = c.experts, .num_selected = c.selected}),
                   Mlp<float>({.width = c.width, .hidden = c.hidden})));
  auto& router = layer.router.weight;
  std::ranges::fill(router.flat(), 0.0f);
  for (Index e = 0; e < c.experts; ++e) router.view()(e, e) = 1;
  return layer;
}

Contender forward(const MoeCase& c) {
  struct Data {
    decltype(pack<float>(std::declval<Layer>())) layer;
    Tensor<float, 2> x, y;
    Context ctx;
  };
  auto d = std::make_shared<Data>(
      Data{pack<float>(layer_of(c)), routed_tokens(c), Tensor<float, 2>({c.tokens, c.width}), with_threads(c.threads)});
  return {.run = [d] { infer(d->layer, d->x, d->y, d->ctx); },
          .scratch = [d] { return d->ctx.workspace.size_bytes(); }};
}

Contender train_step(const MoeCase& c) {
  struct Data {
    Layer layer, grad;
    AdamW<Layer> optimizer;
    Tensor<float, 2> x, y, dy, dx;
    Context ctx;
  };
  Layer layer = layer_of(c), grad = zeros_like(layer);
  AdamW<Layer> optimizer(layer, {.lr = 0});  // so that tokens stay with their experts
  const Tensor<float, 2> rows({c.tokens, c.width});
  auto d = std::make_shared<Data>(Data{std::move(layer), std::move(grad), std::move(optimizer), routed_tokens(c), rows,
                                       random_rows(c.tokens, c.width, 3), rows, with_threads(c.threads)});
  return {.run =
              [d] {
                const auto scope = d->ctx.workspace.scope();
                const auto saved = d->layer.forward(d->x, d->y, d->ctx);
                d->layer.backward(saved, d->dy, d->dx, d->grad, d->ctx);
                d->optimizer.step_and_clear(d->layer, d->grad, {}, d->ctx);
              },
          .scratch = [d] { return d->ctx.workspace.size_bytes(); }};
}

void add(Session& session, Pass pass, const MoeCase& c) {
  Case row;
  row.name = row_name(
      std::string("scale/") + (pass == Pass::forward ? "forward" : "train_step") + (c.zipf > 0 ? "/zipf" : "/uniform"),
      {{"experts", c.experts}, {"tokens", c.tokens}, {"threads", c.threads}});
  row.threads = c.threads;
  const auto count = [](Index n) { return static_cast<double>(n); };
  const double net = 2 * count(c.width) * count(c.hidden), tokens = count(c.tokens);
  const double flops = 2 * tokens * (net * count(c.selected) + count(c.width) * count(c.experts));
  // AdamW reads the parameter, the gradient and two moments, and writes all but the gradient, which was zeroed before.
  const double weights = 4 * net * count(pass == Pass::forward ? std::min(c.experts, c.tokens) : c.experts);
  row.work = {.flops = (pass == Pass::forward ? 1 : 3) * flops,
              .bytes = (pass == Pass::forward ? 1 : 8) * weights,
              .memory = Limit::dram,
              .unit = "token",
              .units = tokens};
  row.entrants.push_back({"gatefold", [pass, c] { return pass == Pass::forward ? forward(c) : train_step(c); }});
  session.add(std::move(row));
}

}  // namespace

void add_cases(Session& session) {
  MoeCase c{.tokens = 0, .width = 1024, .hidden = 128, .experts = 0, .selected = 1, .threads = 0};
  if (session.quick()) c.width = 128, c.hidden = 16;
  const auto smaller = [&](Index n) { return session.quick() ? std::max<Index>(n / 64, 4) : n; };
  for (const Pass pass : {Pass::forward, Pass::train_step})
    for (const Index threads : {1, 2}) {
      c.threads = threads, c.zipf = 0, c.tokens = smaller(16384);
      for (const Index experts : {8, 32, 128, 512, 1024}) c.experts = smaller(experts), add(session, pass, c);
      c.experts = smaller(64);
      for (const double zipf : {0.0, 1.2})
        for (const Index tokens : {256, 2048, 16384, 131072, 262144}) {
          if (pass == Pass::train_step && (zipf > 0 || tokens > 131072)) continue;  // for minutes, to the same end
          c.zipf = zipf, c.tokens = smaller(tokens);
          add(session, pass, c);
        }
    }
}

}  // namespace gatefold::bench
