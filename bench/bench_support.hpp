#pragma once
#include <benchmark/benchmark.h>

#include "gatefold/core/context.hpp"

namespace gatefold::bench {

/// Random rows, the same in every run. // [rows, columns]
inline Tensor<float, 2> random_rows(Index rows, Index columns, std::uint64_t seed) {
  Tensor<float, 2> t({rows, columns});
  const Rng rng(seed);
  for (Index i = 0; i < t.size(); ++i) t.data()[i] = static_cast<float>(rng.normal_at(i));
  return t;
}

/// Adds GFLOP/s of wall time.
inline void report_flops(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

/// A context with this many threads.
inline Context with_threads([[maybe_unused]] Index threads) {
  Context ctx;
#ifdef _OPENMP
  ctx.parallel_for = threads > 1 ? openmp(static_cast<int>(threads)) : ParallelFor();
#else
  ctx.parallel_for = ParallelFor();
#endif
  return ctx;
}

}  // namespace gatefold::bench
