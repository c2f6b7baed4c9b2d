// Routing of 4096 tokens from given logits: gates, choice and plan against softmax and topk (both write all gates);
// from given choices the seat of each and the gates of those within the capacity against GShard's one-hot and
// cumulative sum, which is all that that computes, and our whole plan (lists of slots by expert and by token) against
// the same; gates, choice and plan of sigmoid scores with a selection bias (DeepSeek-V3's, without groups); and the
// whole router. <what>/experts:<E>/selected:<K>/threads:<t>
#include "bench/session.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace gatefold::bench {
namespace {

struct Data {
  Tensor<float, 2> logits, gates;
  Tensor<Index, 2> choice;
  Context ctx;
  explicit Data(const RoutingCase& c)
      : logits(routing_logits(c.tokens, c.experts, 0)),
        gates(logits.shape()),
        choice({c.tokens, c.selected}),
        ctx(with_threads(c.threads)) {
    choose();
  }
  void choose() { kernels::softmax_top_k_rows<float>(logits, {.gates = gates, .choice = choice}, ctx); }
  void plan(const Capacity& capacity) {
    const auto scope = ctx.workspace.scope();
    benchmark::DoNotOptimize(plan_top_k<float>(gates, choice, {.capacity = capacity}, ctx).offset.data());
  }
};

Contender gates_choice_plan(const RoutingCase& c) {
  auto d = std::make_shared<Data>(c);
  return {[d] {
    d->choose();
    d->plan({});
  }};
}

Contender sigmoid_choice_plan(const RoutingCase& c) {
  struct Biased {
    Data data;
    Tensor<float, 1> bias;
  };
  auto d = std::make_shared<Biased>(Biased{Data(c), Tensor<float, 1>({c.experts})});
  for (Index e = 0; e < c.experts; ++e) d->bias.data()[e] = static_cast<float>(e % 5) / 100;
  return {[d] {
    Data& data = d->data;
    kernels::score_top_k_rows<float>(RouterScore::sigmoid, data.logits, {.bias = d->bias},
                                     {.scores = data.gates, .choice = data.choice}, data.ctx);
    data.plan({});
  }};
}

Contender plan_in_capacity(const RoutingCase& c) {
  auto d = std::make_shared<Data>(c);
  return {[d, factor = c.capacity_factor] { d->plan({.factor = factor}); }};
}

/// All first choices before all second ones, as the peer.
Contender seats(const RoutingCase& c) {
  struct Seats {
    Data data;
    Tensor<float, 2> gate;             // [S, K] of the choices
    Tensor<float, 2> kept;             // [K, S] or 0
    Tensor<std::uint32_t, 2> seat;     // [K, S]
    Tensor<std::uint32_t, 1> claimed;  // [E]
    std::uint32_t capacity;
  };
  const Capacity capacity{.factor = c.capacity_factor};
  auto d = std::make_shared<Seats>(
      Seats{Data(c), Tensor<float, 2>({c.tokens, c.selected}), Tensor<float, 2>({c.selected, c.tokens}),
            Tensor<std::uint32_t, 2>({c.selected, c.tokens}), Tensor<std::uint32_t, 1>({c.experts}),
            static_cast<std::uint32_t>(
                capacity.seats({.tokens = c.tokens, .num_selected = c.selected, .num_experts = c.experts}))});
  for (Index s = 0; s < c.tokens; ++s)
    for (Index k = 0; k < c.selected; ++k) d->gate.view()(s, k) = d->data.gates.view()(s, d->data.choice.view()(s, k));
  return {[d, c] {
    std::ranges::fill(d->claimed.flat(), 0u);
    const Index selected = c.selected;
    const std::uint32_t limit = d->capacity;
    for (Index k = 0; k < selected; ++k) {
      const Index* const choice = d->data.choice.flat().data() + k;
      const float* const gate = d->gate.flat().data() + k;
      std::uint32_t* const seat = d->seat.view()[k].data();
      float* const kept = d->kept.view()[k].data();
      kernels::count_claims(d->data.ctx.isa, {choice, selected, c.tokens}, c.experts, d->claimed.flat().data(), seat);
      gatefold::detail::with_constant(selected, [&](auto stride) {
        for (Index s = 0; s < c.tokens; ++s) kept[s] = seat[s] < limit ? gate[s * stride] : 0.0f;
      });
    }
    benchmark::ClobberMemory();
  }};
}

/// From tokens of width 768, with batch priority.
Contender router(const RoutingCase& c) {
  struct Whole {
    TopKRouter<float> router;
    Tensor<float, 2> x;
    Context ctx;
  };
  const Index width = 768;
  auto d = std::make_shared<Whole>(Whole{filled(TopKRouter<float>({.width = width,
                                                                   .num_experts = c.experts,
                                                                   .num_selected = c.selected,
                                                                   .capacity = {.factor = c.capacity_factor},
                                                                   .priority = Priority::max_gate})),
                                         random_rows(c.tokens, width, 1), with_threads(c.threads)});
  return {[d] {
    const auto scope = d->ctx.workspace.scope();
    benchmark::DoNotOptimize(d->router.forward(d->x, d->ctx).plan.offset.data());
  }};
}

void add(Session& session, const RoutingCase& c) {
  const auto row = [&](const std::string& what, Contender (*make)(const RoutingCase&),
                       Peer::Make<RoutingCase> Peer::*peer) {
    Case result;
    result.name = row_name(what, {{"experts", c.experts}, {"selected", c.selected}, {"threads", c.threads}});
    result.threads = c.threads;
    result.work = {.unit = "token", .units = static_cast<double>(c.tokens)};
    result.entrants.push_back({"gatefold", [make, c] { return make(c); }});
    if (peer) add_peers(result.entrants, peer, c);
    return result;
  };
  session.add(row("gates_choice_plan", gates_choice_plan, &Peer::softmax_top_k));
  session.add(row("sigmoid_choice_plan", sigmoid_choice_plan, nullptr));
  if (c.threads == 1) session.add(row("seats", seats, &Peer::seats));
  session.add(row("plan_in_capacity", plan_in_capacity, &Peer::seats));
  Case whole = row("router", router, nullptr);
  whole.work.flops = 2.0 * static_cast<double>(c.tokens) * 768 * static_cast<double>(c.experts);
  session.add(std::move(whole));
}

}  // namespace

void add_cases(Session& session) {
  const Index tokens = session.quick() ? 64 : 4096;
  for (const Index threads : {1, 2})
    for (const Index experts : {8, 32, 128, 256})
      for (const Index selected : {1, 2, 8})
        if (selected < experts && (threads == 1 || selected == 2))
          add(session, {.tokens = tokens, .experts = experts, .selected = selected, .threads = threads});
}

}  // namespace gatefold::bench
