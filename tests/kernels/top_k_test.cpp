#include "gatefold/kernels/top_k.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/dual.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::kernels::top_k_test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
#if GATEFOLD_HAS_SIMD
constexpr Index kBlock = simd::kLanes<float>;
#else
constexpr Index kBlock = 4;
#endif

/// Every width up to several vectors, and around those that are common.
std::vector<Index> widths() {
  std::vector<Index> all(70);
  std::iota(all.begin(), all.end(), Index{1});
  for (const Index n : {127, 128, 129, 130, 255, 256, 257}) all.push_back(n);
  return all;
}

/// A matrix within a wider one, so that strides, misalignment and writes beside it show.
template <class T>
struct Framed {
  static constexpr Index kLeft = 3, kRight = 2;
  Tensor<T, 2> all;
  T frame;
  Framed(Shape<2> shape, T value) : all({shape[0], shape[1] + kLeft + kRight}), frame(value) {
    std::ranges::fill(all.flat(), value);
  }
  Rows<T> view() { return all.view().columns(kLeft, all.extent(1) - kRight); }
  void expect_frame() const {
    for (Index i = 0; i < all.extent(0); ++i)
      for (Index j = 0; j < all.extent(1); ++j)
        if (j < kLeft || j >= all.extent(1) - kRight) {
          ASSERT_EQ(all.view()(i, j), frame) << i << " " << j;
        }
  }
};

/// The first k columns of a row as they are chosen, by sorting all of them; -1 instead of those at -inf.
template <class T>
std::vector<Index> sorted_columns(View<const T, 1> row, Index k) {
  std::vector<Index> order(static_cast<std::size_t>(row.extent(0)));
  std::iota(order.begin(), order.end(), Index{0});
  std::erase_if(order, [&](Index e) { return row[e] == T(-kInf); });
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    if (std::isnan(row[a]) || std::isnan(row[b])) return std::isnan(row[b]) && !std::isnan(row[a]);
    return row[a] > row[b];
  });
  order.resize(static_cast<std::size_t>(k), -1);
  return order;
}
/// The same of gates: where they are 0, their logits decide, from below all other gates.
std::vector<Index> sorted_gates(View<const float, 1> gates, View<const float, 1> logits, Index k) {
  std::vector<double> score;
  for (Index e = 0; e < gates.extent(0); ++e) score.push_back(gates[e] == 0 ? double{logits[e]} - 1e9 : gates[e]);
  return sorted_columns<double>({score.data(), {gates.extent(0)}}, k);
}

/// Multiples of 1/8, so that two gates are either equal or far from it and rounding decides nothing. Half of the rows
/// hold what is hard: ties, masks, infinities, NaN, and logits that are `stretch` times as far apart.
template <class T>
void fill_logits(Rows<T> x, std::uint64_t seed, double stretch = 5) {
  Rng rng(seed);
  for (Index i = 0; i < x.extent(0); ++i) {
    const Index kind = rng.below(12);
    for (Index e = 0; e < x.extent(1); ++e) {
      x(i, e) = T(static_cast<double>(rng.below(kind == 0 ? 3 : 100)) / 8 - 6);
      if (kind == 1 && rng.below(2)) x(i, e) = T(-kInf);
      if (kind == 2 && rng.below(8) == 0) x(i, e) = T(kNan);
      if (kind == 3 && rng.below(8) == 0) x(i, e) = T(kInf);
      if (kind == 4) x(i, e) = T(-kInf);
      if (kind == 5) x(i, e) = rng.below(4) ? T(-kInf) : T(kNan);
      if (kind == 6) x(i, e) = T(x(i, e) * stretch);
    }
  }
}

