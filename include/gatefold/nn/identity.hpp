#pragma once
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// y = x: what stands where a norm could, in an encoder or a branch without one. Keeps nothing but how many rows came.
template <Real T>
struct Identity {
  using Scalar = T;
  struct Options {};
  struct Saved {
    Shape<2> shape;
  };

  explicit Identity(Options) {}
  static void visit(auto&, auto&...) {}

  Saved forward(Rows<const T> x, Rows<T> y, Context& ctx) const {
    expect_shape(y, x.shape(), "Identity::forward: y");
    kernels::copy_rows<T>(x, y, ctx);
    return {x.shape()};
  }
  void backward(const Saved& saved, Rows<const T> dy, Rows<T> dx, Identity&, Context& ctx) const {
    expect_shape(dy, saved.shape, "Identity::backward: dy");
    expect_shape(dx, saved.shape, "Identity::backward: dx");
    kernels::copy_rows<T>(dy, dx, ctx);
  }
};

}  // namespace gatefold
