#include "gatefold/kernels/cached_attention.hpp"

#include <gtest/gtest.h>

#include "tests/support/alloc_guard.hpp"
#include "tests/support/dual.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::kernels::cached_attention_test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <class T>
Tensor<T, 2> random_rows(Shape<2> shape, std::uint64_t seed) {
  Tensor<T, 2> t(shape);
  const Rng rng(seed);
  for (Index i = 0; i < t.size(); ++i) t.data()[i] = T(static_cast<double>(static_cast<float>(rng.normal_at(i))));
  return t;
}

struct Heads {
  Index heads, key_heads, width, window = 0;
  bool sinks = false;
  double scale = 0;

  Index queries() const { return heads * width; }
  Index keys() const { return key_heads * width; }
  Index projected() const { return queries() + 2 * keys(); }
};

/// Tokens of several sequences, one behind the other.
struct Layout {
  std::vector<Index> offset{0}, row;

  explicit Layout(const std::vector<Index>& lengths) {
    for (const Index n : lengths) offset.push_back(offset.back() + n);
    for (Index i = 0; i < offset.back(); ++i) row.push_back(i);
  }
  AttentionPlan plan(const Heads& h) const {
    return {.offset = {offset.data(), {std::ssize(offset)}},
            .row = {row.data(), {std::ssize(row)}},
            .heads = h.heads,
            .mask = AttentionMask::causal,
            .key_heads = h.key_heads,
            .window = h.window,
            .scale = h.scale};
  }
};

template <class F>
struct Cache {
  typename KeyValues<F>::Size size;
  Tensor<F, 1> key, value;
  std::vector<Index> length;
  Cache(Index sequences, const Heads& h, Index capacity)
      : size{sequences, h.key_heads, capacity, h.width, h.width},
        key({sequences * h.key_heads * size.keys_of_head()}),
        value({sequences * h.key_heads * size.values_of_head()}),
        length(static_cast<std::size_t>(sequences)) {}
  KeyValues<F> view() { return {size, key.data(), value.data(), {length.data(), {size.sequences}}}; }
};

template <class T>
Tensor<T, 1> sinks_of(const Heads& h) {
  Tensor<T, 1> sink({h.sinks ? h.heads : 0});
  for (Index i = 0; i < sink.size(); ++i) sink.data()[i] = T(0.7 * static_cast<double>(i) - 1);
  return sink;
}

/// The next `count[b]` rows of each sequence, whose rows lie in qkv as `all` has them, from done[b] on.
template <class T, class F>
void step(const Heads& h, const Layout& all, const Tensor<T, 2>& qkv, const std::vector<Index>& count, Cache<F>& cache,
          Tensor<T, 2>& y, Context& ctx) {
  const Layout now(count);
  Tensor<T, 2> here({now.offset.back(), h.projected()}), out({now.offset.back(), h.queries()});
  const auto each_row = [&](auto&& copy) {
    for (std::size_t b = 0; b < count.size(); ++b)
      for (Index i = 0; i < count[b]; ++i) copy(now.offset[b] + i, all.offset[b] + cache.length[b] + i);
  };
  each_row([&](Index to, Index from) { std::copy_n(&qkv.view()(from, 0), h.projected(), &here.view()(to, 0)); });
  const Index q = h.queries(), k = h.keys();
  const Rows<const T> rows = here;
  append_key_values<T, F>(rows.columns(q, q + k), rows.columns(q + k, q + 2 * k), now.plan(h).offset, now.plan(h).row,
                          cache.view(), ctx);
  attend_cached<T, F>(rows.columns(0, q), now.plan(h), cache.view(), sinks_of<T>(h), out, ctx);
  each_row([&](Index from, Index to) { std::copy_n(&out.view()(from, 0), q, &y.view()(to, 0)); });
  for (std::size_t b = 0; b < count.size(); ++b) cache.length[b] += count[b];
}

