#include "gatefold/kernels/attention.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/alloc_guard.hpp"
#include "tests/support/dual.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::kernels::attention_test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

struct Sequences {
  std::vector<Index> offset, row;
  Index heads = 1;
  AttentionMask mask = AttentionMask::none;
  Index key_heads = 0, window = 0;
  double scale = 0;
  std::vector<double> sinks = {};  // [heads] or none

  AttentionPlan plan() const {
    return {.offset = {offset.data(), {std::ssize(offset)}},
            .row = {row.data(), {std::ssize(row)}},
            .heads = heads,
            .mask = mask,
            .key_heads = key_heads,
            .window = window,
            .scale = scale};
  }
  template <class T>
  Tensor<T, 1> sink() const {
    Tensor<T, 1> all({std::ssize(sinks)});
    std::ranges::transform(sinks, all.data(), [](double s) { return T(s); });
    return all;
  }
  Index projected(Index width) const { return width + 2 * width / plan().group(); }
  Sequences sharing(Index keys, Index nearest) const {
    auto other = *this;
    other.key_heads = keys, other.window = nearest;
    return other;
  }
  Sequences with_sinks(const std::vector<double>& of_heads, double scores) const {
    auto other = *this;
    other.sinks = of_heads, other.scale = scores;
    return other;
  }
};
/// Sequences of these lengths; every fifth row is padding, which must be neither read nor written.
Sequences sequences(const std::vector<Index>& lengths, Index heads = 1, AttentionMask mask = AttentionMask::none) {
  Sequences s{.offset = {0}, .row = {}, .heads = heads, .mask = mask};
  Index at = 0;
  for (const Index n : lengths) {
    for (Index i = 0; i < n; ++i) {
      if (at % 5 == 2) ++at;
      s.row.push_back(at++);
    }
    s.offset.push_back(std::ssize(s.row));
  }
  return s;
}
Index num_rows(const Sequences& s) { return s.row.empty() ? 3 : s.row.back() + 3; }

template <class T>
Tensor<T, 2> random_rows(Shape<2> shape, std::uint64_t seed, double size = 1) {
  Tensor<T, 2> t(shape);
  const Rng rng(seed);
  for (Index i = 0; i < t.size(); ++i)
    t.data()[i] = T(static_cast<double>(static_cast<float>(size * rng.normal_at(i))));
  return t;
}

template <class T>
struct Result {
  Tensor<T, 2> y, dqkv;
  Tensor<T, 2> dsink = {};  // [R, heads], 0 where no token is
  bool operator==(const Result&) const = default;
};

/// Into buffers of 7, within wider rows.
template <class T>
Result<T> run(const Sequences& s, const Tensor<T, 2>& qkv, const Tensor<T, 2>& dy, Context& ctx) {
  Result<T> r{Tensor<T, 2>(dy.shape()), Tensor<T, 2>(qkv.shape())};
  std::ranges::fill(r.y.flat(), T(7.0));
  std::ranges::fill(r.dqkv.flat(), T(7.0));
  Tensor<T, 2> stats({qkv.extent(0), 2 * s.heads + 1});
  const Index width = dy.extent(1) - 1, projected = s.projected(width);
  const Rows<T> stats_rows = stats.view().columns(1, 2 * s.heads + 1);
  const auto sink = s.sink<T>();
  if (sink.size()) r.dsink = Tensor<T, 2>({qkv.extent(0), s.heads});
  attend<T>(qkv.view().columns(0, projected), s.plan(), sink, r.y.view().columns(1, width + 1), stats_rows, ctx);
  attend_grad<T>(qkv.view().columns(0, projected), s.plan(), {sink, r.dsink}, stats_rows,
                 dy.view().columns(1, width + 1), r.dqkv.view().columns(0, projected), ctx);
  return r;
}

double largest(const Tensor<double, 2>& t) {
  double most = 0;
  for (const double x : t.flat()) most = std::max(most, std::abs(x));
  return most;
}

/// Each score is a chain of d products, whose rounding errors (in units of u |q| |k| / sqrt(d)) turn into relative
/// errors of its weight; a mean over n values adds n more, the softmax ten. What the values can reach bounds the rest.
struct Tolerance {
  double y, dqkv;
  Tolerance(double unit, Index n, Index d, const Tensor<double, 2>& qkv, const Tensor<double, 2>& dy) {
    const double length = static_cast<double>(n), depth = static_cast<double>(d);
    const double x = largest(qkv), g = largest(dy), score = std::sqrt(depth) * x * x, dp = depth * x * g;
    const double relative = unit * (length + 10 + 2 * (depth + 2) * score);
    y = x * relative;
    dqkv = (relative + 3 * unit * (depth + length)) * (1 + length) * (2 * dp * x / std::sqrt(depth) + g);
  }
};

