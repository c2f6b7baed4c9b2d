#pragma once
#include "gatefold/kernels/softmax.hpp"
#include "gatefold/module/module.hpp"
#include "gatefold/module/pack.hpp"
#include "gatefold/products/matmul.hpp"
#include "gatefold/simd/map.hpp"

/// Experts that cost next to nothing: what a token gets for which a net is not worth it. SparseMlp takes them besides
/// its nets; several kinds in one layer are one type by OneOf. (Jin et al. 2024, «MoE++», arXiv 2410.07348;
/// LongCat-Flash has copies only.) A zero expert keeps its share of the weight, or as in MoE++ leaves it to the others:
/// TopKRouterOptions::zeros.
namespace gatefold {

/// y = x. With its weight w a token's share of w passes the layer by.
template <Real T>
struct CopyExpert {
  using Scalar = T;
  using Saved = Nothing;
  static void visit(auto&, auto&...) {}

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    expect_shape(y, x.shape(), "CopyExpert::forward: y");
    kernels::copy_rows<T>(x, y, ctx);
    return {};
  }
  void backward(const Saved&, Rows<const T> dy, Rows<T> dx, CopyExpert&, Context& ctx) const {
    expect_shape(dx, dy.shape(), "CopyExpert::backward: dx");
    kernels::copy_rows<T>(dy, dx, ctx);
  }
  CopyExpert over(const auto&) const { return *this; }
};
static_assert(Layer<CopyExpert<float>>);

/// y = 0: the token gives its share of the weight away.
template <Real T>
struct ZeroExpert {
  using Scalar = T;
  using Saved = Nothing;
  static void visit(auto&, auto&...) {}

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    expect_shape(y, x.shape(), "ZeroExpert::forward: y");
    kernels::fill_rows<T>(y, T(0), ctx);
    return {};
  }
  void backward(const Saved&, Rows<const T> dy, Rows<T> dx, ZeroExpert&, Context& ctx) const {
    expect_shape(dx, dy.shape(), "ZeroExpert::backward: dx");
    kernels::fill_rows<T>(dx, T(0), ctx);
  }
  ZeroExpert over(const auto&) const { return *this; }
};
static_assert(Layer<ZeroExpert<float>>);

/// y = a_0 x + a_1 v with a = softmax(x mixT): what the token is, mixed with a vector that is learnt. Keeps x and a.
/// 4 R D flops forward.
template <Real T>
struct ConstantExpert {
  using Scalar = T;
  struct Options {
    Index width;  // D
  };
  struct Saved {
    Rows<const T> x;  // [R, D]
    Rows<const T> a;  // [R, 2]
  };

  Tensor<T, 2> mix;    // [2, D]
  Tensor<T, 2> value;  // [1, D] v

  /// Throws OptionError for a width below 1.
  explicit ConstantExpert(const Options& o) : mix(shape_of(o, 2)), value(shape_of(o, 1)) {}
  static void visit(auto& v, auto&... self) {
    v("mix", self.mix...);
    v("value", self.value...);
  }

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    expect_shape(x, {x.extent(0), mix.extent(1)}, "ConstantExpert::forward: x");
    expect_shape(y, x.shape(), "ConstantExpert::forward: y");
    auto a = ctx.workspace.take<T>(x.extent(0), 2);
    kernels::matmul<T>(x, mix, a, ctx);
    kernels::softmax_rows<T>(a, a, ctx);
    kernels::for_each_row(x.extent(0), x.extent(1), ctx, [&](Index row) {
      const T copied = a(row, 0), constant = a(row, 1);
      for (Index d = 0; d < x.extent(1); ++d) y(row, d) = copied * x(row, d) + constant * value.view()(0, d);
    });
    return {x, a};
  }
  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, ConstantExpert& grad, Context& ctx) const {
    const Index rows = saved.x.extent(0), width = mix.extent(1);
    expect_shape(dy, saved.x.shape(), "ConstantExpert::backward: dy");
    expect_shape(dx, saved.x.shape(), "ConstantExpert::backward: dx");
    expect_shape(grad.mix.view(), mix.shape(), "ConstantExpert::backward: grad.mix");
    expect_shape(grad.value.view(), value.shape(), "ConstantExpert::backward: grad.value");
    const auto scope = ctx.workspace.scope();
    auto da = ctx.workspace.take<T>(rows, 2), constant = ctx.workspace.take<T>(rows, 1);
    kernels::for_each_row(rows, width, ctx, [&](Index row) {
      T copied(0), mixed(0);
      for (Index d = 0; d < width; ++d) {
        copied = copied + dy(row, d) * saved.x(row, d);
        mixed = mixed + dy(row, d) * value.view()(0, d);
      }
      da(row, 0) = copied, da(row, 1) = mixed;
      constant(row, 0) = saved.a(row, 1);
    });
    kernels::softmax_rows_grad<T>(saved.a, da, da, ctx);
    kernels::matmul_grad_input<T>(da, mix, dx, ctx);
    kernels::for_each_row(rows, width, ctx, [&](Index row) {
      for (Index d = 0; d < width; ++d) dx(row, d) = dx(row, d) + saved.a(row, 0) * dy(row, d);
    });
    kernels::add_matmul_grad_weight<T>(da, saved.x, grad.mix, ctx);
    kernels::add_matmul_grad_weight<T>(constant, dy, grad.value, ctx);
  }
  ConstantExpert over(const auto&) const { return *this; }

 private:
  static Shape<2> shape_of(const Options& o, Index rows) {
    expect_size("ConstantExpert", "width", o.width);
    return {rows, o.width};
  }
};
static_assert(Layer<ConstantExpert<float>>);

}  // namespace gatefold
