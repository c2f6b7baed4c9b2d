#include "gatefold/routing/gating.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/dual.hpp"

namespace gatefold::gating_test {
namespace {

template <class T>
Tensor<T, 2> random(Shape<2> shape, std::uint64_t seed) {
  Rng rng(seed);
  Tensor<T, 2> t(shape);
  for (T& v : t.flat()) v = T(rng.normal());
  return t;
}

const std::array<std::uint8_t, 5> kModality{0, kPadding, 0, 0, 0};
const TokenLayout kLayout{.offset = {}, .modality = {kModality.data(), {5}}};

// The objective reads the gates and, as a penalty would, the clean log-probabilities of all tokens but padding.
TEST(Gating, BackwardIsTheDerivativeOfForward) {
  const Index rows = 5, width = 3, experts = 4;
  const auto x = random<double>({rows, width}, 1), weight = random<double>({experts, width}, 2);
  auto by_gate = random<double>({rows, experts}, 3), by_log = random<double>({rows, experts}, 4);
  std::fill_n(by_log.view()[1].data(), experts, 0.0);
  const RouterNoise noise{.normal = 2, .jitter = .4};

  Context ctx;
  ctx.layout = &kLayout;
  Rng rng(5);
  ctx.rng = &rng;
  const auto saved = gate_forward<double>(x, {.weight = weight, .noise = noise}, {}, ctx);
  Tensor<double, 2> dgates = by_gate, dlogits({rows, experts}), dx({rows, width}), dweight({experts, width});
  for (Index t = 0; t < rows; ++t) {
    double sum = 0;
    for (Index e = 0; e < experts; ++e) sum += by_log.view()(t, e);
    for (Index e = 0; e < experts; ++e)
      dlogits.view()(t, e) = by_log.view()(t, e) - std::exp(saved.log_probs(t, e)) * sum;
  }
  gate_backward<double>(saved, weight, dgates, dlogits, dx, dweight, {}, ctx);

  auto dual_x = random<Dual>({rows, width}, 1), dual_weight = random<Dual>({experts, width}, 2);
  const auto derivative = [&](Dual& variable) {
    Rng again(5);
    Context dual_ctx;
    dual_ctx.layout = &kLayout;
    dual_ctx.rng = &again;
    variable.d = 1;
    const auto g = gate_forward<Dual>(dual_x, {.weight = dual_weight, .noise = noise}, {}, dual_ctx);
    variable.d = 0;
    double sum = 0;
    for (Index t = 0; t < rows; ++t)
      for (Index e = 0; e < experts && t != 1; ++e)
        sum += by_gate.view()(t, e) * g.gates(t, e).d + by_log.view()(t, e) * g.log_probs(t, e).d;
    return sum;
  };
  // A dozen terms of magnitude 1, exact but for rounding.
  for (std::size_t i = 0; i < dx.flat().size(); ++i)
    EXPECT_NEAR(dx.flat()[i], derivative(dual_x.flat()[i]), 1e-13) << i;
  for (std::size_t i = 0; i < dweight.flat().size(); ++i)
    EXPECT_NEAR(dweight.flat()[i], derivative(dual_weight.flat()[i]), 1e-13) << i;
}

TEST(Gating, LargeLogitsDoNotOverflow) {
  Tensor<float, 2> x({1, 1}), weight({3, 1});
  x.data()[0] = 1;
  std::ranges::copy(std::array{1e4f, 1e4f, -1e4f}, weight.data());
  Context ctx;
  const auto g = gate_forward<float>(x, {.weight = weight}, {}, ctx);
  EXPECT_EQ(g.gates(0, 0), .5f);
  EXPECT_EQ(g.gates(0, 2), 0);
  EXPECT_FLOAT_EQ(g.log_probs(0, 2), -2e4f - std::log(2.0f));
}

TEST(Gating, WithoutNoiseNothingIsCopied) {
  const auto x = random<double>({5, 3}, 1), weight = random<double>({4, 3}, 2);
  Context ctx;
  const auto g = gate_forward<double>(x, {.weight = weight, .noise = {.normal = 1, .jitter = .1}}, {}, ctx);
  EXPECT_EQ(g.x.data(), x.data());
  EXPECT_EQ(g.noisy_logits.data(), g.logits.data());
  EXPECT_EQ(g.noise_std, 0);
}

}  // namespace
}  // namespace gatefold::gating_test