template <class T>
void expect_as_in_double(const Sequences& s, Index d, double unit) {
  const Index width = s.heads * d, rows = num_rows(s);
  const auto qkv = random_rows<T>({rows, s.projected(width) + 2}, 1), dy = random_rows<T>({rows, width + 1}, 2);
  const auto exact_qkv = random_rows<double>(qkv.shape(), 1), exact_dy = random_rows<double>(dy.shape(), 2);
  Context ctx, portable;
  portable.isa = Isa::portable;
  const auto wanted = run(s, exact_qkv, exact_dy, portable);
  const Tolerance tolerance(unit, s.plan().longest(), d, exact_qkv, exact_dy);
  const auto got = run(s, qkv, dy, ctx);
  for (std::size_t i = 0; i < got.y.flat().size(); ++i)
    ASSERT_NEAR(got.y.flat()[i], wanted.y.flat()[i], tolerance.y) << i << " of y, width " << d;
  for (std::size_t i = 0; i < got.dqkv.flat().size(); ++i)
    ASSERT_NEAR(got.dqkv.flat()[i], wanted.dqkv.flat()[i], tolerance.dqkv) << i << " of dqkv, width " << d;
  for (std::size_t i = 0; i < got.dsink.flat().size(); ++i)
    ASSERT_NEAR(got.dsink.flat()[i], wanted.dsink.flat()[i], tolerance.dqkv) << i << " of dsink, width " << d;
}

TEST(Attention, EveryLengthAgainstPlainLoops) {
  for (const auto mask : {AttentionMask::none, AttentionMask::causal})
    for (Index n = 0; n <= 70; ++n) {
      SCOPED_TRACE(n);
      expect_as_in_double<float>(sequences({n}, 1, mask), 5, 0x1p-24);
    }
}

// A key's gradient comes from as many heads as read it.
TEST(Attention, SharedKeysAndWindowsAgainstPlainLoops) {
  for (const auto mask : {AttentionMask::none, AttentionMask::causal})
    for (const Index window : {0, 1, 2, 13, 40})
      for (const Index key_heads : {1, 2}) {
        SCOPED_TRACE(testing::Message() << "window " << window << ", " << key_heads << " heads of keys");
        expect_as_in_double<float>(sequences({7, 0, 1, 70, 37}, 4, mask).sharing(key_heads, window), 9, 0x1p-24);
      }
}

// From sinks that take nearly nothing to one that takes nearly all.
TEST(Attention, SinksAndScalesAgainstPlainLoops) {
  for (const auto mask : {AttentionMask::none, AttentionMask::causal})
    for (const Index window : {0, 13})
      for (const double scale : {0.0, 0.05})
        expect_as_in_double<float>(
            sequences({7, 0, 1, 70, 37}, 4, mask).sharing(2, window).with_sinks({-30, 0, 1.5, 20}, scale), 9, 0x1p-24);
}

TEST(Attention, HeadWidthsAndRaggedSequences) {
  for (const auto mask : {AttentionMask::none, AttentionMask::causal})
    for (const Index d : {1, 2, 8, 15, 16, 17, 31, 32, 33, 48, 64, 80})
      expect_as_in_double<float>(sequences({7, 0, 1, 33, 20}, 3, mask), d, 0x1p-24);
}

TEST(Attention, DoubleIsBlockedToo) {
  for (const auto mask : {AttentionMask::none, AttentionMask::causal})
    for (const Index d : {3, 8, 24}) expect_as_in_double<double>(sequences({37, 5}, 2, mask), d, 0x1p-53);
}

