#pragma once
#include "gatefold/kernels/norm.hpp"

namespace gatefold {

/// What the stored gain is counted from: Gemma and Qwen3-Next store how far it is from 1.
enum class GainForm { whole, from_one };

/// y = x / √(mean x² + epsilon) ⊙ gain over the width of each row (Zhang & Sennrich 2019), where a gain from one is
/// 1 + gain. Keeps x and 1 / √….
template <Real T>
struct RmsNorm {
  using Scalar = T;
  struct Options {
    Index width;
    double epsilon = 1e-6;
    GainForm form = GainForm::whole;
    Index parts = 1;  ///< P, that a row has: each is normalised by itself, by one gain, as heads are.
  };
  struct Saved {
    Rows<const T> x;     // [R, P D]
    Rows<const T> rstd;  // [R, P]
  };

  Tensor<T, 1> gain;  // [D]
  double epsilon;
  GainForm form;
  Index parts;

  /// Throws OptionError for a size below 1 or an epsilon that is negative or not finite.
  explicit RmsNorm(Options o) : gain({checked(o).width}), epsilon(o.epsilon), form(o.form), parts(o.parts) {
    std::ranges::fill(gain.flat(), T(1) - offset());
  }
  static void visit(auto& v, auto&... self) { v("gain", self.gain...); }

  /// x, y [R, P D]
  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    expect_shape(x, {x.extent(0), parts * gain.extent(0)}, "RmsNorm::forward: x");
    expect_shape(y, x.shape(), "RmsNorm::forward: y");
    auto rstd = ctx.workspace.take<T>(x.extent(0), parts);
    kernels::rms_norm<T>(x, gain, offset(), T(epsilon), y, rstd, ctx);
    return {x, rstd};
  }

  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, RmsNorm& grad, Context& ctx) const {
    expect_shape(dy, saved.x.shape(), "RmsNorm::backward: dy");
    expect_shape(dx, saved.x.shape(), "RmsNorm::backward: dx");
    expect_shape(grad.gain.view(), gain.shape(), "RmsNorm::backward: grad.gain");
    kernels::add_rms_norm_grad_gain<T>(saved.x, saved.rstd, dy, grad.gain, ctx);
    kernels::rms_norm_grad<T>(saved.x, gain, offset(), saved.rstd, dy, dx, ctx);
  }

 private:
  T offset() const { return T(form == GainForm::from_one ? 1 : 0); }
  static const Options& checked(const Options& o) {
    expect_size("RmsNorm", "width", o.width);
    expect_size("RmsNorm", "parts", o.parts);
    expect_rate("RmsNorm", "epsilon", o.epsilon);
    return o;
  }
};

}  // namespace gatefold
