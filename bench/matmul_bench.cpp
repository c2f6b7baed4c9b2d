// Matrix products of a layer: ours on the vector unit, Eigen and plain loops. Arguments: rows, out, in, threads.
#include "bench/bench_support.hpp"
#include "gatefold/interop/eigen.hpp"
#include "gatefold/kernels/matmul.hpp"

namespace {

using namespace gatefold;
using bench::random_rows, bench::report_flops, bench::with_threads;

struct Problem {
  Index rows, out, in;
  Tensor<float, 2> x, w, y, dw;
  explicit Problem(const benchmark::State& state)
      : rows(state.range(0)),
        out(state.range(1)),
        in(state.range(2)),
        x(random_rows(rows, in, 1)),
        w(random_rows(out, in, 2)),
        y({rows, out}),
        dw({out, in}) {}
  double flops() const { return 2.0 * static_cast<double>(rows) * static_cast<double>(out) * static_cast<double>(in); }
};

void forward(benchmark::State& state) {
  Problem p(state);
  Context ctx = with_threads(state.range(3));
  for (auto _ : state) kernels::matmul<float>(p.x, p.w, p.y, ctx);
  report_flops(state, p.flops());
}

void grad_input(benchmark::State& state) {
  Problem p(state);
  Context ctx = with_threads(state.range(3));
  for (auto _ : state) kernels::matmul_grad_input<float>(p.y, p.w, p.x, ctx);
  report_flops(state, p.flops());
}

void grad_weight(benchmark::State& state) {
  Problem p(state);
  Context ctx = with_threads(state.range(3));
  for (auto _ : state) kernels::add_matmul_grad_weight<float>(p.y, p.x, p.dw, ctx);
  report_flops(state, p.flops());
}

/// Eigen's own product, on one thread.
void forward_eigen(benchmark::State& state) {
  Problem p(state);
  Eigen::setNbThreads(1);
  for (auto _ : state)
    as_eigen(p.y).noalias() = as_eigen(std::as_const(p.x)) * as_eigen(std::as_const(p.w)).transpose();
  report_flops(state, p.flops());
}

void forward_portable(benchmark::State& state) {
  Problem p(state);
  Context ctx = with_threads(state.range(3));
  ctx.isa = Isa::portable;
  for (auto _ : state) kernels::matmul<float>(p.x, p.w, p.y, ctx);
  report_flops(state, p.flops());
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "out", "in", "threads"})->UseRealTime();
  for (const Index threads : {1, 2})
    for (const Index rows : {1, 16, 196, 2048}) {
      b->Args({rows, 512, 128, threads});
      b->Args({rows, 3072, 768, threads});
    }
}
BENCHMARK(forward)->Apply(shapes);
BENCHMARK(grad_input)->Apply(shapes);
BENCHMARK(grad_weight)->Apply(shapes);
BENCHMARK(forward_eigen)
    ->ArgNames({"rows", "out", "in", "threads"})
    ->Args({196, 512, 128, 1})
    ->Args({196, 3072, 768, 1});
BENCHMARK(forward_portable)->ArgNames({"rows", "out", "in", "threads"})->Args({196, 512, 128, 1})->UseRealTime();

}  // namespace