/// One sequence of n tokens and one head, from the definition, a query at a time in double. // qkv [n, 3 d], dy [n, d]
Result<double> by_definition(const Tensor<float, 2>& qkv, const Tensor<float, 2>& dy, bool causal) {
  const Index n = dy.extent(0), d = dy.extent(1);
  Result<double> r{Tensor<double, 2>(dy.shape()), Tensor<double, 2>(qkv.shape())};
  const double scale = 1 / std::sqrt(static_cast<double>(d));
  std::vector<double> p(static_cast<std::size_t>(n)), dp(p);
  for (Index i = 0; i < n; ++i) {
    const Index seen = causal ? i + 1 : n;
    double total = 0, mean = 0;
    for (Index j = 0; j < seen; ++j) {
      double score = 0, slope = 0;
      for (Index c = 0; c < d; ++c) {
        score += double{qkv.view()(i, c)} * qkv.view()(j, d + c);
        slope += double{dy.view()(i, c)} * qkv.view()(j, 2 * d + c);
      }
      const auto at = static_cast<std::size_t>(j);
      total += p[at] = std::exp(score * scale);
      dp[at] = slope;
    }
    for (std::size_t j = 0; j < static_cast<std::size_t>(seen); ++j) mean += (p[j] /= total) * dp[j];
    for (Index j = 0; j < seen; ++j) {
      const double w = p[static_cast<std::size_t>(j)], dscore = w * (dp[static_cast<std::size_t>(j)] - mean) * scale;
      for (Index c = 0; c < d; ++c) {
        r.y.view()(i, c) += w * qkv.view()(j, 2 * d + c);
        r.dqkv.view()(i, c) += dscore * qkv.view()(j, d + c);
        r.dqkv.view()(j, d + c) += dscore * qkv.view()(i, c);
        r.dqkv.view()(j, 2 * d + c) += w * dy.view()(i, c);
      }
    }
  }
  return r;
}

// Values and gradients lie around 2, so that partial sums grow steadily, which is when a long chain of additions rounds
// most: in the root mean square, one of c terms errs by some sqrt(c / 3) units of 2^-24. Of chains of 256 that is 9, of
// which the mean over 16 chains leaves a quarter, and the sum of 16 adds as much; one chain of 4096 would err by 37.
TEST(Attention, LongSequencesKeepFloatsDigits) {
  constexpr Index n = 4096, d = 8;
  auto qkv = random_rows<float>({n, 3 * d}, 1, .5), dy = random_rows<float>({n, d}, 2, .5);
  for (Index i = 0; i < n; ++i)
    for (Index c = 0; c < d; ++c) qkv.view()(i, 2 * d + c) += 2, dy.view()(i, c) += 2;
  Sequences s{.offset = {0, n}, .row = {}, .heads = 1};
  for (Index i = 0; i < n; ++i) s.row.push_back(i);
  const double chains = n / kChain, chain = std::sqrt((kChain / chains + chains) / 3);
  // Two such sums, of the weights and of what they weigh, and two units for all else.
  const double tolerance = 0x1p-24 * (std::sqrt(2) * chain + 2);
  for (const auto mask : {AttentionMask::none, AttentionMask::causal}) {
    s.mask = mask;
    const auto wanted = by_definition(qkv, dy, mask == AttentionMask::causal);
    for (const Isa isa : {Isa::simd, Isa::portable}) {
      Context ctx;
      ctx.isa = isa;
      ctx.parallel_for = ParallelFor();
      Tensor<float, 2> y(dy.shape()), stats({n, 2}), dqkv(qkv.shape());
      attend<float>(qkv, s.plan(), {}, y, stats, ctx);
      attend_grad<float>(qkv, s.plan(), {}, stats, dy, dqkv, ctx);
      double error_y = 0, error_dv = 0;
      for (Index i = 0; i < n; ++i)
        for (Index c = 0; c < d; ++c) {
          error_y += std::pow(y.view()(i, c) / wanted.y.view()(i, c) - 1, 2);
          error_dv += std::pow(dqkv.view()(i, 2 * d + c) / wanted.dqkv.view()(i, 2 * d + c) - 1, 2);
        }
      EXPECT_LT(std::sqrt(error_y / (n * d)), tolerance) << name(isa);
      EXPECT_LT(std::sqrt(error_dv / (n * d)), tolerance) << name(isa);
    }
  }
}

// The plain loops themselves: from the definition, by dual numbers.
TEST(Attention, GradientsByDualNumbers) {
  for (const auto mask : {AttentionMask::none, AttentionMask::causal})
    for (const auto& s : {sequences({4, 3}, 2, mask), sequences({5}, 2, mask).sharing(1, 2),
                          sequences({4, 2}, 2, mask).sharing(1, 3).with_sinks({0.5, -2}, 0.3)}) {
      const Index projected = s.projected(4);
      const auto qkv = random_rows<double>({num_rows(s), projected + 2}, 1),
                 dy = random_rows<double>({num_rows(s), 5}, 2);
      Context ctx;
      const auto got = run(s, qkv, dy, ctx);
      Tensor<Dual, 2> lifted(qkv.shape()), y({num_rows(s), 4}), stats({num_rows(s), 4});
      std::ranges::transform(qkv.flat(), lifted.flat().begin(), [](double v) { return Dual(v); });
      auto sink = s.sink<Dual>();
      for (Index h = 0; h < sink.size(); ++h) {
        sink.data()[h].d = 1;
        attend<Dual>(lifted.view().columns(0, projected), s.plan(), sink, y, stats, ctx);
        sink.data()[h].d = 0;
        double wanted = 0, came = 0;
        for (const Index r : s.row) {
          came += got.dsink.view()(r, h);
          for (Index c = 0; c < 4; ++c) wanted += dy.view()(r, c + 1) * y.view()(r, c).d;
        }
        ASSERT_NEAR(came, wanted, 1e-13) << "sink " << h;
      }
      for (const Index row : s.row)
        for (Index j = 0; j < projected; ++j) {
          lifted.view()(row, j).d = 1;
          attend<Dual>(lifted.view().columns(0, projected), s.plan(), sink, y, stats, ctx);
          lifted.view()(row, j).d = 0;
          double wanted = 0;
          for (const Index r : s.row)
            for (Index c = 0; c < 4; ++c) wanted += dy.view()(r, c + 1) * y.view()(r, c).d;
          ASSERT_NEAR(got.dqkv.view()(row, j), wanted, 1e-13) << row << " " << j;
        }
    }
}

