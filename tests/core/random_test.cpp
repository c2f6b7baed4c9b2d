#include "gatefold/core/random.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#if __has_include(<Random123/philox.h>)
#include <Random123/philox.h>
#endif

namespace gatefold {
namespace {

using testing::ElementsAre;

TEST(Random, PhiloxKnownAnswers) {
  // kat_vectors of Random123.
  static_assert(philox({}, {}) == std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_THAT(philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

#if __has_include(<Random123/philox.h>)
TEST(Random, PhiloxIsThatOfItsAuthors) {
  std::uint32_t word = 1;
  const auto draw = [&] { return word = word * 1664525 + 1013904223; };
  for (int i = 0; i < 10000; ++i) {
    const std::array<std::uint32_t, 4> counter{draw(), draw(), draw(), draw()};
    const std::array<std::uint32_t, 2> key{draw(), draw()};
    r123::Philox4x32 reference;
    const auto wanted = reference({{counter[0], counter[1], counter[2], counter[3]}}, {{key[0], key[1]}});
    ASSERT_THAT(philox(counter, key), ElementsAre(wanted[0], wanted[1], wanted[2], wanted[3]));
  }
}
#endif

TEST(Random, AWordIsAddressedBySeedStreamAndPosition) {
  const Rng::State start{.seed = 0x123456789abcdef0, .stream = 0x0fedcba987654321, .position = 0};
  Rng rng(start);
  for (std::uint64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(rng.state(), (Rng::State{start.seed, start.stream, i}));
    Rng there(Rng::State{start.seed, start.stream, i});
    ASSERT_EQ(rng.bits(), there.bits()) << i;
  }
  // Counter (position / 4, stream), key seed, low words first: what a checkpoint of another program must agree on.
  Rng far(Rng::State{start.seed, start.stream, (std::uint64_t{7} << 34) + 2});
  EXPECT_EQ(far.bits(), philox({0, 7, 0x87654321, 0x0fedcba9}, {0x9abcdef0, 0x12345678})[2]);
}

TEST(Random, StreamsAndSeedsDiffer) {
  std::set<std::uint32_t> words;
  for (std::uint64_t seed = 0; seed < 30; ++seed)
    for (std::uint64_t stream = 0; stream < 30; ++stream) words.insert(Rng(seed, stream).bits());
  EXPECT_GE(words.size(), 899u);  // 900 draws of 2^32: one collision in 10^4 runs

  Rng rng(5);
  auto first = rng.next_stream(), second = rng.next_stream();
  EXPECT_EQ(first.state().seed, 5u);
  EXPECT_EQ(first.state().position, 0u);
  EXPECT_NE(first.state().stream, second.state().stream);
}

TEST(Random, UniformIsUniform) {
  Rng rng(1);
  constexpr int kDraws = 100000, kBins = 20;
  int bin[kBins] = {};
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = rng.uniform();
    ASSERT_TRUE(0 <= u && u < 1);
    ASSERT_EQ(std::ldexp(u, 53), std::floor(std::ldexp(u, 53)));
    ++bin[static_cast<int>(u * kBins)];
    sum += u, squares += u * u;
  }
  // Five standard errors; chi squared of 19 degrees has mean 19 and deviation sqrt(38).
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / kDraws));
  double chi = 0;
  for (const int count : bin) chi += std::pow(count - kDraws / kBins, 2) / (kDraws / kBins);
  EXPECT_NEAR(chi, 19, 5 * std::sqrt(38));
  for (int i = 0; i < 100; ++i) {
    const double u = rng.uniform(-3, 5);
    ASSERT_TRUE(-3 <= u && u < 5);
  }
}

TEST(Random, NormalHasTheMomentsOfANormal) {
  Rng rng(2);
  constexpr int kDraws = 200000;
  double m[5] = {};
  int within = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double z = rng.normal();
    ASSERT_TRUE(std::isfinite(z));
    for (int p = 1; p <= 4; ++p) m[p] += std::pow(z, p) / kDraws;
    within += std::abs(z) < 1;
  }
  // Var of z^p is (2p-1)!! minus the square of the mean: 1, 2, 15, 96.
  const double root = 5 / std::sqrt(static_cast<double>(kDraws));
  EXPECT_NEAR(m[1], 0, root);
  EXPECT_NEAR(m[2], 1, root * std::sqrt(2.0));
  EXPECT_NEAR(m[3], 0, root * std::sqrt(15.0));
  EXPECT_NEAR(m[4], 3, root * std::sqrt(96.0));
  EXPECT_NEAR(within / static_cast<double>(kDraws), std::erf(std::sqrt(0.5)), root * 0.5);
}

TEST(Random, NormalAtIsTheNormalOfThatPlace) {
  Rng rng(3, 4);
  std::vector<double> in_order;
  for (int i = 0; i < 50; ++i) in_order.push_back(rng.normal());
  EXPECT_EQ(rng.state().position, 200u);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(rng.normal_at(i), in_order[static_cast<std::size_t>(i)]);
}

TEST(Random, BelowIsUnbiased) {
  Rng rng(4);
  for (const Index n : {1, 2, 3, 7, 10}) {
    constexpr int kDraws = 50000;
    std::vector<int> count(static_cast<std::size_t>(n));
    for (int i = 0; i < kDraws; ++i) ++count.at(static_cast<std::size_t>(rng.below(n)));
    const double p = 1 / static_cast<double>(n);
    for (const int c : count) EXPECT_NEAR(c, kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p)) + 1e-9);
  }
  // A range of 3/4 of 2^32: without rejection, two words fall on every third value and thirds are hit 1 : 1 : 2.
  constexpr Index kRange = 3221225472;
  int thirds[3] = {};
  for (int i = 0; i < 30000; ++i) {
    const Index v = rng.below(kRange);
    ASSERT_TRUE(0 <= v && v < kRange);
    ++thirds[v % 3];
  }
  for (const int c : thirds) EXPECT_NEAR(c, 10000, 5 * std::sqrt(30000.0 * 2 / 9));
  ASSERT_LT(rng.below(4294967295), 4294967295);
}

}  // namespace
}  // namespace gatefold
