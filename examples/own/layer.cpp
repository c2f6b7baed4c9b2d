// A layer of one's own: y = x / rms(x) ⊙ gain, as in LLaMA (Zhang & Sennrich 2019). For reading, in plain loops; the
// library's is nn/rms_norm.hpp.
#include "check.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/nn/residual.hpp"
#include "gatefold/simd/map.hpp"

namespace own {

template <Real T>
struct RmsNorm {
  using Scalar = T;
  struct Options {
    Index width;
    double epsilon = 1e-6;
  };
  // What backward needs: views of the workspace, nothing with a destructor.
  struct Saved {
    Rows<const T> x;           // [R, D] the caller's, who leaves it as it is until backward
    View<const T, 1> inverse;  // [R] 1 / rms
  };

  Tensor<T, 1> gain;  // [D]
  double epsilon;

  explicit RmsNorm(Options o) : gain({o.width}), epsilon(o.epsilon) { std::ranges::fill(gain.flat(), T(1)); }
  // The parameters, once, for optimiser, checkpoint, gradient and initialiser.
  static void visit(auto& v, auto&... self) { v("gain", self.gain...); }

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    const Index width = gain.extent(0);
    expect_shape(x, {x.extent(0), width}, "RmsNorm::forward: x");
    expect_shape(y, x.shape(), "RmsNorm::forward: y");
    auto inverse = ctx.workspace.take<T>(x.extent(0));  // belongs to the scope of the caller
    kernels::for_each_row(x.extent(0), width, ctx, [&](Index r) {
      using std::sqrt;
      T sum(0);
      for (Index d = 0; d < width; ++d) sum = sum + x(r, d) * x(r, d);
      inverse[r] = T(1) / sqrt(sum / T(static_cast<double>(width)) + T(epsilon));
      for (Index d = 0; d < width; ++d) y(r, d) = x(r, d) * inverse[r] * gain.data()[d];
    });
    return {x, inverse};
  }

  // Overwrites dx, adds to grad.
  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, RmsNorm& grad, Context& ctx) const {
    const auto scope = ctx.workspace.scope();  // what is taken below goes back here
    const Index rows = saved.x.extent(0), width = gain.extent(0);
    auto unit = ctx.workspace.take<T>(rows, width);
    kernels::for_each_row(rows, width, ctx, [&](Index r) {
      T mean(0);
      for (Index d = 0; d < width; ++d) {
        unit(r, d) = saved.x(r, d) * saved.inverse[r];
        mean = mean + dy(r, d) * gain.data()[d] * unit(r, d) / T(static_cast<double>(width));
      }
      for (Index d = 0; d < width; ++d) dx(r, d) = (dy(r, d) * gain.data()[d] - mean * unit(r, d)) * saved.inverse[r];
    });
    // A sum over rows is one worker's, in their order: so results do not depend on the number of threads.
    for (Index r = 0; r < rows; ++r)
      for (Index d = 0; d < width; ++d) grad.gain.data()[d] = grad.gain.data()[d] + dy(r, d) * unit(r, d);
  }
};
static_assert(Layer<RmsNorm<float>> && Layer<RmsNorm<double>>);

}  // namespace own

int main() {
  using namespace own;
  check_gradient(RmsNorm<double>({.width = 5}), {4, 5}, 5, "the gradient of RmsNorm");

  RmsNorm<float> norm({.width = 2});
  Tensor<float, 2> x({1, 2}), y({1, 2});
  x.flat()[0] = 1, x.flat()[1] = 7;  // rms 5
  Context ctx;
  infer(norm, std::as_const(x).view(), y.view(), ctx);
  expect(is_near(y.flat()[0], 0.2, 1e-6) && is_near(y.flat()[1], 1.4, 1e-6), "a row computed by hand");
  Residual around({.width = 2}, norm);  // it is a layer like any other
  expect(count_params(around) == 4 + 2, "within another layer");

  Mlp<double> without({.width = 4, .hidden = 3});
  without.down.bias = Tensor<double, 1>({0});
  check_gradient(without, {5, 4}, 4, "the gradient of an Mlp with one bias of two");
  return status();
}
