#pragma once
#include "gatefold/module/frozen.hpp"
#include "gatefold/nn/calibration.hpp"
#include "gatefold/nn/weight_storage.hpp"
#include "gatefold/simd/long_sum.hpp"

namespace gatefold {

/// Whether a linear layer has a bias, which then starts at zero.
enum class Bias { none, zero };

/// y = x weightᵀ + bias. 2 R N D flops forward, twice that backward; keeps x.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
struct Linear {
  using Scalar = T;
  struct Options {
    Index in, out;
    Bias bias = Bias::zero;
  };
  struct Saved {
    Rows<const T> x;  // [R, in]
  };

  W weight;           // [out, in]
  Tensor<T, 1> bias;  // [out], or [0] without one

  /// Throws OptionError for a size below 1.
  explicit Linear(Options o) : weight(shape_of(o)), bias({o.bias == Bias::none ? 0 : o.out}) {}
  static void visit(auto& v, auto&... self) {
    v("weight", self.weight...);
    const bool some = ((self.bias.size() > 0) || ...), all = ((self.bias.size() > 0) && ...);
    if (some != all) throw std::invalid_argument("Linear: only some of the modules visited together have a bias");
    if (all) v("bias", self.bias...);
  }

  Index in() const { return weight.extent(1); }
  Index out() const { return weight.extent(0); }
  const T* bias_or_null() const { return bias.size() ? bias.data() : nullptr; }

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    expect_shape(x, {x.extent(0), in()}, "Linear::forward: x");
    expect_shape(y, {x.extent(0), out()}, "Linear::forward: y");
    if (bias.size()) expect_shape(bias.view(), {out()}, "Linear::forward: bias");
    if (ctx.calibration) ctx.calibration->see<T>(&weight, x, ctx);
    if constexpr (DenseStorage<W, T>)
      kernels::matmul<T>(x, weight, y, ctx, bias_or_null());
    else
      weight.multiply(x, y, ctx, bias_or_null());
    return {x};
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, Linear& grad,
                Context& ctx) const requires TrainableStorage<W, T> {
    expect_shape(dy, {saved.x.extent(0), out()}, "Linear::backward: dy");
    expect_shape(dx, saved.x.shape(), "Linear::backward: dx");
    {
      const auto scope = ctx.workspace.scope();
      kernels::matmul_grad_input<T>(dy, detail::dense_weight<T>(weight, ctx), dx, ctx);
    }
    backward_params(saved, dy, grad, ctx);
  }

  /// backward without dx, for the first layer of a model.
  void backward_params(const Saved& saved, Rows<const T> dy, Linear& grad,
                       Context& ctx) const requires TrainableStorage<W, T> {
    expect_shape(dy, {saved.x.extent(0), out()}, "Linear::backward: dy");
    if (grad.weight.shape() != weight.shape())
      detail::refuse_shape("Linear::backward: grad.weight", grad.weight.shape(), weight.shape());
    expect_shape(grad.bias.view(), bias.shape(), "Linear::backward: grad.bias");
    if (wants_gradient(weight, ctx)) {
      const auto scope = ctx.workspace.scope();
      const Rows<T> dweight = detail::gradient_room<T>(grad.weight, ctx);
      kernels::add_matmul_grad_weight<T>(dy, saved.x, dweight, ctx);
      detail::take_gradient<T>(weight, dweight, grad.weight, ctx);
    }
    if (bias.size() && wants_gradient(bias, ctx)) kernels::add_column_sums<T>(dy, grad.bias, ctx);
  }

  template <class To>
  requires std::invocable<const To&, const W&>
  auto over(const To& to) const {
    Linear<T, WeightBy<To, W>> other({.in = in(), .out = out(), .bias = Bias::none});
    other.weight = to(weight);
    other.bias = bias;
    return other;
  }

 private:
  static Shape<2> shape_of(const Options& o) {
    expect_size("Linear", "in", o.in);
    expect_size("Linear", "out", o.out);
    return {o.out, o.in};
  }
};

}  // namespace gatefold
