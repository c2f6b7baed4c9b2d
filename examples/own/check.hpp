#pragma once
#include <cstdio>

#include "gatefold/core/random.hpp"
#include "gatefold/module/ops.hpp"

/// What the parts in this folder are checked by: plain loops, and differences in place of gradients.
namespace own {

using namespace gatefold;

inline bool all_right = true;

inline void expect(bool right, const char* what) {
  std::printf("%s: %s\n", right ? "right" : "WRONG", what);
  all_right &= right;
}

inline bool is_near(double a, double b, double tolerance) { return std::abs(a - b) <= tolerance * (1 + std::abs(b)); }

inline void disturb(std::span<double> values, Rng& rng) {
  for (double& value : values) value += 0.5 * rng.normal();
}
inline Tensor<double, 2> random_rows(Shape<2> shape, Rng& rng) {
  Tensor<double, 2> rows(shape);
  disturb(rows.flat(), rng);
  return rows;
}

/// backward against central differences of sum(dy ⊙ forward(x)), and of the auxiliary loss of a layer that has one: for
/// every parameter and every input.
template <Layer L>
void check_gradient(L layer, Shape<2> in, Index out, const char* what) {
  Rng rng(7);
  for_each_param([&](std::string_view, auto& parameter) { disturb(parameter.flat(), rng); }, layer);
  auto x = random_rows(in, rng);
  const auto dy = random_rows({in[0], out}, rng);
  Tensor<double, 2> y(dy.shape()), dx(x.shape());
  Context ctx;
  const auto loss = [&] {
    const auto scope = ctx.workspace.scope();
    const auto saved = layer.forward(x, y, ctx);
    double sum = 0;
    for (std::size_t i = 0; i < y.flat().size(); ++i) sum += y.flat()[i] * dy.flat()[i];
    if constexpr (requires { layer.aux_loss(saved, ctx); }) sum += layer.aux_loss(saved, ctx);
    return sum;
  };
  auto grad = zeros_like(layer);
  {
    const auto scope = ctx.workspace.scope();
    const auto saved = layer.forward(x, y, ctx);
    layer.backward(saved, dy, dx, grad, ctx);
  }
  bool right = true;
  const auto compare = [&](double got, double& variable) {
    constexpr double kStep = 1e-5;
    const double before = variable;
    variable = before + kStep;
    const double above = loss();
    variable = before - kStep;
    const double below = loss();
    variable = before;
    right &= is_near(got, (above - below) / (2 * kStep), 1e-7);
  };
  for_each_param(
      [&](std::string_view, auto& parameter, const auto& got) {
        for (std::size_t i = 0; i < got.flat().size(); ++i) compare(got.flat()[i], parameter.flat()[i]);
      },
      layer, grad);
  for (std::size_t i = 0; i < dx.flat().size(); ++i) compare(dx.flat()[i], x.flat()[i]);
  expect(right, what);
}

/// What main returns.
inline int status() { return all_right ? 0 : 1; }

}  // namespace own
