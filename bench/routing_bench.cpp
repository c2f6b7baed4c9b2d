// Routing of 4096 tokens: gates, choice, seats and plan. Arguments: experts, selected, threads.
#include "bench/bench_support.hpp"
#include "gatefold/routing/expert_choice_router.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace {

using namespace gatefold;
using bench::random_rows, bench::with_threads;

constexpr Index kTokens = 4096, kWidth = 128;

void report_per_token(benchmark::State& state) {
  state.counters["per_token"] = benchmark::Counter(
      static_cast<double>(kTokens), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

/// softmax + top-k + plan, from given logits: what a peer calls softmax, topk, one-hot and cumsum.
void plan(benchmark::State& state, Priority priority) {
  const Index experts = state.range(0), selected = state.range(1);
  Context ctx = with_threads(state.range(2));
  const auto logits = random_rows(kTokens, experts, 1);
  Tensor<float, 2> gates({kTokens, experts});
  for (auto _ : state) {
    const auto scope = ctx.workspace.scope();
    kernels::softmax_rows<float>(logits, gates, ctx);
    auto choice = ctx.workspace.take<Index>(kTokens, selected);
    select_top_k<float>(gates, choice, ctx);
    const auto plan = plan_top_k<float>(gates, choice, {.capacity = {.factor = 1.25}, .priority = priority}, ctx);
    benchmark::DoNotOptimize(plan.offset.data());
  }
  report_per_token(state);
}

/// The whole router, logits included.
void top_k_router(benchmark::State& state) {
  TopKRouter<float> router({.width = kWidth,
                            .num_experts = state.range(0),
                            .num_selected = state.range(1),
                            .capacity = {.factor = 1.25},
                            .priority = Priority::max_gate});
  std::ranges::copy(random_rows(state.range(0), kWidth, 2).flat(), router.weight.flat().begin());
  Context ctx = with_threads(state.range(2));
  const auto x = random_rows(kTokens, kWidth, 1);
  for (auto _ : state) {
    const auto scope = ctx.workspace.scope();
    benchmark::DoNotOptimize(router.forward(x, ctx).plan.offset.data());
  }
  report_per_token(state);
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"experts", "selected", "threads"})->UseRealTime();
  for (const Index threads : {1, 2})
    for (const Index experts : {8, 32, 128, 256})
      for (const Index selected : {1, 2, 8})
        if (selected < experts) b->Args({experts, selected, threads});
}
BENCHMARK_CAPTURE(plan, by_position, Priority::position)->Apply(sizes);
BENCHMARK_CAPTURE(plan, by_max_gate, Priority::max_gate)->Apply(sizes);
BENCHMARK(top_k_router)->Apply(sizes);

}  // namespace
