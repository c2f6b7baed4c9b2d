#pragma once
#include "gatefold/kernels/dispatch.hpp"
#include "gatefold/losses/aux_losses.hpp"
#include "gatefold/module/gather_weights.hpp"
#include "gatefold/module/grouped_expert.hpp"
#include "gatefold/module/pack.hpp"
#include "gatefold/routing/routing_report.hpp"

namespace gatefold {

namespace detail {
template <class E>
struct ExpertsSaved {
  using type = View<typename E::Saved, 1>;  // [E], unset for an expert without a token
};
template <GroupedExpert E>
struct ExpertsSaved<E> {
  using type = typename E::GroupedSaved;
};
}  // namespace detail

/// route, dispatch, experts, combine: y_t = sum over the seats of t of weight * expert(x_t). A token without a seat
/// gets y = 0 exactly and lives on in the residual around this layer. Keeps the routing, the seated rows and the
/// experts' outputs, 2 N D, and what the experts keep. (Shazeer et al. 2017; V-MoE, Riquelme et al. 2021.)
///
/// Experts that cannot be trained (packed ones) make a layer that cannot be trained.
///
/// `aux` penalises the routing: backward adds aux_scale times its gradient, without being asked.
template <class R, class E, class Aux = NoAux>
struct SparseMlp {
  static_assert(Router<R>, "SparseMlp: what routes is a Router");
  static_assert(ForwardLayer<E>, "SparseMlp: an expert is a layer");
  static_assert(std::same_as<typename R::Scalar, typename E::Scalar>, "SparseMlp: router and experts of one scalar");
  static_assert(AuxLoss<Aux, typename E::Scalar>, "SparseMlp: what penalises the routing is an AuxLoss");
  using Scalar = typename E::Scalar;
  struct Saved {
    typename R::Saved routing;
    Rows<const Scalar> ys;  // [N, D] expert outputs, by slot
    typename detail::ExpertsSaved<E>::type experts;
  };

  R router;
  std::vector<E> experts;  // [E]
  Aux aux;
  double aux_scale = 1;  ///< 1 / number of sparse layers turns the sum over layers into a mean.

  /// All experts start as copies of one; an initialiser makes them differ.
  SparseMlp(R r, const E& prototype, Aux a = {})
      : router(std::move(r)), experts(static_cast<std::size_t>(router.num_experts()), prototype), aux(std::move(a)) {}
  /// Experts may be unlike each other, in hidden width say. Throws OptionError unless there are as many as the router
  /// knows, ShapeError for one that does not take and give rows of the same width as the first.
  SparseMlp(R r, std::vector<E> e, Aux a = {}) : router(std::move(r)), experts(std::move(e)), aux(std::move(a)) {
    expect_one_expert_each(experts);
    if constexpr (requires(std::span<const E> each) { E::expect_fit(each); }) E::expect_fit(experts);
  }

  static void visit(auto& v, auto&... self) {
    v("router", self.router...);
    v("experts", self.experts...);
  }

  /// x, y [S, D]
  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    expect_shape(y, x.shape(), "SparseMlp::forward: y");
    expect_one_expert_each(experts);
    Saved saved{.routing = router.forward(x, ctx), .ys = {}, .experts = {}};
    const DispatchPlan& plan = saved.routing.plan;
    auto ys = ctx.workspace.take<Scalar>(plan.num_slots(), x.extent(1));
    if constexpr (GroupedExpert<E>) {
      saved.experts = E::forward_grouped(experts, x, SlotRows{plan.offset, plan.token}, ys, ctx);
    } else {
      auto xs = ctx.workspace.take<Scalar>(plan.num_slots(), x.extent(1));
      saved.experts = ctx.workspace.take<typename E::Saved>(plan.num_experts());
      kernels::gather_rows<Scalar>(x, plan.token, xs, ctx);
      for (Index e = 0; e < plan.num_experts(); ++e) {
        const auto [begin, end] = plan.slots(e);
        if (begin < end) saved.experts[e] = expert(e).forward(xs.rows(begin, end), ys.rows(begin, end), ctx);
      }
    }
    kernels::combine_rows<Scalar>(ys, saved.routing.weight, plan.token_lists(), y, ctx);
    saved.ys = ys;
    if (ctx.report) report(saved, ctx);
    return saved;
  }