TEST(Attention, RowsOfNoTokenAreNeitherReadNorWritten) {
  for (const Isa isa : {Isa::simd, Isa::portable}) {
    const auto s = sequences({20, 17}, 2);
    const auto clean = random_rows<float>({num_rows(s), 3 * 10 + 2}, 1), dy = random_rows<float>({num_rows(s), 11}, 2);
    auto dirty = clean, dirty_dy = dy;
    std::vector<bool> is_token(static_cast<std::size_t>(num_rows(s)));
    for (const Index row : s.row) is_token[static_cast<std::size_t>(row)] = true;
    for (Index i = 0; i < num_rows(s); ++i)
      if (!is_token[static_cast<std::size_t>(i)]) {
        std::ranges::fill(std::span(&dirty.view()(i, 0), 32), kNan);
        std::ranges::fill(std::span(&dirty_dy.view()(i, 0), 11), kInf);
      }
    Context ctx;
    ctx.isa = isa;
    const auto wanted = run(s, clean, dy, ctx), got = run(s, dirty, dirty_dy, ctx);
    EXPECT_EQ(got, wanted);
    for (Index i = 0; i < num_rows(s); ++i)
      for (Index j = 0; j < 11; ++j)
        EXPECT_EQ(got.y.view()(i, j) == 7, !is_token[static_cast<std::size_t>(i)] || j == 0) << i << " " << j;
  }
}

// One query alone goes through the same operations in the same order as among others.
TEST(Attention, TheOnlyQueryOfASequenceGetsWhatItGetsAmongAll) {
  for (const Isa isa : {Isa::simd, Isa::portable})
    for (const auto mask : {AttentionMask::none, AttentionMask::causal}) {
      const auto s = sequences({7, 1, 50, 33}, 3, mask);
      const std::vector<Index> query{0, 0, 41, 32};
      constexpr Index kWidth = 3 * 20;
      const auto qkv = random_rows<float>({num_rows(s), 3 * kWidth}, 1);
      Tensor<float, 2> all({num_rows(s), kWidth}), one(all.shape()), stats({num_rows(s), 6});
      std::ranges::fill(one.flat(), 7.0f);
      Context ctx;
      ctx.isa = isa;
      attend<float>(qkv, s.plan(), {}, all, stats, ctx);
      auto plan = s.plan();
      plan.query = {query.data(), {std::ssize(query)}};
      attend<float>(qkv, plan, {}, one, stats, ctx);
      std::vector<Index> written;
      for (std::size_t b = 0; b < query.size(); ++b)
        written.push_back(s.row[static_cast<std::size_t>(s.offset[b] + query[b])]);
      for (Index i = 0; i < one.extent(0); ++i)
        for (Index j = 0; j < kWidth; ++j)
          EXPECT_EQ(one.view()(i, j), std::ranges::count(written, i) ? all.view()(i, j) : 7) << i << ' ' << j;
    }
}

TEST(Attention, WhatIsNotSeenDoesNotReach) {
  const auto s = sequences({45}, 1, AttentionMask::causal);
  const auto qkv = random_rows<float>({num_rows(s), 3 * 6 + 2}, 1), dy = random_rows<float>({num_rows(s), 7}, 2);
  for (const Isa isa : {Isa::simd, Isa::portable})
    for (const float bad : {kNan, kInf, -kInf})
      for (const Index at : {0, 1, 31, 32, 33, 44}) {
        Context ctx;
        ctx.isa = isa;
        auto changed = qkv;
        std::ranges::fill(std::span(&changed.view()(s.row[static_cast<std::size_t>(at)], 6), 12), bad);  // k and v
        const auto clean = run(s, qkv, dy, ctx).y, y = run(s, changed, dy, ctx).y;
        for (Index i = 0; i < 45; ++i) {
          const Index row = s.row[static_cast<std::size_t>(i)];
          const double unit = 0x1p-24 * 100 * 10;  // another order of summation where something is not finite
          if (i < at) {
            ASSERT_NEAR(y.view()(row, 3), clean.view()(row, 3), unit) << i;
          } else {
            ASSERT_FALSE(std::isfinite(y.view()(row, 3)) && std::isnan(bad)) << i;
          }
        }
      }
}