struct Result {
  Tensor<float, 2> gates;
  Tensor<Index, 2> choice;
  Tensor<float, 2> log_probs;
};
Result run(Rows<const float> logits, Index k, Isa isa, ParallelFor parallel_for = {}) {
  const Index rows = logits.extent(0);
  Result r{Tensor<float, 2>(logits.shape()), Tensor<Index, 2>({rows, k}), Tensor<float, 2>(logits.shape())};
  Context ctx;
  ctx.isa = isa;
  ctx.parallel_for = std::move(parallel_for);
  softmax_top_k_rows<float>(logits, {.gates = r.gates, .choice = r.choice, .log_probs = r.log_probs}, ctx);
  return r;
}
/// Bits, so that NaN equals NaN.
bool same(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}
bool same(const Result& a, const Result& b) {
  return same(a.gates.flat(), b.gates.flat()) && std::ranges::equal(a.choice.flat(), b.choice.flat()) &&
         same(a.log_probs.flat(), b.log_probs.flat());
}

TEST(SoftmaxTopK, GatesAndLogarithmsAgainstTheDefinition) {
  for (const Index n : widths())
    for (const Isa isa : {Isa::simd, Isa::portable}) {
      Framed<float> x({2 * kBlock + 3, n}, kNan);
      fill_logits(x.view(), static_cast<std::uint64_t>(n), 40);
      const Index rows = x.view().extent(0);
      Framed<float> gates({rows, n}, -7), log_probs({rows, n}, -7);
      Context ctx;
      ctx.isa = isa;
      softmax_top_k_rows<float>(x.view(), {.gates = gates.view(), .log_probs = log_probs.view()}, ctx);
      gates.expect_frame();
      log_probs.expect_frame();
      for (Index i = 0; i < rows; ++i) {
        const View<const float, 1> row = x.view()[i];
        long double most = -kInf, total = 0;
        bool proper = true, masked = true;
        for (Index e = 0; e < n; ++e) {
          proper = proper && row[e] < kInf;
          masked = masked && !(row[e] > -kInf);
          if (!std::isnan(row[e])) most = std::max<long double>(most, row[e]);
        }
        for (Index e = 0; e < n; ++e) total += std::exp(static_cast<long double>(row[e]) - most);
        for (Index e = 0; e < n; ++e) {
          const float got = gates.view()(i, e);
          if (masked && most == -kInf && !std::isnan(row[e])) {  // as softmax_row: 0, and NaN only where it was
            bool all_nan = true;
            for (Index j = 0; j < n; ++j) all_nan = all_nan && std::isnan(row[j]);
            ASSERT_EQ(got, 0) << all_nan;
            continue;
          }
          if (!proper || masked) {
            ASSERT_TRUE(std::isnan(got)) << n << " " << i << " " << e;
            continue;
          }
          // The logits and their differences are exact. An exponential is good to 2 units, the sum of n adds n, the
          // reciprocal and the product 2. What is tiny may be 0.
          const auto wanted = static_cast<double>(std::exp(static_cast<long double>(row[e]) - most) / total);
          ASSERT_NEAR(got, wanted, wanted * static_cast<double>(n + 4) * 0x1p-23 + kLeastExp) << n << " " << i;
        }
        for (Index e = 0; e < n; ++e) {
          const float got = log_probs.view()(i, e);
          if (!proper || masked) {
            ASSERT_TRUE(std::isnan(got));
            continue;
          }
          const auto below = static_cast<double>(row[e] - most);
          const auto wanted = static_cast<double>(below - std::log(total));
          // Relative error of the sum is absolute error of its logarithm; two roundings at the size of the result.
          if (row[e] == -kInf)
            ASSERT_EQ(got, -kInf);
          else
            ASSERT_NEAR(got, wanted, (static_cast<double>(n + 4) + 2 * std::abs(wanted) + 8) * 0x1p-23);
        }
      }
    }
}

