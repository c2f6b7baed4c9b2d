#pragma once
#include "gatefold/kernels/dispatch.hpp"
#include "gatefold/losses/aux_losses.hpp"
#include "gatefold/module/decode.hpp"
#include "gatefold/module/grouped_expert.hpp"
#include "gatefold/module/pack.hpp"
#include "gatefold/nn/calibration.hpp"
#include "gatefold/nn/jitter.hpp"
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

/// What the combine weight of a seat is multiplied with.
enum class Weighed {
  outputs,  ///< The expert's output: nearly everywhere.
  inputs,   ///< The token on its way in, before the expert's non-linearity: Llama-4.
};

/// A mixture of nothing but nets.
struct NoFreeExperts {};

namespace detail {
template <class Free>
struct FreeSaved {
  using type = View<typename Free::Saved, 1>;  // [Z], unset for an expert without a token
};
template <>
struct FreeSaved<NoFreeExperts> {
  using type = Nothing;
};
}  // namespace detail

/// route, dispatch, experts, combine: y_t = sum over the seats of t of weight * expert(x_t), or where `weighed` says
/// so of expert(weight * x_t). A token without a seat gets y = 0 exactly and lives on in the residual around this
/// layer. Keeps the routing, the seated rows and the experts' outputs, 2 N D, and what the experts keep; with weighed
/// inputs backward takes S D more. (Shazeer et al. 2017; V-MoE, Riquelme et al. 2021.)
///
/// Where nobody is turned away, a token's result does not depend on what else is in the batch, bit by bit, if the
/// experts are packed. Experts that are not sum 16 rows or less in another order: the same one for all would cost few
/// rows 3 to 4 times their time, or many up to a fifth (bench/README.md).
///
/// Experts that cannot be trained (packed ones) make a layer that cannot be trained.
///
/// The router's last experts may be no nets but layers that cost next to nothing (free_experts.hpp), of a type of their
/// own: `free`. The nets then run grouped as ever.
///
/// `aux` penalises the routing: backward adds aux_scale times its gradient, without being asked.
template <class R, class E, class Aux = NoAux, class Free = NoFreeExperts>
struct SparseMlp {
  static_assert(Router<R>, "SparseMlp: what routes is a Router");
  static_assert(ForwardLayer<E>, "SparseMlp: an expert is a layer");
  static_assert(std::same_as<typename R::Scalar, typename E::Scalar>, "SparseMlp: router and experts of one scalar");
  static_assert(AuxLoss<Aux, typename E::Scalar>, "SparseMlp: what penalises the routing is an AuxLoss");
  using Scalar = typename E::Scalar;
  static constexpr bool kHasFree = !std::is_same_v<Free, NoFreeExperts>;
  static_assert(!kHasFree || ForwardLayer<Free>, "SparseMlp: a free expert is a layer");
  static constexpr bool kMixesRows = MixesRows<R>;
  struct Saved {
    typename R::Saved routing;
    typename Jitter<Scalar>::Saved noise;
    Rows<const Scalar> x;   // [S, D] as router and experts saw it
    Rows<const Scalar> ys;  // [N, D] expert outputs, by slot
    typename detail::ExpertsSaved<E>::type experts;
    [[no_unique_address]] typename detail::FreeSaved<Free>::type free;
  };

  R router;
  std::vector<E> experts;  // [E], less those that are free
  Aux aux;
  double aux_scale = 1;  ///< 1 / number of sparse layers turns the sum over layers into a mean.
  Weighed weighed = Weighed::outputs;
  /// Training (with ctx.rng): x is multiplied by U(1 - that, 1 + that), for the router and the experts alike. In [0,
  /// 1).
  double input_noise = 0;
  [[no_unique_address]] std::conditional_t<kHasFree, std::vector<Free>, NoFreeExperts> free;  // the router's last