/// All rows in steps: `first` of them, then one at a time, until each sequence has its length.
template <class T, class F>
Tensor<T, 2> in_steps(const Heads& h, const std::vector<Index>& lengths, const std::vector<Index>& first,
                      const Tensor<T, 2>& qkv, Context& ctx) {
  const Layout all(lengths);
  Cache<F> cache(std::ssize(lengths), h, std::ranges::max(lengths));
  Tensor<T, 2> y({qkv.extent(0), h.queries()});
  std::ranges::fill(y.flat(), T(7.0));
  step(h, all, qkv, first, cache, y, ctx);
  while (true) {
    std::vector<Index> one;
    for (std::size_t b = 0; b < lengths.size(); ++b) one.push_back(cache.length[b] < lengths[b]);
    if (std::ranges::count(one, 1) == 0) return y;
    step(h, all, qkv, one, cache, y, ctx);
  }
}

template <class T>
Tensor<T, 2> at_once(const Heads& h, const std::vector<Index>& lengths, const Tensor<T, 2>& qkv, Context& ctx) {
  const Layout all(lengths);
  Tensor<T, 2> y({qkv.extent(0), h.queries()}), stats({qkv.extent(0), 2 * h.heads});
  attend<T>(qkv, all.plan(h), sinks_of<T>(h), y, stats, ctx);
  return y;
}

const Heads kForms[] = {{.heads = 2, .key_heads = 2, .width = 5},
                        {.heads = 4, .key_heads = 2, .width = 16, .window = 1},
                        {.heads = 6, .key_heads = 2, .width = 33, .window = 20, .sinks = true},
                        {.heads = 3, .key_heads = 1, .width = 8, .window = 37, .scale = 0.4},
                        {.heads = 9, .key_heads = 1, .width = 24, .sinks = true}};

template <class T>
void expect_the_bits_of_forward(Isa isa) {
  const std::vector<Index> lengths{70, 1, 45, 0}, first{33, 1, 0, 0};
  for (const Heads& h : kForms)
    for (const Index workers : {1, 7}) {  // among seven, the workers share the positions of a head
      SCOPED_TRACE(testing::Message() << h.heads << " heads, window " << h.window << ", " << workers << " workers, "
                                      << name(isa));
      Context ctx;
      ctx.isa = isa;
      ctx.parallel_for = workers == 1 ? ParallelFor() : test::threads(workers);
      const auto qkv = random_rows<T>({116, h.projected()}, 1);
      EXPECT_EQ((in_steps<T, T>(h, lengths, first, qkv, ctx)), at_once(h, lengths, qkv, ctx));
    }
}

TEST(CachedAttention, AnyStepsGiveTheBitsOfForward) {
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    expect_the_bits_of_forward<float>(isa);
    expect_the_bits_of_forward<double>(isa);
  }
}

// Chains of 256 keys, in windows that begin within a panel and within a chain.
TEST(CachedAttention, LongSequencesToo) {
  for (const Index window : {0, 300, 517})
    for (const Index workers : {1, 7}) {
      const Heads h{.heads = 2, .key_heads = 1, .width = 8, .window = window, .sinks = true};
      const std::vector<Index> lengths{1100, 601}, first{1090, 590};
      const auto qkv = random_rows<float>({1701, h.projected()}, 1);
      Context ctx;
      ctx.parallel_for = workers == 1 ? ParallelFor() : test::threads(workers);
      EXPECT_EQ((in_steps<float, float>(h, lengths, first, qkv, ctx)), at_once(h, lengths, qkv, ctx)) << window;
    }
}

TEST(CachedAttention, OfOtherNumbers) {
  const Heads h{.heads = 2, .key_heads = 1, .width = 3, .window = 4, .sinks = true};
  const auto qkv = random_rows<Dual>({7, h.projected()}, 1);
  Context ctx;
  const auto y = in_steps<Dual, Dual>(h, {7}, {3}, qkv, ctx), wanted = at_once(h, {7}, qkv, ctx);
  for (Index i = 0; i < y.size(); ++i) EXPECT_EQ(y.data()[i].v, wanted.data()[i].v);
}

