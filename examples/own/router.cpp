// A router of one's own: sigmoid scores and a bias for the selection only, which keeps the loads even without a loss
// (DeepSeek-V3, 2024).
#include "check.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/losses/balance.hpp"
#include "gatefold/losses/z_loss.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/padding.hpp"
#include "gatefold/products/matmul.hpp"
#include "gatefold/routing/plan_top_k.hpp"

namespace own {

template <Real T>
struct SigmoidRouter {
  using Scalar = T;
  struct Options {
    Index width, num_experts, num_selected;
  };
  struct Saved : Routing<T> {
    Rows<const T> x;       // [S, D] 0 for padding
    Rows<const T> score;   // [S, E] σ(x weightᵀ)
    View<const T, 1> sum;  // [S] scores of the selected
  };

  Options options;
  Tensor<T, 2> weight;  // [E, D]
  Tensor<T, 1> bias;    // [E] saved with the model, but without a gradient: an optimiser leaves it alone

  explicit SigmoidRouter(Options o) : options(o), weight({o.num_experts, o.width}), bias({o.num_experts}) {}
  static void visit(auto& v, auto&... self) { v("weight", self.weight...), v("bias", self.bias...); }
  Index num_experts() const { return options.num_experts; }

  Saved forward(Rows<const T> x, Context& ctx) const {
    const Index rows = x.extent(0), experts = options.num_experts;
    expect_shape(x, {rows, options.width}, "SigmoidRouter::forward: x");
    auto& ws = ctx.workspace;
    auto score = ws.take<T>(rows, experts), ranked = ws.take<T>(rows, experts), gates = ws.take<T>(rows, experts);
    auto logits = ws.take<T>(rows, experts), log_probs = ws.take<T>(rows, experts);
    auto choice = ws.take<Index>(rows, options.num_selected);
    auto sum = ws.take<T>(rows);
    Saved saved;
    saved.x = without_padding<T>(x, ctx);
    kernels::matmul<T>(saved.x, weight, score, ctx);
    kernels::for_each_row(rows, experts, ctx, [&](Index t) {
      using std::exp, std::log;
      T total(0);
      for (Index e = 0; e < experts; ++e) {
        score(t, e) = T(1) / (T(1) + exp(T(0) - score(t, e)));
        ranked(t, e) = score(t, e) + bias.data()[e];
        total = total + score(t, e);
      }
      for (Index e = 0; e < experts; ++e) {
        gates(t, e) = score(t, e) / total;
        logits(t, e) = log(score(t, e));  // whose softmax the gates are: what losses and reports stand on
        log_probs(t, e) = log(gates(t, e));
      }
    });
    select_top_k<T>(ranked, choice, ctx);                // of any score; padding asks for nobody
    saved.plan = plan_top_k<T>(gates, choice, {}, ctx);  // {}: nobody is turned away
    auto combine = ws.take<T>(saved.plan.num_slots());
    kernels::for_each_row(rows, options.num_selected, ctx, [&](Index t) {
      const auto slots = saved.plan.slots_of_token(t);
      sum[t] = T(0);
      for (Index i = 0; i < slots.extent(0); ++i) sum[t] = sum[t] + score(t, saved.plan.expert[slots[i]]);
      for (Index i = 0; i < slots.extent(0); ++i) combine[slots[i]] = score(t, saved.plan.expert[slots[i]]) / sum[t];
    });
    saved.scores = {.logits = logits,
                    .log_probs = log_probs,
                    .noisy_logits = logits,
                    .choice = choice,
                    .group_size = rows,
                    .layout = keep_layout(ctx)};
    saved.gates = gates, saved.weight = combine, saved.score = score, saved.sum = sum;
    return saved;
  }

  // Two ways in: by the combine weights, and by the logits (here log score) from auxiliary losses. Overwrites dx.
  void backward(const Saved& saved, View<const T, 1> dweight, Rows<const T> dlogits, Rows<T> dx, SigmoidRouter& grad,
                Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    const Index rows = saved.score.extent(0), experts = options.num_experts;
    auto dz = ctx.workspace.take_zeroed<T>(rows, experts);
    kernels::for_each_row(rows, experts, ctx, [&](Index t) {
      const auto slots = saved.plan.slots_of_token(t);
      T mean(0);
      for (Index i = 0; i < slots.extent(0); ++i) mean = mean + saved.weight[slots[i]] * dweight[slots[i]];
      for (Index i = 0; i < slots.extent(0); ++i) {
        const Index e = saved.plan.expert[slots[i]];
        dz(t, e) = (dweight[slots[i]] - mean) / saved.sum[t] * saved.score(t, e);  // by log score
      }
      for (Index e = 0; e < experts; ++e) {
        if (dlogits.size()) dz(t, e) = dz(t, e) + dlogits(t, e);
        dz(t, e) = dz(t, e) * (T(1) - saved.score(t, e));
      }
    });
    kernels::matmul_grad_input<T>(dz, weight, dx, ctx);
    kernels::add_matmul_grad_weight<T>(dz, saved.x, grad.weight, ctx);
  }

  // Experts in demand become a little less attractive.
  void steer(const DispatchPlan& plan, double rate) {
    const Index fair = plan.num_slots() / plan.num_experts();
    for (Index e = 0; e < plan.num_experts(); ++e) bias.data()[e] -= T(plan.demand[e] > fair ? rate : -rate);
  }
};
static_assert(Router<SigmoidRouter<float>> && Router<SigmoidRouter<double>>);

}  // namespace own

int main() {
  using namespace own;
  SparseMlp layer(SigmoidRouter<double>({.width = 4, .num_experts = 5, .num_selected = 2}),
                  Mlp<double>({.width = 4, .hidden = 3}), AuxLosses<Balance, ZLoss>{});
  check_gradient(layer, {7, 4}, 4, "the gradient of a mixture with two auxiliary losses");

  Rng rng(3);
  auto& router = layer.router;
  disturb(router.weight.flat(), rng);
  auto x = random_rows({400, 4}, rng);
  for (double& value : x.flat()) value += 1;  // what favours some experts
  Context ctx;
  Index most[2] = {};
  for (int step = 0; step < 500; ++step) {
    const auto scope = ctx.workspace.scope();  // without it the workspace grows from step to step
    const auto saved = router.forward(x, ctx);
    router.steer(saved.plan, 2e-3);
    most[step > 0] = std::ranges::max(std::span(saved.plan.demand.data(), 5));
  }
  std::printf("most tokens of an expert: %td at first, then %td; 160 are fair\n", most[0], most[1]);
  expect(most[0] > 240 && most[1] < 180, "the bias evens out the loads");
  return status();
}
