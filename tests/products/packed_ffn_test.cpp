#include "gatefold/products/packed_ffn.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "gatefold/nn/activation.hpp"
#include "tests/support/alloc_guard.hpp"
#include "tests/support/packed.hpp"
#include "tests/support/threads.hpp"

namespace gatefold::kernels::packed_ffn_test {
namespace {

using gatefold::test::AllocGuard;
using gatefold::test::threads;
using gatefold::test::Uncertain;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kGuard = 12345.0f;

enum class Kind { plain, gated };
enum class Biases { none, all };

Tensor<float, 2> random_matrix(Shape<2> shape, std::uint64_t seed, double deviation = 1) {
  Rng rng(seed);
  Tensor<float, 2> m(shape);
  for (float& v : m.flat()) v = static_cast<float>(deviation * rng.normal());
  return m;
}
Context context(Isa isa, ParallelFor parallel_for = ParallelFor()) {
  Context ctx;
  ctx.parallel_for = std::move(parallel_for);
  ctx.isa = isa;
  return ctx;
}

/// Some nets with their weights, in the format and as doubles see them.
template <class F>
struct Nets {
  struct Matrix {
    Packed<F> packed;
    Tensor<float, 2> values, bias;

    Matrix(Shape<2> shape, std::uint64_t seed)
        : packed(random_matrix(shape, seed, 1 / std::sqrt(1.0 + static_cast<double>(shape[1])))),
          values(gatefold::test::unpacked(packed)),
          bias(random_matrix({1, shape[0]}, seed + 1000)) {}
  };
  struct Net {
    Matrix gate, up, down;
  };
  Kind kind;
  Biases biases;
  std::vector<Net> nets;
  std::vector<PackedFfn<F>> list;

  Nets(Kind k, Biases b, std::vector<Index> hidden, Index width) : kind(k), biases(b) {
    nets.reserve(hidden.size());
    for (std::size_t e = 0; e < hidden.size(); ++e)
      nets.push_back({Matrix({hidden[e], width}, 3 * e + 1), Matrix({hidden[e], width}, 3 * e + 2),
                      Matrix({width, hidden[e]}, 3 * e + 3)});
    const bool some = biases == Biases::all;
    for (const Net& net : nets)
      list.push_back({.gate = kind == Kind::gated ? &net.gate.packed : nullptr,
                      .up = &net.up.packed,
                      .down = &net.down.packed,
                      .gate_bias = some && kind == Kind::gated ? net.gate.bias.data() : nullptr,
                      .up_bias = some ? net.up.bias.data() : nullptr,
                      .down_bias = some ? net.down.bias.data() : nullptr});
  }
  View<const PackedFfn<F>, 1> view() const { return {list.data(), {std::ssize(list)}}; }

  /// One row through net e, in double. // x, y [D]
  template <class Act>
  std::vector<Uncertain> exact(std::size_t e, const float* x, Index width) const {
    const Net& net = nets[e];
    const Index hidden = net.up.values.extent(0);
    std::vector<Uncertain> in, units, out;
    for (Index k = 0; k < width; ++k) in.push_back({double(x[k]), 0});
    const auto rounding = gatefold::test::rounding_error<F>(std::span<const Uncertain>(in));
    const auto product = [&](const Matrix& m, Index j) {
      return gatefold::test::packed_dot<F>(
          std::span<const Uncertain>(in), rounding, [&](Index k) { return double(m.values.view()(j, k)); },
          biases == Biases::all ? double(m.bias.data()[j]) : 0.0);
    };
    constexpr double kSteepest = 1.13;  // of all activations, Gelu
    const auto activated = [&](Uncertain u) {
      return Uncertain{Act::value(u.value),
                       kSteepest * u.error + 8 * 0x1p-23 * std::max(std::abs(Act::value(u.value)) + u.error, 1. / 16)};
    };
    for (Index h = 0; h < hidden; ++h) {
      const auto up = product(net.up, h);
      if (kind == Kind::plain) {
        units.push_back(activated(up));
        continue;
      }
      const auto g = activated(product(net.gate, h));
      units.push_back({g.value * up.value, std::abs(g.value) * up.error + g.error * (std::abs(up.value) + up.error) +
                                               0x1p-23 * std::abs(g.value * up.value)});
    }
    // Hidden units are rounded and summed in pieces.
    std::vector<double> unit_rounding;
    for (Index h0 = 0; h0 < hidden; h0 += kHiddenChunk) {
      const auto piece = std::span<const Uncertain>(units).subspan(
          static_cast<std::size_t>(h0), static_cast<std::size_t>(std::min(kHiddenChunk, hidden - h0)));
      const auto some = gatefold::test::rounding_error<F>(piece);
      unit_rounding.insert(unit_rounding.end(), some.begin(), some.end());
    }
    for (Index j = 0; j < width; ++j)
      out.push_back(gatefold::test::packed_dot<F>(
          std::span<const Uncertain>(units), unit_rounding,
          [&](Index h) { return double(net.down.values.view()(j, h)); },
          biases == Biases::all ? double(net.down.bias.data()[j]) : 0.0));
    return out;
  }
};

/// Which rows go where: counts of each net; tokens are drawn at random, or every slot is its own.
struct Plan {
  std::vector<Index> offset{0}, token;