TEST(SoftmaxTopK, ACommonShiftOfTheLogitsCostsNoDigits) {
  for (const double shift : {0., 1e2, 1e3, 1e4, -1e4, 1e6})
    for (const Index n : {4, 8, 20, 64, 130})
      for (const Isa isa : {Isa::simd, Isa::portable}) {
        Tensor<float, 2> x({kBlock + 1, n});
        Rng rng(static_cast<std::uint64_t>(n));
        for (float& v : x.flat()) v = static_cast<float>(shift + rng.normal());  // as float sees them
        const auto got = run(x, 1, isa);
        for (Index i = 0; i < x.extent(0); ++i) {
          const double most = *std::max_element(x.view()[i].data(), x.view()[i].data() + n);
          double total = 0, sum = 0;
          for (Index e = 0; e < n; ++e) total += std::exp(x.view()(i, e) - most);
          for (Index e = 0; e < n; ++e) {
            const double below = x.view()(i, e) - most, p = std::exp(below) / total;
            const double from_log = std::exp(double{got.log_probs.view()(i, e)});
            // x - most is exact or rounds once, so does the last step; the logarithm is that of a sum of n.
            const double error = (std::abs(below) + std::abs(std::log(p)) + static_cast<double>(n + 4)) * 0x1p-23;
            ASSERT_NEAR(from_log / p, 1, error) << "shift " << shift << ", n " << n << ", " << name(isa);
            sum += from_log;
          }
          ASSERT_NEAR(sum, 1, static_cast<double>(n + 20) * 0x1p-23);
        }
      }
}

TEST(SoftmaxTopK, ChoicesAreASortOfTheGatesOnEveryPath) {
  for (const Index n : widths())
    for (Index k = 1; k <= std::min<Index>(n, 9); ++k) {
      Framed<float> x({2 * kBlock - 1, n}, kNan);
      fill_logits(x.view(), static_cast<std::uint64_t>(100 * n + k), k % 2 ? 5 : 40);
      for (Index rows = 0; rows < 2 * kBlock; ++rows) {
        const auto part = x.view().rows(0, rows);
        const auto vector = run(part, k, Isa::simd);
        ASSERT_TRUE(std::ranges::equal(vector.choice.flat(), run(part, k, Isa::portable).choice.flat()))
            << n << " " << k;
        for (Index i = 0; i < rows; ++i) {
          const auto wanted = sorted_gates(vector.gates.view()[i], part[i], k);
          ASSERT_THAT(std::span(vector.choice.view()[i].data(), wanted.size()), testing::ElementsAreArray(wanted))
              << n << " " << k << " " << i;
        }
      }
    }
}

TEST(SoftmaxTopK, LongChoices) {
  for (const Index n : {16, 17, 40, 100})
    for (Index k = 10; k <= n; k += 3) {
      Tensor<float, 2> x({kBlock + 2, n});
      fill_logits(x.view(), static_cast<std::uint64_t>(n + k), 40);
      const auto got = run(x, k, Isa::simd);
      for (Index i = 0; i < x.extent(0); ++i) {
        const auto wanted = sorted_gates(got.gates.view()[i], x.view()[i], k);
        ASSERT_THAT(std::span(got.choice.view()[i].data(), wanted.size()), testing::ElementsAreArray(wanted));
      }
    }
}

TEST(SoftmaxTopK, ARowDoesNotDependOnItsNeighboursNorOnThreads) {
  for (const Index n : {3, 8, 20, 64}) {
    Tensor<float, 2> x({5000, n});
    fill_logits(x.view(), 3);
    const auto all = run(x, 2, Isa::simd);
    for (const Index workers : {2, 3, 7}) EXPECT_TRUE(same(run(x, 2, Isa::simd, test::threads(workers)), all));
    for (Index i = 0; i < 200; ++i) {
      const auto alone = run(x.view().rows(i, i + 1), 2, Isa::simd);
      ASSERT_TRUE(same({alone.gates.flat()}, {all.gates.view()[i].data(), static_cast<std::size_t>(n)}))
          << n << " " << i;
      ASSERT_EQ(alone.choice.flat()[1], all.choice.view()(i, 1));
      ASSERT_TRUE(same({alone.log_probs.flat()}, {all.log_probs.view()[i].data(), static_cast<std::size_t>(n)}));
    }
  }
}

TEST(SoftmaxTopK, WritesOnlyWhatIsAskedFor) {
  Tensor<float, 2> x({kBlock + 1, 10});
  fill_logits(x.view(), 4);
  const auto all = run(x, 2, Isa::simd);
  Context ctx;
  ctx.isa = Isa::simd;
  Tensor<float, 2> gates({kBlock + 1, 10}), log_probs({kBlock + 1, 10});
  softmax_top_k_rows<float>(x, {.log_probs = log_probs}, ctx);
  softmax_top_k_rows<float>(x, {.gates = gates}, ctx);
  EXPECT_TRUE(same(log_probs.flat(), all.log_probs.flat()));
  EXPECT_TRUE(same(gates.flat(), all.gates.flat()));
}

