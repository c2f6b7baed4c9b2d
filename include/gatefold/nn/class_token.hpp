#pragma once
#include "gatefold/simd/long_sum.hpp"

namespace gatefold {

/// Puts one learned row in front of each sequence (ViT, arXiv 2010.11929): what the sequence is summed up in.
template <Real T>
struct ClassToken {
  using Scalar = T;
  struct Options {
    Index width;
  };

  Tensor<T, 1> token;  // [D]

  /// Throws OptionError for a width below 1.
  explicit ClassToken(Options o) : token({checked(o).width}) {}
  static void visit(auto& v, auto&... self) { v("token", self.token...); }

  /// Sequences of equal length. // x [B T, D], y [B (T + 1), D]
  void forward(Index batch, Rows<const T> x, Rows<T> y, Context& ctx) const {
    const Index length = length_of(batch, x.extent(0), "ClassToken::forward: x"), width = token.extent(0);
    expect_shape(x, {batch * length, width}, "ClassToken::forward: x");
    expect_shape(y, {batch * (length + 1), width}, "ClassToken::forward: y");
    kernels::for_each_row(y.extent(0), width, ctx, [&](Index i) {
      const Index b = i / (length + 1), t = i % (length + 1);
      std::copy_n(t == 0 ? token.data() : x.data() + (b * length + t - 1) * x.stride(0), width,
                  y.data() + i * y.stride(0));
    });
  }

  /// dx is overwritten. // dy [B (T + 1), D], dx [B T, D]
  void backward(Index batch, Rows<const T> dy, Rows<T> dx, ClassToken& grad, Context& ctx) const {
    const Index length = length_of(batch, dx.extent(0), "ClassToken::backward: dx"), width = token.extent(0);
    expect_shape(dy, {batch * (length + 1), width}, "ClassToken::backward: dy");
    expect_shape(dx, {batch * length, width}, "ClassToken::backward: dx");
    expect_shape(grad.token.view(), {width}, "ClassToken::backward: grad.token");
    kernels::add_column_sums_of<T, 1>(batch, {grad.token.view()}, ctx, [=](Index b) {
      return [row = dy.data() + b * (length + 1) * dy.stride(0)](auto&& load) { return std::array{load(row)}; };
    });
    kernels::for_each_row(dx.extent(0), width, ctx, [&](Index i) {
      std::copy_n(dy.data() + (i + i / length + 1) * dy.stride(0), width, dx.data() + i * dx.stride(0));
    });
  }

 private:
  static const Options& checked(const Options& o) {
    expect_size("ClassToken", "width", o.width);
    return o;
  }
  static Index length_of(Index batch, Index rows, const char* what) {
    if (batch < 0 || (batch == 0 ? rows != 0 : rows % batch != 0))
      throw ShapeError(std::string(what) + " has " + std::to_string(rows) + " rows, expected a multiple of " +
                       std::to_string(batch));
    return batch == 0 ? 0 : rows / batch;
  }
};

}  // namespace gatefold