  /// All experts start as copies of one; an initialiser makes them differ.
  SparseMlp(R r, const E& prototype, Aux a = {})
      : router(std::move(r)), experts(static_cast<std::size_t>(router.num_experts()), prototype), aux(std::move(a)) {}
  /// Experts may be unlike each other, in hidden width say. Throws OptionError unless there are as many as the router
  /// knows, ShapeError for one that does not take and give rows of the same width as the first.
  SparseMlp(R r, std::vector<E> e, Aux a = {}) : router(std::move(r)), experts(std::move(e)), aux(std::move(a)) {
    expect_one_expert_each(experts);
    if constexpr (requires(std::span<const E> each) { E::expect_fit(each); }) E::expect_fit(experts);
  }
  /// Free experts beside the nets.
  SparseMlp(R r, std::vector<E> e, std::vector<Free> f, Aux a = {}) requires kHasFree : router(std::move(r)),
                                                                                        experts(std::move(e)),
                                                                                        aux(std::move(a)),
                                                                                        free(std::move(f)) {
    expect_one_expert_each(experts);
    if constexpr (requires(std::span<const E> each) { E::expect_fit(each); }) E::expect_fit(experts);
  }
  SparseMlp(R r, const E& prototype, std::vector<Free> f, Aux a = {}) requires kHasFree
      : SparseMlp(r,
                  std::vector<E>(static_cast<std::size_t>(std::max<Index>(0, r.num_experts() - std::ssize(f))),
                                 prototype),
                  f, std::move(a)) {}

  static void visit(auto& v, auto&... self) {
    v("router", self.router...);
    v("experts", self.experts...);
    if constexpr (kHasFree) v("free", self.free...);
  }

  /// x, y [S, D]
  Saved forward(Rows<const Scalar> x, Rows<Scalar> y, Context& ctx) const {
    expect_shape(y, x.shape(), "SparseMlp::forward: y");
    expect_one_expert_each(experts);
    typename Jitter<Scalar>::Saved noise{.shape = x.shape()};
    if (ctx.rng && input_noise != 0) {
      auto noisy = ctx.workspace.take<Scalar>(x.extent(0), x.extent(1));
      noise = Jitter<Scalar>({.amount = input_noise}).forward(x, noisy, ctx);
      x = noisy;
    }
    Saved saved{.routing = router.forward(x, ctx), .noise = noise, .x = x, .ys = {}, .experts = {}, .free = {}};
    const DispatchPlan& plan = saved.routing.plan;
    auto ys = ctx.workspace.take<Scalar>(plan.num_slots(), x.extent(1));
    const Index nets = std::ssize(experts);
    const bool scaled = weighed == Weighed::inputs;
    Rows<const Scalar> seen = x;  // by token or, once scaled, by slot
    if (scaled) {
      auto xs = ctx.workspace.take<Scalar>(plan.num_slots(), x.extent(1));
      kernels::gather_scaled_rows<Scalar>(x, saved.routing.weight, plan.token, xs, ctx);
      seen = xs;
    }
    const View<const Index, 1> row = scaled ? View<const Index, 1>() : plan.token;
    if constexpr (GroupedExpert<E>)
      saved.experts = E::forward_grouped(experts, seen, SlotRows{plan.offset.rows(0, nets + 1), row}, ys, ctx);
    else
      saved.experts = forward_each(experts, 0, plan, seen, row, ys, ctx);
    if constexpr (kHasFree) saved.free = forward_each(free, nets, plan, seen, row, ys, ctx);
    if (ctx.calibration)
      ctx.calibration->see_experts<Scalar>(this, ys, scaled ? View<const Scalar, 1>() : saved.routing.weight,
                                           plan.offset, ctx);
    if (scaled) {
      kernels::fill_rows<Scalar>(y, Scalar(0), ctx);
      kernels::add_gather_rows_grad<Scalar>(ys, plan.token_lists(), y, ctx);  // the plain sum
    } else {
      kernels::combine_rows<Scalar>(ys, saved.routing.weight, plan.token_lists(), y, ctx);
    }
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
    const bool scaled = weighed == Weighed::inputs;
    if (scaled)
      kernels::gather_rows<Scalar>(dy, plan.token, dys, ctx);
    else
      kernels::combine_rows_grad<Scalar>(saved.ys, routing.weight, plan.token, dy, dys, dweight, ctx);

    if constexpr (GroupedLayer<E>)
      E::backward_grouped(experts, saved.experts, dys, dxs, std::span<E>(grad.experts), ctx);
    else
      backward_each(experts, saved.experts, 0, plan, dys, dxs, grad.experts, ctx);
    if constexpr (kHasFree) backward_each(free, saved.free, std::ssize(experts), plan, dys, dxs, grad.free, ctx);
    // By the weight, <x, dxs>: as if x were the upstream gradient of a combination of dxs. dys has been used.
    if (scaled) kernels::combine_rows_grad<Scalar>(dxs, routing.weight, plan.token, saved.x, dys, dweight, ctx);

    Rows<Scalar> dlogits;
    if constexpr (!std::is_same_v<Aux, NoAux>) {
      dlogits = ws.template take_zeroed<Scalar>(plan.num_tokens(), plan.num_experts());
      aux.add_gradient(routing.scores, Scalar(aux_scale), dlogits, ctx);
    }
    router.backward(routing, dweight, dlogits, dx, grad.router, ctx);
    if (scaled) {
      auto other = ws.template take<Scalar>(shape[0], shape[1]);
      kernels::combine_rows<Scalar>(dxs, routing.weight, plan.token_lists(), other, ctx);
      kernels::add_rows<Scalar>(other, dx, ctx);
    } else {
      kernels::add_gather_rows_grad<Scalar>(dxs, plan.token_lists(), dx, ctx);
    }
    if (saved.noise.drawn) Jitter<Scalar>::apply(saved.noise, dx, dx, ctx);
  }