// bf16 keeps rounded numbers; all that follows is as with floats of that value.
TEST(CachedAttention, Bf16IsRoundedKeysAndValues) {
  for (const Heads& h : kForms)
    for (const Isa isa : {Isa::simd, Isa::portable})
      for (const Index workers : {1, 7}) {
        const std::vector<Index> lengths{70, 1, 301}, first{33, 1, 290};
        const auto qkv = random_rows<float>({372, h.projected()}, 1);
        auto rounded = qkv;
        for (Index i = 0; i < 372; ++i)
          for (Index c = h.queries(); c < h.projected(); ++c)
            rounded.view()(i, c) = static_cast<float>(bf16(qkv.view()(i, c)));
        Context ctx;
        ctx.isa = isa;
        ctx.parallel_for = workers == 1 ? ParallelFor() : test::threads(workers);
        EXPECT_EQ((in_steps<float, bf16>(h, lengths, first, qkv, ctx)),
                  (in_steps<float, float>(h, lengths, first, rounded, ctx)));
      }
}

TEST(CachedAttention, ASequenceGetsTheSameAloneAndAmongOthers) {
  const Heads h{.heads = 4, .key_heads = 2, .width = 16, .window = 30};
  const std::vector<Index> lengths{70, 20, 45}, first{65, 3, 0};
  const auto qkv = random_rows<float>({135, h.projected()}, 1);
  Context ctx;
  const auto together = in_steps<float, float>(h, lengths, first, qkv, ctx);
  Index at = 0;
  for (std::size_t b = 0; b < 3; at += lengths[b++]) {
    Tensor<float, 2> own({lengths[b], h.projected()});
    std::copy_n(&qkv.view()(at, 0), own.size(), own.data());
    const auto alone = in_steps<float, float>(h, {lengths[b]}, {first[b]}, own, ctx);
    EXPECT_TRUE(std::ranges::equal(
        alone.flat(), together.flat().subspan(static_cast<std::size_t>(at * h.queries()), alone.flat().size())));
  }
}

// What lies behind a sequence or before a window may be anything.
TEST(CachedAttention, WhatIsNotSeenDoesNotReach) {
  const auto check = [](auto kept) {
    using F = decltype(kept);
    const Heads h{.heads = 2, .key_heads = 1, .width = 6, .window = 9};
    const auto qkv = random_rows<float>({40, h.projected()}, 1);
    auto changed = qkv;
    std::ranges::fill(std::span(&changed.view()(20, 0), static_cast<std::size_t>(h.projected())), kNan);
    for (const Isa isa : {Isa::simd, Isa::portable}) {
      Context ctx;
      ctx.isa = isa;
      for (const Index first : {0, 18, 36}) {
        const auto clean = in_steps<float, F>(h, {40}, {first}, qkv, ctx),
                   y = in_steps<float, F>(h, {40}, {first}, changed, ctx);
        for (Index i = 0; i < 40; ++i)
          EXPECT_EQ(y.view()(i, 3) == clean.view()(i, 3), i < 20 || i >= 29) << i << " after " << first;
      }
    }
    // Rubbish from tokens that were taken back.
    Context ctx;
    Cache<F> cache(1, h, 40);
    std::ranges::fill(cache.key.flat(), F(kNan));
    std::ranges::fill(cache.value.flat(), F(kNan));
    Tensor<float, 2> y({40, h.queries()});
    step(h, Layout({40}), qkv, {7}, cache, y, ctx);
    step(h, Layout({40}), qkv, {1}, cache, y, ctx);
    for (Index i = 0; i < 8; ++i) EXPECT_TRUE(std::isfinite(y.view()(i, 0))) << i;
  };
  check(float{});
  check(bf16{});
}

TEST(CachedAttention, NoAllocationAfterWarmUp) {
  const Heads h{.heads = 4, .key_heads = 2, .width = 16};
  const auto qkv = random_rows<float>({60, h.projected()}, 1);
  Cache<float> cache(1, h, 60);
  const Layout now({60});
  Tensor<float, 2> y({60, h.queries()});
  Context ctx;
  ctx.parallel_for = ParallelFor();
  const auto pass = [&] {
    attend_cached<float, float>(qkv.view().columns(0, 64), now.plan(h), cache.view(), {}, y, ctx);
  };
  pass();
  const test::AllocGuard guard;
  pass();
  EXPECT_EQ(guard.count(), 0);
}

}  // namespace
}  // namespace gatefold::kernels::cached_attention_test
