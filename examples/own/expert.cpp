// An expert of one's own: a matrix that all experts share and nobody trains, and for each a low-rank change to it
// (LoRA, Hu et al. 2021). An expert is any layer, and knows nothing of routing.
#include <memory>

#include "check.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/linear.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace own {

template <Real T>
struct LowRank {
  using Scalar = T;
  struct Saved {
    typename Linear<T>::Saved down, up;
  };

  std::shared_ptr<const Linear<T>> base;  // not visited: neither trained nor saved with this
  Linear<T> down, up;                     // without biases

  LowRank(std::shared_ptr<const Linear<T>> shared, Index rank)
      : base(std::move(shared)),
        down({.in = base->in(), .out = rank, .bias = Bias::none}),
        up({.in = rank, .out = base->out(), .bias = Bias::none}) {}
  static void visit(auto& v, auto&... self) {
    v("down", self.down...);
    v("up", self.up...);
  }

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    auto low = ctx.workspace.take<T>(x.extent(0), down.out());
    auto change = ctx.workspace.take<T>(x.extent(0), up.out());
    (void)base->forward(x, y, ctx);
    const auto saved_down = down.forward(x, low, ctx);
    const auto saved_up = up.forward(low, change, ctx);
    kernels::add_rows<T>(change, y, ctx);
    return {saved_down, saved_up};
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, LowRank& grad, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    auto dlow = ctx.workspace.take<T>(dy.extent(0), down.out());
    auto dchange = ctx.workspace.take<T>(dy.extent(0), base->in());
    kernels::matmul_grad_input<T>(dy, base->weight, dx, ctx);
    up.backward(saved.up, dy, dlow, grad.up, ctx);
    down.backward(saved.down, dlow, dchange, grad.down, ctx);
    kernels::add_rows<T>(dchange, dx, ctx);
  }
};
static_assert(Expert<LowRank<float>> && Expert<LowRank<double>>);

}  // namespace own

int main() {
  using namespace own;
  Rng rng(1);
  Linear<double> matrix({.in = 4, .out = 4});
  disturb(matrix.weight.flat(), rng), disturb(matrix.bias.flat(), rng);
  const LowRank<double> expert(std::make_shared<const Linear<double>>(matrix), 2);
  SparseMlp layer(TopKRouter<double>({.width = 4, .num_experts = 3, .num_selected = 2}), expert);
  check_gradient(layer, {6, 4}, 4, "the gradient of a mixture of them");

  // Experts as they begin, up = 0, change nothing: y = (sum of the two gates) * matrix(x).
  for (auto& each : layer.experts) set_zero(each);
  disturb(layer.router.weight.flat(), rng);
  const auto x = random_rows({6, 4}, rng);
  Tensor<double, 2> y({6, 4}), plain({6, 4});
  Context ctx;
  const auto scope = ctx.workspace.scope();
  const auto saved = layer.forward(x, y, ctx);
  infer(matrix, x.view(), plain.view(), ctx);
  bool same = true;
  for (Index t = 0; t < 6; ++t) {
    double gates = 0;
    for (Index k = 0; k < 2; ++k) gates += saved.routing.gates(t, saved.routing.scores.choice(t, k));
    for (Index d = 0; d < 4; ++d) same &= is_near(y.view()(t, d), gates * plain.view()(t, d), 1e-12);
  }
  expect(same, "the result of experts as they begin");
  return status();
}
