// A mixture of experts with its router, against libtorch's loop over experts, against our own dense net of the same
// active flops, against itself on one thread and under skewed routing.
// moe/<format>/<routing>/experts:<E>/selected:<K>/threads:<t>
#include "bench/session.hpp"
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace gatefold::bench {
namespace {

template <ForwardLayer L>
Contender ours(L layer, Tensor<float, 2> x, Index threads) {
  struct Data {
    L layer;
    Tensor<float, 2> x, y;
    Context ctx;
  };
  Tensor<float, 2> y(x.shape());
  auto d = std::make_shared<Data>(Data{std::move(layer), std::move(x), std::move(y), with_threads(threads)});
  return {[d] { infer(d->layer, d->x, d->y, d->ctx); }};
}

/// The weights in the format of the case.
template <class L>
Contender packed(const L& layer, Tensor<float, 2> x, const MoeCase& c) {
  return with_format(c.format, [&]<class F>() { return ours(pack<F>(layer), std::move(x), c.threads); });
}

Contender mixture(const MoeCase& c) {
  auto layer =
      filled(SparseMlp(TopKRouter<float>({.width = c.width, .num_experts = c.experts, .num_selected = c.selected}),
                       Mlp<float>({.width = c.width, .hidden = c.hidden})));
  auto& router = layer.router.weight;
  std::ranges::fill(router.flat(), 0.0f);
  for (Index e = 0; e < c.experts; ++e) router.view()(e, e) = 1;
  return packed(layer, routed_tokens(c), c);
}

/// Every token `selected` times through one net.
Contender dense(const MoeCase& c) {
  return packed(filled(Mlp<float>({.width = c.width, .hidden = c.hidden})),
                random_rows(c.tokens * c.selected, c.width, 2), c);
}

void add(Session& session, const MoeCase& c) {
  using enum Entrant::Role;
  Case row;
  row.name = row_name("moe/" + name(c.format) + (c.zipf > 0 ? "/zipf" : "/uniform"),
                      {{"experts", c.experts}, {"selected", c.selected}, {"threads", c.threads}});
  row.threads = c.threads;
  const double weights = 2.0 * static_cast<double>(c.width) * static_cast<double>(c.hidden);
  row.work = {.flops = 2 * weights * static_cast<double>(c.tokens * c.selected),
              .bytes = weights * static_cast<double>(c.experts) * bytes_per_weight(c.format),
              .format = c.format,
              .memory = Limit::dram};
  row.entrants.push_back({"gatefold", [c] { return mixture(c); }});
  row.entrants.push_back({"dense", [c] { return dense(c); }, self});
  const auto compare_with = [&](const char* name, MoeCase other) {
    row.entrants.push_back({name, [other] { return mixture(other); }, self});
  };
  MoeCase other = c;
  other.threads = 1;
  if (c.threads > 1) compare_with("one_thread", other);
  other = c;
  other.zipf = 0;
  if (c.zipf > 0) compare_with("uniform", other);
  other = c;
  other.format = Format::bf16;
  if (c.format == Format::int8) compare_with("bf16", other);
  add_peers(row.entrants, &Peer::moe, c);
  session.add(std::move(row));
}

}  // namespace

void add_cases(Session& session) {
  MoeCase c{.tokens = 2048, .width = 768, .hidden = 3072, .experts = 0, .selected = 0, .threads = 0};
  if (session.quick()) c = {.tokens = 64, .width = 64, .hidden = 128, .experts = 0, .selected = 0, .threads = 0};
  for (const Format format : kFormats)
    for (const Index threads : {1, 2})
      for (const Index experts : {8, 32})
        for (const Index selected : {1, 2})
          for (const double zipf : {0.0, 1.2}) {
            if (zipf > 0 && (threads == 1 || selected == 1 || format != Format::fp32)) continue;
            c.format = format, c.threads = threads, c.experts = experts, c.selected = selected, c.zipf = zipf;
            add(session, c);
          }
}

}  // namespace gatefold::bench
