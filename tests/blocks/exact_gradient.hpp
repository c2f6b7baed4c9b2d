#pragma once
#include <gtest/gtest.h>

#include <optional>

#include "gatefold/module/ops.hpp"
#include "tests/support/dual.hpp"
#include "tests/support/mortal_layout.hpp"

namespace gatefold {

/// What a pass runs in; random numbers start anew in each, so that noise is the same in all of them.
struct PassSetup {
  const TokenLayout* layout = nullptr;
  std::optional<std::uint64_t> seed = {};
};

template <class T, std::size_t Rank>
Tensor<T, Rank> random_tensor(Shape<Rank> shape, std::uint64_t seed) {
  Rng rng(seed);
  Tensor<T, Rank> t(shape);
  for (T& v : t.flat()) v = T(rng.normal());
  return t;
}
/// Adds N(0, std^2) to every parameter: symmetric starts must not hide a gradient.
template <Module M>
void disturb_params(M& module, std::uint64_t seed, double std = 0.7) {
  Rng rng(seed);
  for_each_param(
      [&](std::string_view, auto& t) {
        for (auto& v : t.flat()) v += typename std::remove_cvref_t<decltype(t)>::Scalar(std * rng.normal());
      },
      module);
}

/// Compares `backward` in double with the derivative that dual numbers carry through `forward`, for every parameter and
/// input, of <dy, y> plus the layer's own penalty where it has one. Dual numbers are exact but for rounding, which
/// 1e-10 of the gradient's size leaves far behind.
template <class L, class Lifted>
void expect_exact_gradient(const L& layer, Lifted& lifted, const Tensor<double, 2>& x, const PassSetup& setup = {}) {
  const Shape<2> shape = x.shape();
  const auto dy = random_tensor<double>(shape, 77);
  Tensor<double, 2> y(shape), dx(shape);
  auto grad = zeros_like(layer);
  {
    Context ctx;
    Rng rng(setup.seed.value_or(0));
    if (setup.seed) ctx.rng = &rng;
    ctx.layout = setup.layout;
    const auto saved = test::forward_under_mortal_layout(ctx, [&] { return layer.forward(x, y, ctx); });
    layer.backward(saved, dy, dx, grad, ctx);
  }

  convert(layer, lifted);
  Tensor<Dual, 2> dual_x(shape), dual_y(shape);
  std::transform(x.flat().begin(), x.flat().end(), dual_x.flat().begin(), [](double v) { return Dual(v); });
  Context ctx;
  ctx.layout = setup.layout;
  const auto derivative = [&](Dual& variable) {
    const auto scope = ctx.workspace.scope();
    Rng rng(setup.seed.value_or(0));
    if (setup.seed) ctx.rng = &rng;
    variable.d = 1;
    const auto saved = lifted.forward(dual_x, dual_y, ctx);
    double sum = 0;
    for (std::size_t i = 0; i < dy.flat().size(); ++i)
      if (dy.flat()[i] != 0) sum += dy.flat()[i] * dual_y.flat()[i].d;
    if constexpr (requires { lifted.aux_loss(saved, ctx); }) sum += lifted.aux_loss(saved, ctx).d;
    variable.d = 0;
    return sum;
  };
  const auto tolerance = [](double v) { return 1e-10 * (1 + std::abs(v)); };
  for_each_param(
      [&](std::string_view path, const auto& g, auto& variables) {
        for (std::size_t i = 0; i < g.flat().size(); ++i) {
          const double expected = derivative(variables.flat()[i]);
          ASSERT_NEAR(g.flat()[i], expected, tolerance(expected)) << path << " " << i;
        }
      },
      std::as_const(grad), lifted);
  for (std::size_t i = 0; i < dx.flat().size(); ++i) {
    const double expected = derivative(dual_x.flat()[i]);
    ASSERT_NEAR(dx.flat()[i], expected, tolerance(expected)) << "dx " << i;
  }
}

}  // namespace gatefold
