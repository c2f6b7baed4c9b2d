#pragma once
#include "gatefold/kernels/norm.hpp"
#include "gatefold/module/frozen.hpp"

namespace gatefold {

/// y = (x − mean) / √(var + epsilon) ⊙ gain + bias over the width of each row (Ba et al. 2016). Keeps x, mean, 1/√….
template <Real T>
struct LayerNorm {
  using Scalar = T;
  struct Options {
    Index width;
    double epsilon = 1e-5;
  };
  struct Saved {
    Rows<const T> x;      // [R, D]
    Rows<const T> stats;  // [R, 2]
  };

  Tensor<T, 1> gain, bias;  // [D]
  double epsilon;

  /// Throws OptionError for a width below 1 or an epsilon that is negative or not finite.
  explicit LayerNorm(Options o) : gain({checked(o).width}), bias({o.width}), epsilon(o.epsilon) {
    std::ranges::fill(gain.flat(), T(1));
  }
  static void visit(auto& v, auto&... self) {
    v("gain", self.gain...);
    v("bias", self.bias...);
  }

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    expect_shape(x, {x.extent(0), gain.extent(0)}, "LayerNorm::forward: x");
    expect_shape(y, x.shape(), "LayerNorm::forward: y");
    expect_shape(bias.view(), gain.shape(), "LayerNorm::forward: bias");
    auto stats = ctx.workspace.take<T>(x.extent(0), 2);
    kernels::layer_norm<T>(x, gain, bias, T(epsilon), y, stats, ctx);
    return {x, stats};
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, LayerNorm& grad, Context& ctx) const {
    expect_shape(dy, saved.x.shape(), "LayerNorm::backward: dy");
    expect_shape(dx, saved.x.shape(), "LayerNorm::backward: dx");
    expect_shape(grad.gain.view(), gain.shape(), "LayerNorm::backward: grad.gain");
    expect_shape(grad.bias.view(), gain.shape(), "LayerNorm::backward: grad.bias");
    if (wants_gradient(gain, ctx) || wants_gradient(bias, ctx))
      kernels::add_layer_norm_grad_params<T>(saved.x, saved.stats, dy, grad.gain, grad.bias, ctx);
    kernels::layer_norm_grad<T>(saved.x, gain, saved.stats, dy, dx, ctx);
  }

 private:
  static const Options& checked(const Options& o) {
    expect_size("LayerNorm", "width", o.width);
    expect_rate("LayerNorm", "epsilon", o.epsilon);
    return o;
  }
};

}  // namespace gatefold
