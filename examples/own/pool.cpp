// A thread pool of one's own. This one makes its threads anew for each call; a real one keeps them.
#include <atomic>
#include <mutex>
#include <thread>

#include "check.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/init.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace own {

// Body(begin, end, worker) over 0..n: any cut will do, each worker number on one thread at a time. What a body throws,
// the pool catches and throws again on the calling thread when all have ended: layers clean up on their way out.
ParallelFor threads(Index count) {
  const auto run = [count](Index n, ParallelFor::Body body) {
    std::atomic<Index> next{0};
    std::mutex mutex;
    std::exception_ptr error;
    {
      std::vector<std::jthread> team;
      for (Index worker = 0; worker < count; ++worker)
        team.emplace_back([&, worker] {
          try {
            for (Index i; (i = next++) < n;) body(i, i + 1, worker);
          } catch (...) {
            const std::scoped_lock lock(mutex);
            if (!error) error = std::current_exception();
          }
        });
    }  // joins
    if (error) std::rethrow_exception(error);
  };
  return ParallelFor({.workers = count, .run = run});
}

}  // namespace own

int main() {
  using namespace own;
  Rng rng(9);
  SparseMlp layer(TopKRouter<float>({.width = 16, .num_experts = 4, .num_selected = 2}),
                  Mlp<float>({.width = 16, .hidden = 64}));
  init::truncated_normal(layer, rng);
  Tensor<float, 2> x({300, 16}), dy({300, 16});
  for (float& value : x.flat()) value = static_cast<float>(rng.normal());
  for (float& value : dy.flat()) value = static_cast<float>(rng.normal());
  const auto pass = [&](ParallelFor parallel_for) {
    Context ctx;  // one for each pass that runs at the same time
    ctx.parallel_for = std::move(parallel_for);
    Tensor<float, 2> y(x.shape()), dx(x.shape());
    auto grad = zeros_like(layer);
    const auto scope = ctx.workspace.scope();
    const auto saved = layer.forward(x, y, ctx);
    layer.backward(saved, dy, dx, grad, ctx);
    return std::pair(dx, grad.router.weight);
  };
  expect(pass(threads(3)) == pass(ParallelFor()), "three threads give the bits of one");

  Context ctx;
  ctx.parallel_for = threads(3);
  bool caught = false;
  try {
    ctx.parallel_for(100, [](Index begin, Index, Index) {
      if (begin == 42) throw std::runtime_error("thrown on a thread of the pool");
    });
  } catch (const std::runtime_error&) {
    caught = true;
  }
  expect(caught, "an exception arrives where the work was asked for");
  return status();
}