  /// aux_scale * the penalty of a pass: what backward differentiates beside the task.
  Scalar aux_loss(const Saved& saved, Context& ctx) const {
    return Scalar(aux_scale) * Scalar(aux.value(saved.routing.scores, ctx));
  }

  /// `to` may have a member finish(mixture), for what is to be done once all experts are there.
  template <class To>
  auto over(const To& to) const {
    using Other = decltype(with_weights(experts[0], to));
    std::vector<Other> others;
    for (const E& each : experts) others.push_back(with_weights(each, to));
    const auto finished = [&](auto other) {
      other.aux_scale = aux_scale;
      other.weighed = weighed;
        other.input_noise = input_noise;
      if constexpr (requires { to.finish(other); }) to.finish(other);
      return other;
    };
    if constexpr (kHasFree) {
      using OtherFree = decltype(with_weights(free[0], to));
      std::vector<OtherFree> rest;
      for (const Free& each : free) rest.push_back(with_weights(each, to));
      return finished(SparseMlp<R, Other, Aux, OtherFree>(router, std::move(others), std::move(rest), aux));
    } else {
      return finished(SparseMlp<R, Other, Aux>(router, std::move(others), aux));
    }
  }

 private:
  /// Layers one by one, on the slots of the experts from `first` on; slot n has row row[n] of x, or n of an empty list.
  template <class L>
  static View<typename L::Saved, 1> forward_each(const std::vector<L>& layers, Index first, const DispatchPlan& plan,
                                                 Rows<const Scalar> x, View<const Index, 1> row, Rows<Scalar> ys,
                                                 Context& ctx) {
    const Index begin = plan.offset[first], end = plan.offset[first + std::ssize(layers)];
    auto saved = ctx.workspace.take<typename L::Saved>(std::ssize(layers));
    Rows<const Scalar> xs = row.size() ? x : x.rows(begin, end);
    if (row.size()) {
      auto gathered = ctx.workspace.take<Scalar>(end - begin, x.extent(1));
      kernels::gather_rows<Scalar>(x, row.rows(begin, end), gathered, ctx);
      xs = gathered;
    }
    for (Index i = 0; i < std::ssize(layers); ++i) {
      const auto [from, to] = plan.slots(first + i);
      if (from < to)
        saved[i] =
            layers[static_cast<std::size_t>(i)].forward(xs.rows(from - begin, to - begin), ys.rows(from, to), ctx);
    }
    return saved;
  }
  template <class L>
  static void backward_each(const std::vector<L>& layers, View<const typename L::Saved, 1> saved, Index first,
                            const DispatchPlan& plan, Rows<const Scalar> dys, Rows<Scalar> dxs, std::vector<L>& grads,
                            Context& ctx) {
    for (Index i = 0; i < std::ssize(layers); ++i) {
      const auto [from, to] = plan.slots(first + i);
      const auto at = static_cast<std::size_t>(i);
      if (from < to) layers[at].backward(saved[i], dys.rows(from, to), dxs.rows(from, to), grads[at], ctx);
    }
  }
  Index num_free() const {
    if constexpr (kHasFree)
      return std::ssize(free);
    else
      return 0;
  }
  void expect_one_expert_each(const std::vector<E>& those) const {
    const Index all = std::ssize(those) + num_free();
    if (all != router.num_experts())
      throw OptionError("SparseMlp: there are " + std::to_string(all) + " experts, expected " +
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