// What is not finite is seen by the queries of its window and by no other.
TEST(Attention, WhatIsOutsideTheWindowDoesNotReach) {
  for (const auto mask : {AttentionMask::none, AttentionMask::causal}) {
    const auto s = sequences({75}, 2, mask).sharing(1, 12);
    auto qkv = random_rows<float>({num_rows(s), 3 * 6 + 2}, 1);
    const auto dy = random_rows<float>({num_rows(s), 7}, 2);
    constexpr Index kAt = 40;
    std::ranges::fill(std::span(&qkv.view()(s.row[kAt], 6), 6), kNan);  // k and v of both heads
    for (const Isa isa : {Isa::simd, Isa::portable}) {
      Context ctx;
      ctx.isa = isa;
      const auto y = run(s, qkv, dy, ctx).y;
      for (Index i = 0; i < 75; ++i) {
        const bool sees = i - kAt < 12 && kAt - i < (mask == AttentionMask::causal ? 1 : 12);
        EXPECT_EQ(std::isnan(y.view()(s.row[static_cast<std::size_t>(i)], 3)), sees) << i << " " << name(isa);
      }
    }
  }
}

TEST(Attention, HugeAndTinyScores) {
  for (const Isa isa : {Isa::simd, Isa::portable})
    for (const float size : {1e-30f, 1e-42f, 1e4f, 1e15f}) {
      // One key is q itself: at 1e4 and beyond it gets all the weight, at 1e-30 all keys get the same.
      const auto s = sequences({19});
      Tensor<float, 2> qkv({num_rows(s), 8}), dy({num_rows(s), 3});
      for (Index i = 0; i < 19; ++i) {
        const Index row = s.row[static_cast<std::size_t>(i)];
        for (Index j = 0; j < 2; ++j) {
          qkv.view()(row, j) = size;
          qkv.view()(row, 2 + j) = i == 11 ? size : size / 2;
          qkv.view()(row, 4 + j) = i == 11 ? 1.0f : 0.0f;
        }
        dy.view()(row, 1) = 1;
      }
      Context ctx;
      ctx.isa = isa;
      const auto r = run(s, qkv, dy, ctx);
      for (const Index row : s.row) EXPECT_NEAR(r.y.view()(row, 1), size > 1 ? 1 : 1.0 / 19, 1e-6) << size;
      for (const float x : r.dqkv.flat()) EXPECT_TRUE(std::isfinite(x)) << size;
    }
}

TEST(Attention, SameBitsForAnyNumberOfThreads) {
  const auto s = sequences({50, 3, 17, 0, 33}, 4, AttentionMask::causal).sharing(2, 20);
  const auto qkv = random_rows<float>({num_rows(s), 2 * 60 + 2}, 1), dy = random_rows<float>({num_rows(s), 61}, 2);
  const auto with = [&](ParallelFor parallel_for) {
    Context ctx;
    ctx.parallel_for = std::move(parallel_for);
    return run(s, qkv, dy, ctx);
  };
  const auto serial = with(ParallelFor());
  for (const Index workers : {2, 3, 7}) EXPECT_EQ(with(test::threads(workers)), serial) << workers;
}

TEST(Attention, NoAllocationAfterWarmUp) {
  const auto s = sequences({50, 33}, 3);
  const auto qkv = random_rows<float>({num_rows(s), 3 * 60}, 1), dy = random_rows<float>({num_rows(s), 60}, 2);
  Tensor<float, 2> y(dy.shape()), stats({num_rows(s), 6}), dqkv(qkv.shape());
  Context ctx;
  ctx.parallel_for = ParallelFor();
  const auto pass = [&] {
    attend<float>(qkv, s.plan(), {}, y, stats, ctx);
    attend_grad<float>(qkv, s.plan(), {}, stats, dy, dqkv, ctx);
  };
  pass();
  const test::AllocGuard guard;
  pass();
  EXPECT_EQ(guard.count(), 0);
}

}  // namespace
}  // namespace gatefold::kernels::attention_test
