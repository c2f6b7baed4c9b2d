// A mixture of experts against the dense net of the same active flops. Arguments: tokens, experts, selected, threads.
#include "bench/bench_support.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/module/ops.hpp"
#include "gatefold/nn/init.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace {

using namespace gatefold;
using bench::random_rows, bench::report_flops, bench::with_threads;

constexpr Index kWidth = 512, kHidden = 2048;
double mlp_flops(Index rows) {
  return 4.0 * static_cast<double>(rows) * static_cast<double>(kWidth) * static_cast<double>(kHidden);
}

SparseMlp<TopKRouter<float>, Mlp<float>> make_sparse(const benchmark::State& state) {
  SparseMlp layer(TopKRouter<float>({.width = kWidth, .num_experts = state.range(1), .num_selected = state.range(2)}),
                  Mlp<float>({.width = kWidth, .hidden = kHidden}));
  Rng rng(1);
  init::truncated_normal(layer, rng);
  return layer;
}

template <class L>
void run_forward(benchmark::State& state, const L& layer, Index rows, double flops) {
  Context ctx = with_threads(state.range(3));
  const auto x = random_rows(rows, kWidth, 2);
  Tensor<float, 2> y(x.shape());
  for (auto _ : state) infer(layer, x, y, ctx);
  report_flops(state, flops);
}

void sparse_forward(benchmark::State& state) {
  run_forward(state, make_sparse(state), state.range(0), mlp_flops(state.range(0) * state.range(2)));
}

/// Every token selected times through one net: the same flops in one large product.
void dense_forward(benchmark::State& state) {
  Mlp<float> layer({.width = kWidth, .hidden = kHidden});
  Rng rng(1);
  init::truncated_normal(layer, rng);
  run_forward(state, layer, state.range(0) * state.range(2), mlp_flops(state.range(0) * state.range(2)));
}

void sparse_forward_backward(benchmark::State& state) {
  const auto layer = make_sparse(state);
  auto grad = zeros_like(layer);
  Context ctx = with_threads(state.range(3));
  const auto x = random_rows(state.range(0), kWidth, 2);
  Tensor<float, 2> y(x.shape()), dx(x.shape());
  for (auto _ : state) {
    const auto scope = ctx.workspace.scope();
    const auto saved = layer.forward(x, y, ctx);
    layer.backward(saved, y, dx, grad, ctx);
  }
  report_flops(state, 3 * mlp_flops(state.range(0) * state.range(2)));
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"tokens", "experts", "selected", "threads"})->UseRealTime()->Unit(benchmark::kMillisecond);
  for (const Index threads : {1, 2})
    for (const Index experts : {8, 32})
      for (const Index selected : {1, 2}) b->Args({2048, experts, selected, threads});
}
BENCHMARK(sparse_forward)->Apply(sizes);
BENCHMARK(dense_forward)
    ->ArgNames({"tokens", "experts", "selected", "threads"})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond)
    ->Args({2048, 1, 1, 1})
    ->Args({2048, 1, 2, 1})
    ->Args({2048, 1, 1, 2})
    ->Args({2048, 1, 2, 2});
BENCHMARK(sparse_forward_backward)->Apply(sizes);

}  // namespace