  Plan(std::vector<Index> counts) {
    for (const Index n : counts) offset.push_back(offset.back() + n);
  }
  Plan& draw(Index tokens, std::uint64_t seed) {
    Rng rng(seed);
    for (Index n = 0; n < offset.back(); ++n) token.push_back(rng.below(tokens));
    return *this;
  }
  Index slots() const { return offset.back(); }
  Index row(Index slot) const { return token.empty() ? slot : token[static_cast<std::size_t>(slot)]; }
  SlotRows view() const {
    SlotRows rows{{offset.data(), {std::ssize(offset)}}, {}};
    if (!token.empty()) rows.token = {token.data(), {std::ssize(token)}};
    return rows;
  }
};

template <class Act, class F>
Tensor<float, 2> run(const Nets<F>& nets, const Tensor<float, 2>& x, const Plan& plan, Context& ctx) {
  Tensor<float, 2> y({plan.slots(), x.extent(1)});
  std::ranges::fill(y.flat(), kNan);
  packed_ffn<Act, F>(nets.view(), x, plan.view(), y, ctx);
  return y;
}

template <class Act, class F>
void expect_close(const Nets<F>& nets, const Tensor<float, 2>& x, const Plan& plan, const Tensor<float, 2>& y) {
  for (std::size_t e = 0; e + 1 < plan.offset.size(); ++e)
    for (Index slot = plan.offset[e]; slot < plan.offset[e + 1]; ++slot) {
      const auto exact = nets.template exact<Act>(e, &x.view()(plan.row(slot), 0), x.extent(1));
      for (Index j = 0; j < x.extent(1); ++j)
        ASSERT_NEAR(y.view()(slot, j), exact[static_cast<std::size_t>(j)].value,
                    exact[static_cast<std::size_t>(j)].error)
            << "net " << e << ", slot " << slot << ", " << j;
    }
}

template <class F>
class PackedFfnTest : public testing::Test {};
using Formats = testing::Types<float, bf16, int8, int4, mxfp4, fp8>;
TYPED_TEST_SUITE(PackedFfnTest, Formats);

TYPED_TEST(PackedFfnTest, AgreesWithSumsInDoubleAtEverySize) {
  using F = TypeParam;
  struct Size {
    Index rows, width, hidden;
  };
  std::size_t turn = 0;
  for (const Size s : {Size{0, 33, 40},
                       {1, 1, 1},
                       {2, 31, 32},
                       {3, 32, 33},
                       {4, 64, 31},
                       {5, 65, 64},
                       {1, 33, 511},
                       {2, 40, 512},
                       {3, 96, 513},
                       {5, 33, 1024},
                       {4, 40, 1057},
                       {111, 32, 40},
                       {112, 33, 64},
                       {113, 20, 65},
                       {225, 16, 33},
                       {2, 200, 96},
                       {3, 20, 1536},
                       {4, 300, 600}}) {
    const Kind kind = turn % 2 ? Kind::gated : Kind::plain;
    const Biases biases = turn / 2 % 2 ? Biases::none : Biases::all;
    ++turn;
    const Nets<F> nets(kind, biases, {s.hidden}, s.width);
    const auto x = random_matrix({s.rows, s.width}, 7);
    const Plan plan({s.rows});
    for (const Isa isa : isas_here())
      for (const Index workers : {1, 3}) {
        SCOPED_TRACE(testing::Message() << name(isa) << ", " << s.rows << " rows, " << s.width << ", " << s.hidden
                                        << ", " << workers << " threads");
        auto ctx = context(isa, workers == 1 ? ParallelFor() : threads(workers));
        const auto y = run<Gelu>(nets, x, plan, ctx);
        expect_close<Gelu>(nets, x, plan, y);
        if (this->HasFatalFailure()) return;
      }
  }
}

TYPED_TEST(PackedFfnTest, BothKindsWithAndWithoutBiasesAndOtherActivations) {
  using F = TypeParam;
  const Plan plan({9});
  const auto x = random_matrix({9, 40}, 8);
  for (const Kind kind : {Kind::plain, Kind::gated})
    for (const Biases biases : {Biases::none, Biases::all}) {
      const Nets<F> nets(kind, biases, {70}, 40);
      for (const Isa isa : isas_here()) {
        SCOPED_TRACE(name(isa));
        auto ctx = context(isa);
        expect_close<Silu>(nets, x, plan, run<Silu>(nets, x, plan, ctx));
        expect_close<Relu>(nets, x, plan, run<Relu>(nets, x, plan, ctx));
        expect_close<GeluErf>(nets, x, plan, run<GeluErf>(nets, x, plan, ctx));
      }
    }
}

/// The result is that of each net alone, and that of each row alone, bit by bit, for any number of threads: the two
/// ways to share the work (blocks of rows, or hidden units and then outputs) are one.
TYPED_TEST(PackedFfnTest, UnevenExpertsGiveTheSameBitsHoweverTheWorkIsShared) {
  using F = TypeParam;
  const Index width = 40, tokens = 150;
  const auto x = random_matrix({tokens, width}, 9);
  std::vector<Plan> plans;
  plans.push_back(Plan({113, 0, 5, 1}).draw(tokens, 1));
  plans.push_back(Plan({0, 0, 150, 0}));
  plans.push_back(Plan({0, 0, 0, 2}).draw(tokens, 2));
  plans.push_back(Plan({1, 2, 225, 112}).draw(tokens, 3));
  for (const Kind kind : {Kind::plain, Kind::gated}) {
    const Nets<F> nets(kind, Biases::all, {530, 530, 530, 530}, width);
    for (const Isa isa : isas_here())
      for (const Plan& plan : plans) {
        auto ctx = context(isa);
        const auto y = run<Gelu>(nets, x, plan, ctx);
        if (plan.slots() < 200) expect_close<Gelu>(nets, x, plan, y);
        for (const Index workers : {2, 3, 7, 40}) {
          auto parallel = context(isa, threads(workers));
          ASSERT_EQ(run<Gelu>(nets, x, plan, parallel), y) << name(isa) << ", " << workers << " threads";
        }
        for (std::size_t e = 0; e < 4; ++e)
          for (Index slot = plan.offset[e]; slot < plan.offset[e + 1]; slot += 1 + slot % 7) {
            Tensor<float, 2> one({1, width}), alone({1, width});
            std::copy_n(&x.view()(plan.row(slot), 0), width, one.data());
            const Plan single({1});
            packed_ffn<Gelu, F>({&nets.list[e], {1}}, one, single.view(), alone, ctx);
            ASSERT_EQ(std::memcmp(alone.data(), &y.view()(slot, 0), static_cast<std::size_t>(width) * sizeof(float)), 0)
                << name(isa) << ", net " << e << ", slot " << slot;
          }
      }
  }
}

TYPED_TEST(PackedFfnTest, OneNetIsTheSameForAnyNumberOfRowsAndThreads) {
  using F = TypeParam;
  const Index width = 24;
  const Nets<F> nets(Kind::plain, Biases::all, {96}, width);
  for (const Index rows : {1, 2, 111, 112, 113, 224, 225, 500}) {
    const auto x = random_matrix({rows, width}, 10);
    const Plan plan({rows});
    for (const Isa isa : {Isa::simd, isas_here().back()}) {
      auto ctx = context(isa);
      const auto y = run<Gelu>(nets, x, plan, ctx);
      for (const Index workers : {2, 3, 7, 100, 300}) {
        if (workers > 7 && rows % 112 > 1) continue;
        auto parallel = context(isa, threads(workers));
        ASSERT_EQ(run<Gelu>(nets, x, plan, parallel), y) << name(isa) << ", " << rows << " rows, " << workers;
      }
    }
  }
}

/// Few rows take several panels at once and all hidden units before the first output.
TYPED_TEST(PackedFfnTest, FewRowsGiveTheSameBitsAsManyDo) {
  using F = TypeParam;
  const Index width = 330, hidden = 1100, most = 6;
  const Nets<F> nets(Kind::gated, Biases::all, {hidden}, width);
  const auto x = random_matrix({most, width}, 15);
  for (const Isa isa : isas_here()) {
    auto ctx = context(isa), parallel = context(isa, threads(3));
    const auto all = run<Gelu>(nets, x, Plan({most}), ctx);
    for (Index rows = 1; rows < most; ++rows) {
      Tensor<float, 2> some({rows, width});
      std::copy_n(x.data(), some.size(), some.data());
      const auto y = run<Gelu>(nets, some, Plan({rows}), ctx);
      EXPECT_EQ(std::memcmp(y.data(), all.data(), static_cast<std::size_t>(y.size()) * sizeof(float)), 0)
          << name(isa) << ", " << rows << " rows";
      EXPECT_EQ(run<Gelu>(nets, some, Plan({rows}), parallel), y) << name(isa) << ", " << rows << " rows";
    }
  }
}

TYPED_TEST(PackedFfnTest, NetsMayDifferInTheirHiddenUnits) {
  using F = TypeParam;
  const Nets<F> nets(Kind::gated, Biases::all, {1, 600, 33, 64}, 35);
  const auto x = random_matrix({20, 35}, 11);
  const Plan plan = Plan({3, 4, 2, 3}).draw(20, 4);
  for (const Isa isa : isas_here()) {
    auto ctx = context(isa), many = context(isa, threads(9));
    const auto y = run<Silu>(nets, x, plan, ctx);
    expect_close<Silu>(nets, x, plan, y);
    EXPECT_EQ(run<Silu>(nets, x, plan, many), y);
  }
}

TYPED_TEST(PackedFfnTest, WithoutHiddenUnitsOnlyTheBiasIsLeft) {
  using F = TypeParam;
  const auto x = random_matrix({3, 35}, 12);
  const Plan plan({3});
  for (const Biases biases : {Biases::none, Biases::all}) {
    const Nets<F> nets(Kind::plain, biases, {0}, 35);
    for (const Isa isa : isas_here())
      for (const Index workers : {1, 7}) {
        auto ctx = context(isa, threads(workers));
        const auto y = run<Gelu>(nets, x, plan, ctx);
        for (Index i = 0; i < 3; ++i)
          for (Index j = 0; j < 35; ++j)
            ASSERT_EQ(y.view()(i, j), biases == Biases::all ? nets.nets[0].down.bias.data()[j] : 0.0f) << name(isa);
      }
  }
}

TYPED_TEST(PackedFfnTest, StridedRowsLeaveTheirNeighboursAlone) {
  using F = TypeParam;
  const Index width = 37;
  const Nets<F> nets(Kind::plain, Biases::all, {40, 40}, width);
  const auto x = random_matrix({10, width}, 13);
  const Plan plan = Plan({4, 3}).draw(10, 5);
  for (const Isa isa : isas_here())
    for (const Index workers : {1, 7}) {
      auto ctx = context(isa, threads(workers));
      const auto expected = run<Gelu>(nets, x, plan, ctx);
      Tensor<float, 2> wide_x({10, width + 5}), wide_y({7, width + 4});
      std::ranges::fill(wide_x.flat(), kNan);
      std::ranges::fill(wide_y.flat(), kGuard);
      for (Index i = 0; i < 10; ++i) std::copy_n(&x.view()(i, 0), width, &wide_x.view()(i, 3));
      packed_ffn<Gelu, F>(nets.view(), std::as_const(wide_x).view().columns(3, 3 + width), plan.view(),
                          wide_y.view().columns(1, 1 + width), ctx);
      for (Index i = 0; i < 7; ++i)
        for (Index j = 0; j < width + 4; ++j)
          ASSERT_EQ(wide_y.view()(i, j), j < 1 || j > width ? kGuard : expected.view()(i, j - 1)) << name(isa);
    }
}

TYPED_TEST(PackedFfnTest, ANanTokenStaysAlone) {
  using F = TypeParam;
  const Nets<F> nets(Kind::gated, Biases::all, {70}, 33);
  auto x = random_matrix({20, 33}, 14);
  const Plan plan({20});
  for (const Isa isa : isas_here())
    for (const Index workers : {1, 7}) {
      auto ctx = context(isa, threads(workers));
      auto bad = x;
      bad.view()(4, 32) = kNan;
      const auto clean = run<Gelu>(nets, x, plan, ctx), y = run<Gelu>(nets, bad, plan, ctx);
      for (Index i = 0; i < 20; ++i)
        for (Index j = 0; j < 33; ++j)
          ASSERT_TRUE(i == 4 ? std::isnan(y.view()(i, j)) : y.view()(i, j) == clean.view()(i, j)) << name(isa);
    }
}

TYPED_TEST(PackedFfnTest, NoAllocationAfterWarmUp) {
  using F = TypeParam;
  const Nets<F> nets(Kind::gated, Biases::all, {600, 600}, 50);
  const auto x = random_matrix({130, 50}, 15);
  const Plan plan = Plan({120, 5}).draw(130, 6);
  // Three workers without threads: the second way to share the work, with two blocks.
  const ParallelFor three({.workers = 3, .run = [](Index n, ParallelFor::Body body) { body(0, n, 2); }});
  Tensor<float, 2> y({125, 50});
  for (const ParallelFor& parallel_for : {ParallelFor(), three})
    for (const Isa isa : isas_here()) {
      auto ctx = context(isa, parallel_for);
      packed_ffn<Gelu, F>(nets.view(), x, plan.view(), y, ctx);
      const auto blocks = ctx.workspace.allocations();
      const AllocGuard guard;
      packed_ffn<Gelu, F>(nets.view(), x, plan.view(), y, ctx);
      EXPECT_EQ(guard.count(), 0);
      EXPECT_EQ(ctx.workspace.allocations(), blocks);
    }
}

}  // namespace
}  // namespace gatefold::kernels::packed_ffn_test
