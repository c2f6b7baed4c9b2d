// One expert, y = down(gelu(up(x))): in turn with its weights in cache as far as they fit, and cold, where each call
// takes another expert. ffn/<format>/<width>x<hidden>/rows:<m>/threads:<t>
#include "bench/session.hpp"
#include "gatefold/nn/mlp.hpp"

namespace gatefold::bench {
namespace {

/// Ours; make() gives the next expert.
template <class Make>
Contender ours(const FfnCase& c, Make&& make) {
  using L = decltype(make());
  struct Data {
    std::vector<L> experts;
    Tensor<float, 2> x, y;
    Context ctx;
    std::size_t next = 0;
  };
  auto d = std::make_shared<Data>(
      Data{{}, random_rows(c.rows, c.width, 1), Tensor<float, 2>({c.rows, c.width}), with_threads(c.threads)});
  for (Index e = 0; e < c.experts; ++e) d->experts.push_back(make());
  return {[d] { infer(d->experts[d->next++ % d->experts.size()], d->x, d->y, d->ctx); }};
}

Contender packed(const FfnCase& c) {
  const auto expert = filled(Mlp<float>({.width = c.width, .hidden = c.hidden}));
  return with_format(c.format, [&]<class F>() { return ours(c, [&] { return pack<F>(expert); }); });
}

/// Of weights of which two of each four are zero, without these.
Contender without_zeros(const FfnCase& c) {
  auto expert = filled(Mlp<float>({.width = c.width, .hidden = c.hidden}));
  for (auto* weight : {&expert.up.weight, &expert.down.weight})
    for (std::size_t i = 0; i < weight->flat().size(); ++i)
      if (i % 4 >= 2) weight->flat()[i] = 0;
  return with_format(c.format, [&]<class F>() -> Contender {
    if constexpr (kernels::NmFormat<Nm<F, 2, 4>>)
      return ours(c, [&] { return pack<Nm<F, 2, 4>>(expert); });
    else
      return {};
  });
}

/// Weights as they are trained: panels are packed in every call.
Contender unpacked(const FfnCase& c) {
  const auto expert = filled(Mlp<float>({.width = c.width, .hidden = c.hidden}));
  return ours(c, [&] { return expert; });
}

void add(Session& session, const FfnCase& c) {
  Case row;
  row.name = row_name((c.experts > 1 ? "cold_ffn/" : "ffn/") + name(c.format) + "/" + std::to_string(c.width) + "x" +
                          std::to_string(c.hidden),
                      {{"rows", c.rows}, {"threads", c.threads}});
  row.threads = c.threads;
  const double weights = 2.0 * static_cast<double>(c.width) * static_cast<double>(c.hidden);
  row.work = {.flops = 2 * weights * static_cast<double>(c.rows),
              .bytes = weights * bytes_per_weight(c.format),
              .format = c.format,
              .memory = c.experts > 1 ? Limit::dram : Limit::l2};
  row.entrants.push_back({"gatefold", [c] { return packed(c); }});
  if (c.format == Format::fp32) row.entrants.push_back({"unpacked", [c] { return unpacked(c); }, Entrant::Role::self});
  if (c.format <= Format::int8) row.entrants.push_back({"2:4", [c] { return without_zeros(c); }, Entrant::Role::self});
  add_peers(row.entrants, &Peer::ffn, c);
  session.add(std::move(row));
}

}  // namespace

void add_cases(Session& session) {
  struct Width {
    Index width, hidden;
  };
  const std::vector<Width> widths = session.quick()
                                        ? std::vector<Width>{{96, 384}}
                                        : std::vector<Width>{{192, 768}, {512, 2048}, {768, 3072}, {1024, 4096}};
  const std::vector<Index> rows =
      session.quick() ? std::vector<Index>{1, 16} : std::vector<Index>{1, 4, 16, 64, 196, 1024};
  // Together several times what the last cache holds.
  const double cold = session.quick() ? 1e6 : std::max(1.6e8, 4.0 * static_cast<double>(detail::cache_bytes(3, 0)));
  const auto [middle, middle_hidden] = widths[widths.size() / 2];
  for (const Format format : kFormats)
    for (const Index threads : {1, 2}) {
      for (const auto [width, hidden] : widths) {
        if (width != middle && (threads > 1 || format >= Format::int4)) continue;
        for (const Index m : rows)
          add(session, {.format = format, .rows = m, .width = width, .hidden = hidden, .threads = threads});
      }
      const double one = 2.0 * static_cast<double>(middle * middle_hidden) * bytes_per_weight(format);
      for (const Index m : {1, 4})
        add(session, {.format = format,
                      .rows = m,
                      .width = middle,
                      .hidden = middle_hidden,
                      .threads = threads,
                      .experts = static_cast<Index>(cold / one) + 1});
    }
}

}  // namespace gatefold::bench