TEST(SoftmaxTopK, OtherNumbersAndNothing) {
  Context ctx;
  Tensor<Dual, 2> x({1, 3}), gates({1, 3});
  x.flat()[0] = Dual(1, 1), x.flat()[1] = Dual(2, 0), x.flat()[2] = Dual(0, 0);
  Tensor<Index, 2> choice({1, 2});
  Tensor<Dual, 2> log_probs({1, 3});
  softmax_top_k_rows<Dual>(x, {.gates = gates, .choice = choice, .log_probs = log_probs}, ctx);
  EXPECT_THAT(choice.flat(), testing::ElementsAre(1, 0));
  const double p = gates.flat()[0].v;
  EXPECT_NEAR(gates.flat()[0].d, p * (1 - p), 1e-15);
  EXPECT_NEAR(log_probs.flat()[0].d, 1 - p, 1e-15);
  EXPECT_NEAR(log_probs.flat()[2].d, -p, 1e-15) << "the derivative of log sum exp is the softmax";
  Tensor<float, 2> none({0, 5});
  softmax_top_k_rows<float>(none, {.gates = none}, ctx);
}

TEST(SoftmaxTopK, StopsAllocating) {
  Tensor<float, 2> x({300, 24}), gates({300, 24});
  fill_logits(x.view(), 5);
  Tensor<Index, 2> choice({300, 2});
  Context ctx;
  softmax_top_k_rows<float>(x, {.gates = gates, .choice = choice}, ctx);
  const auto blocks = ctx.workspace.allocations();
  for (int pass = 0; pass < 3; ++pass) softmax_top_k_rows<float>(x, {.gates = gates, .choice = choice}, ctx);
  EXPECT_EQ(ctx.workspace.allocations(), blocks);
}

/// Scores of any kind and sign.
template <class T>
void fill_scores(Rows<T> x, std::uint64_t seed) {
  Rng rng(seed);
  constexpr T kTiny = std::numeric_limits<T>::denorm_min();
  const std::array<T, 10> odd{T(0), T(-0.0), T(kInf), T(-kInf), T(kNan), -T(kNan), kTiny, -kTiny, T(1), T(-1)};
  for (Index i = 0; i < x.extent(0); ++i) {
    const Index kind = rng.below(4);
    for (Index e = 0; e < x.extent(1); ++e) {
      x(i, e) = T(rng.normal());
      if (kind == 0 || (kind == 1 && rng.below(6) == 0)) x(i, e) = odd[static_cast<std::size_t>(rng.below(10))];
      if (kind == 2) x(i, e) = T(rng.below(4)) - T(2);
    }
  }
}
template <class T>
void check_top_k(const std::vector<Index>& sizes) {
  for (const Index n : sizes)
    for (const Isa isa : {Isa::simd, Isa::portable})
      for (Index k = 1; k <= std::min<Index>(n, 9); ++k) {
        Framed<T> x({2 * kBlock + 1, n}, T(kInf));
        fill_scores(x.view(), static_cast<std::uint64_t>(n * 10 + k));
        Framed<Index> choice({2 * kBlock + 1, k}, -7);
        Context ctx;
        ctx.isa = isa;
        top_k_rows<T>(x.view(), choice.view(), ctx);
        choice.expect_frame();
        for (Index i = 0; i < 2 * kBlock + 1; ++i) {
          const auto wanted = sorted_columns<T>(x.view()[i], k);
          ASSERT_THAT(std::span(choice.view()[i].data(), wanted.size()), testing::ElementsAreArray(wanted))
              << n << " " << k << " " << i;
        }
      }
}
TEST(TopK, IsASortOfEveryKindOfNumber) {
  check_top_k<float>(widths());
  check_top_k<double>({1, 2, 7, 16, 33});
}

}  // namespace
}  // namespace gatefold::kernels::top_k_test