  /// dy, dx [S, D]. An expert without a token gets no gradient.
  void backward(const Saved& saved, Rows<const Scalar> dy, Rows<Scalar> dx, SparseMlp& grad,
                Context& ctx) const requires Expert<E> {
    const auto& routing = saved.routing;
    const DispatchPlan& plan = routing.plan;
    const Shape<2> shape{plan.num_tokens(), saved.ys.extent(1)};
    expect_one_expert_each(grad.experts);
    expect_shape(dy, shape, "SparseMlp::backward: dy");
    expect_shape(dx, shape, "SparseMlp::backward: dx");
    auto& ws = ctx.workspace;
    const auto scope = ws.scope();
    auto dys = ws.template take<Scalar>(plan.num_slots(), shape[1]);
    auto dxs = ws.template take<Scalar>(plan.num_slots(), shape[1]);
    auto dweight = ws.template take<Scalar>(plan.num_slots());
    kernels::combine_rows_grad<Scalar>(saved.ys, routing.weight, plan.token, dy, dys, dweight, ctx);

    Rows<Scalar> dlogits;
    if constexpr (!std::is_same_v<Aux, NoAux>) {
      dlogits = ws.template take_zeroed<Scalar>(plan.num_tokens(), plan.num_experts());
      aux.add_gradient(routing.scores, Scalar(aux_scale), dlogits, ctx);
    }
    router.backward(routing, dweight, dlogits, dx, grad.router, ctx);

    if constexpr (GroupedLayer<E>) {
      E::backward_grouped(experts, saved.experts, dys, dxs, std::span<E>(grad.experts), ctx);
    } else {
      for (Index e = 0; e < plan.num_experts(); ++e) {
        const auto [begin, end] = plan.slots(e);
        if (begin < end)
          expert(e).backward(saved.experts[e], dys.rows(begin, end), dxs.rows(begin, end),
                             grad.experts[static_cast<std::size_t>(e)], ctx);
      }
    }
    kernels::add_gather_rows_grad<Scalar>(dxs, plan.token_lists(), dx, ctx);
  }

  /// aux_scale * the penalty of a pass: what backward differentiates beside the task.
  Scalar aux_loss(const Saved& saved, Context& ctx) const {
    return Scalar(aux_scale) * Scalar(aux.value(saved.routing.scores, ctx));
  }

  template <class F>
  auto packed() const {
    using PackedExpert = decltype(pack<F>(experts[0]));
    std::vector<PackedExpert> others;
    for (const E& each : experts) others.push_back(pack<F>(each));
    SparseMlp<R, PackedExpert, Aux> other(router, std::move(others), aux);
    other.aux_scale = aux_scale;
    gather_weights(other);
    return other;
  }

 private:
  const E& expert(Index e) const { return experts[static_cast<std::size_t>(e)]; }
  void expect_one_expert_each(const std::vector<E>& those) const {
    if (static_cast<Index>(those.size()) != router.num_experts())
      throw OptionError("SparseMlp: there are " + std::to_string(those.size()) + " experts, expected " +
                        std::to_string(router.num_experts()) + " as in the router");
  }

  void report(const Saved& saved, Context& ctx) const {
    const auto& scores = saved.routing.scores;
    ctx.report->record_pass(saved.routing);
    if constexpr (std::is_same_v<Aux, NoAux>) {
      return;
    } else if constexpr (requires { aux.for_each(scores, ctx, [](std::string_view, const Scalar&) {}); }) {
      aux.for_each(scores, ctx, [&](std::string_view name, const Scalar& value) {
        ctx.report->record_loss(name, to_double(value));
      });
    } else {
      ctx.report->record_loss("aux", to_double(aux.value(scores, ctx)));
    }
  }
};

}  // namespace gatefold
