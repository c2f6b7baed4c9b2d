#pragma once
#include "gatefold/simd/long_sum.hpp"

namespace gatefold::kernels {

/// y = (x − mean) / sqrt(var + eps) * gain + bias of each row; keeps mean and 1/sqrt(var + eps).
/// // x, y [R, D]; gain, bias [D]; stats [R, 2]. About 8 R D flops.
template <class T>
void layer_norm(Rows<const T> x, View<const T, 1> gain, View<const T, 1> bias, T eps, Rows<T> y, Rows<T> stats,
                Context& ctx) {
  using std::sqrt;
  const Index d = x.extent(1);
  const T inverse_d = T(1) / T(static_cast<double>(d));
  for_each_row(x.extent(0), d, ctx, [&](Index i) {
    const T* const in = x.data() + i * x.stride(0);
    const T mean = inverse_d * simd::sum<T>(
                                   ctx.isa, d, [](auto v) { return v; }, in);
    const T var = inverse_d * simd::sum<T>(
                                  ctx.isa, d, [=](auto v) { return (v - mean) * (v - mean); }, in);
    const T rstd = T(1) / sqrt(var + eps);
    stats(i, 0) = mean;
    stats(i, 1) = rstd;
    simd::transform<T>(
        ctx.isa, d, [=](auto v, auto g, auto b) { return (v - mean) * rstd * g + b; }, y.data() + i * y.stride(0), in,
        gain.data(), bias.data());
  });
}

/// With xhat = (x − mean) rstd and g = dy ⊙ gain: dx = rstd (g − mean(g) − xhat mean(g ⊙ xhat)).
/// // x, dy, dx [R, D]; dx may be dy
template <class T>
void layer_norm_grad(Rows<const T> x, View<const T, 1> gain, Rows<const T> stats, Rows<const T> dy, Rows<T> dx,
                     Context& ctx) {
  const Index d = x.extent(1);
  const T inverse_d = T(1) / T(static_cast<double>(d));
  for_each_row(x.extent(0), d, ctx, [&](Index i) {
    const T* const in = x.data() + i * x.stride(0);
    const T* const dout = dy.data() + i * dy.stride(0);
    const T mean = stats(i, 0), rstd = stats(i, 1);
    const T mean_g = inverse_d * simd::sum<T>(
                                     ctx.isa, d, [](auto g, auto b) { return g * b; }, dout, gain.data());
    const T mean_gx = inverse_d * simd::sum<T>(
                                      ctx.isa, d, [=](auto g, auto b, auto v) { return g * b * ((v - mean) * rstd); },
                                      dout, gain.data(), in);
    simd::transform<T>(
        ctx.isa, d, [=](auto g, auto b, auto v) { return rstd * (g * b - mean_g - (v - mean) * rstd * mean_gx); },
        dx.data() + i * dx.stride(0), dout, gain.data(), in);
  });
}

/// dgain += Σ dy ⊙ xhat, dbias += Σ dy. // x, dy [R, D]; dgain, dbias [D]
template <class T>
void add_layer_norm_grad_params(Rows<const T> x, Rows<const T> stats, Rows<const T> dy, View<T, 1> dgain,
                                View<T, 1> dbias, Context& ctx) {
  add_column_sums_of<T, 2>(x.extent(0), {dgain, dbias}, ctx, [=](Index i) {
    return [mean = stats(i, 0), rstd = stats(i, 1), in = x.data() + i * x.stride(0),
            dout = dy.data() + i * dy.stride(0)](auto&& load) {
      const auto g = load(dout);
      return std::array{decltype(g)(g * ((load(in) - mean) * rstd)), g};
    };
  });
}

/// y = x / sqrt(mean(x²) + eps) * (offset + gain) of each row, or of each part of one that is as wide as the gain: the
/// heads of a row share theirs. Keeps 1 / sqrt(mean(x²) + eps). About 4 flops a number.
/// // x, y [R, P D]; gain [D]; rstd [R, P]; y may be x
template <class T>
void rms_norm(Rows<const T> x, View<const T, 1> gain, T offset, T eps, Rows<T> y, Rows<T> rstd, Context& ctx) {
  using std::sqrt;
  const Index d = gain.extent(0);
  const T inverse_d = T(1) / T(static_cast<double>(d));
  for_each_row(x.extent(0), x.extent(1), ctx, [&](Index i) {
    for (Index part = 0; part < rstd.extent(1); ++part) {
      const T* const in = x.data() + i * x.stride(0) + part * d;
      const T mean_square = inverse_d * simd::sum<T>(
                                            ctx.isa, d, [](auto v) { return v * v; }, in);
      const T inverse = rstd(i, part) = T(1) / sqrt(mean_square + eps);
      simd::transform<T>(
          ctx.isa, d, [=](auto v, auto g) { return v * inverse * (g + offset); }, y.data() + i * y.stride(0) + part * d,
          in, gain.data());
    }
  });
}

/// With xhat = x rstd and g = dy ⊙ (offset + gain): dx = rstd (g − xhat mean(g ⊙ xhat)).
/// // x, dy, dx [R, P D]; dx may be dy
template <class T>
void rms_norm_grad(Rows<const T> x, View<const T, 1> gain, T offset, Rows<const T> rstd, Rows<const T> dy, Rows<T> dx,
                   Context& ctx) {
  const Index d = gain.extent(0);
  const T inverse_d = T(1) / T(static_cast<double>(d));
  for_each_row(x.extent(0), x.extent(1), ctx, [&](Index i) {
    for (Index part = 0; part < rstd.extent(1); ++part) {
      const T* const in = x.data() + i * x.stride(0) + part * d;
      const T* const dout = dy.data() + i * dy.stride(0) + part * d;
      const T inverse = rstd(i, part);
      const T mean_gx =
          inverse_d * simd::sum<T>(
                          ctx.isa, d, [=](auto g, auto b, auto v) { return g * (b + offset) * (v * inverse); }, dout,
                          gain.data(), in);
      simd::transform<T>(
          ctx.isa, d, [=](auto g, auto b, auto v) { return inverse * (g * (b + offset) - v * inverse * mean_gx); },
          dx.data() + i * dx.stride(0) + part * d, dout, gain.data(), in);
    }
  });
}

/// dgain += Σ dy ⊙ xhat over rows and their parts. // x, dy [R, P D]; rstd [R, P]; dgain [D]
template <class T>
void add_rms_norm_grad_gain(Rows<const T> x, Rows<const T> rstd, Rows<const T> dy, View<T, 1> dgain, Context& ctx) {
  const Index parts = rstd.extent(1), d = dgain.extent(0);
  add_column_sums_of<T, 1>(x.extent(0) * parts, {dgain}, ctx, [=](Index i) {
    const Index row = i / parts, part = i % parts;
    return [inverse = rstd(row, part), in = x.data() + row * x.stride(0) + part * d,
            dout = dy.data() + row * dy.stride(0) + part * d](auto&& load) {
      const auto g = load(dout);
      return std::array{decltype(g)(g * (load(in) * inverse))};
    };
  });
}

}  // namespace gatefold::kernels

#ifdef GATEFOLD_COMPILED  // compiled.hpp
namespace gatefold::kernels {

GATEFOLD_COMPILED void layer_norm<float>(Rows<const float>, View<const float, 1>, View<const float, 1>, float,
                                         Rows<float>, Rows<float>, Context&);
GATEFOLD_COMPILED void layer_norm_grad<float>(Rows<const float>, View<const float, 1>, Rows<const float>,
                                              Rows<const float>, Rows<float>, Context&);
GATEFOLD_COMPILED void add_layer_norm_grad_params<float>(Rows<const float>, Rows<const float>, Rows<const float>,
                                                         View<float, 1>, View<float, 1>, Context&);
GATEFOLD_COMPILED void rms_norm<float>(Rows<const float>, View<const float, 1>, float, float, Rows<float>, Rows<float>,
                                       Context&);
GATEFOLD_COMPILED void rms_norm_grad<float>(Rows<const float>, View<const float, 1>, float, Rows<const float>,
                                            Rows<const float>, Rows<float>, Context&);
GATEFOLD_COMPILED void add_rms_norm_grad_gain<float>(Rows<const float>, Rows<const float>, Rows<const float>,
                                                     View<float, 1>, Context&);

}  // namespace gatefold::kernels
#endif
