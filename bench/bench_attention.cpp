// Attention of one new token to a cache: 32 heads of 128, every `group` of which share keys, 4,096 tokens, the caches
// of as many layers by turns as no cache of the machine holds. And of a prompt, against the way without a cache.
// decode/<format>/tokens:<T>/group:<g>/threads:<t>, prompt/fp32/tokens:<T>/group:<g>/threads:<t>
#include "bench/session.hpp"
#include "gatefold/kernels/cached_attention.hpp"
#include "gatefold/nn/key_value_cache.hpp"

namespace gatefold::bench {
namespace {

struct AttentionCase {
  Index tokens, group, threads;
  Index heads = 32, width = 128, layers = 12;

  Index key_heads() const { return heads / group; }
  double numbers() const { return 2.0 * static_cast<double>(key_heads() * width * tokens); }  // of keys and values
};

/// The plan of `rows` new tokens of one sequence.
struct Plan {
  std::vector<Index> offset, row;
  kernels::AttentionPlan plan(const AttentionCase& c) const {
    return {.offset = {offset.data(), {2}},
            .row = {row.data(), {std::ssize(row)}},
            .heads = c.heads,
            .mask = kernels::AttentionMask::causal,
            .key_heads = c.key_heads()};
  }
  explicit Plan(Index rows) : offset{0, rows} {
    for (Index i = 0; i < rows; ++i) row.push_back(i);
  }
};

template <class F>
Contender decode_one(const AttentionCase& c) {
  struct Data {
    std::vector<KeyValueCache<float, F>> caches;
    Plan one{1};
    Tensor<float, 2> q, y;
    Context ctx;
    std::size_t next = 0;
  };
  auto d = std::make_shared<Data>(Data{.caches = {},
                                       .q = random_rows(1, c.heads * c.width, 1),
                                       .y = Tensor<float, 2>({1, c.heads * c.width}),
                                       .ctx = with_threads(c.threads)});
  const auto numbers = random_rows(c.tokens, c.key_heads() * c.width, 2);
  const Plan all(c.tokens);
  for (Index layer = 0; layer < c.layers; ++layer) {
    auto& cache = d->caches.emplace_back(typename KeyValueCache<float, F>::Size{
        .sequences = 1, .heads = c.key_heads(), .capacity = c.tokens, .key_width = c.width, .value_width = c.width});
    kernels::append_key_values<float, F>(numbers, numbers, all.plan(c).offset, all.plan(c).row, cache.view(), d->ctx);
    cache.length[0] = c.tokens - 1;
  }
  return {[d, c] {
    kernels::attend_cached<float, F>(d->q, d->one.plan(c), d->caches[d->next].view(), {}, d->y, d->ctx);
    d->next = (d->next + 1) % d->caches.size();
  }};
}

Contender prompt(const AttentionCase& c, bool cached) {
  struct Data {
    KeyValueCache<float> cache;
    Plan all;
    Tensor<float, 2> qkv, y, stats;
    Context ctx;
  };
  const Index queries = c.heads * c.width, keys = c.key_heads() * c.width;
  auto d = std::make_shared<Data>(Data{
      .cache = KeyValueCache<float>(
          {.sequences = 1, .heads = c.key_heads(), .capacity = c.tokens, .key_width = c.width, .value_width = c.width}),
      .all = Plan(c.tokens),
      .qkv = random_rows(c.tokens, queries + 2 * keys, 1),
      .y = Tensor<float, 2>({c.tokens, queries}),
      .stats = Tensor<float, 2>({c.tokens, 2 * c.heads}),
      .ctx = with_threads(c.threads)});
  return {[=] {
    const Rows<const float> qkv = d->qkv;
    const auto plan = d->all.plan(c);
    if (!cached) return kernels::attend<float>(qkv, plan, {}, d->y, d->stats, d->ctx);
    kernels::append_key_values<float, float>(qkv.columns(queries, queries + keys),
                                             qkv.columns(queries + keys, queries + 2 * keys), plan.offset, plan.row,
                                             d->cache.view(), d->ctx);
    kernels::attend_cached<float, float>(qkv.columns(0, queries), plan, d->cache.view(), {}, d->y, d->ctx);
  }};
}

void add(Session& session, const AttentionCase& c, Format format) {
  Case row;
  row.name = row_name("decode/" + name(format), {{"tokens", c.tokens}, {"group", c.group}, {"threads", c.threads}});
  row.threads = c.threads;
  row.work = {.bytes = c.numbers() * bytes_per_weight(format), .format = format, .memory = Limit::dram};
  row.entrants.push_back(
      {"gatefold", [c, format] { return format == Format::bf16 ? decode_one<bf16>(c) : decode_one<float>(c); }});
  session.add(std::move(row));
}

}  // namespace

void add_cases(Session& session) {
  for (const Index threads : {1, 2}) {
    AttentionCase c{.tokens = 4096, .group = 4, .threads = threads};
    if (session.quick()) c.tokens = 64, c.width = 16, c.layers = 2;
    for (const Index group : {1, 4, 8})
      for (const Format format : {Format::fp32, Format::bf16}) {
        c.group = group;
        add(session, c, format);
      }
    c.tokens /= 4, c.group = 4;
    Case row;
    row.name = row_name("prompt/fp32", {{"tokens", c.tokens}, {"group", c.group}, {"threads", threads}});
    row.threads = threads;
    const double pairs = static_cast<double>(c.tokens * (c.tokens + 1)) / 2;
    row.work = {.flops = 4 * pairs * static_cast<double>(c.heads * c.width)};
    row.entrants.push_back({"gatefold", [c] { return prompt(c, true); }});
    row.entrants.push_back({"without_cache", [c] { return prompt(c, false); }, Entrant::Role::self});
    session.add(std::move(row));
  }
}

}  // namespace gatefold::bench
