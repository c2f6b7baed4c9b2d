#pragma once
#include <cmath>

#include "gatefold/train/blocks.hpp"
#include "gatefold/train/freeze.hpp"
#include "gatefold/train/optimizer.hpp"

namespace gatefold {

/// The Euclidean norm over the trained parameters, in double. The same for any number of threads. NaN or infinite if an
/// element is.
template <Module M>
double gradient_norm(const M& grad, const Trainable& trainable, Context& ctx) {
  double squares = 0;
  for_each_param(
      [&](std::string_view path, const auto& g) {
        using Field = std::remove_cvref_t<decltype(g)>;
        if constexpr (Trained<typename Field::Scalar> && !is_shared_tensor<Field>)
          if (trainable(path))
            squares += sum_over_blocks({.count = g.size()}, ctx,
                                       [&](Index begin, Index end) { return sum_of_squares(g.data(), begin, end); });
      },
      grad);
  return std::sqrt(squares);
}
template <Module M>
double gradient_norm(const M& grad, Context& ctx) {
  return gradient_norm(grad, Trainable(), ctx);
}

struct ClipGradientOptions {
  double max_norm = 1;
  Trainable trainable{};  ///< What enters the norm, and is scaled.
};

/// What the gradient is to be multiplied by so that its norm is at most max_norm: the gradient_scale of a step, which
/// saves the pass that clip_gradient needs. 1 for a norm that is not finite: whether to skip such a step is up to the
/// caller. Throws OptionError unless max_norm is above 0.
inline double clip_scale(double norm, const ClipGradientOptions& options = {}) {
  expect_option(options.max_norm > 0, "ClipGradientOptions", "max_norm", options.max_norm, "a number above 0");
  return std::isfinite(norm) && norm > options.max_norm ? options.max_norm / norm : 1;
}

/// Scales the gradient to at most max_norm and returns the norm it had. A gradient whose norm is not finite is left as
/// it is, so check the result: `if (!std::isfinite(norm)) skip the step`.
template <Module M>
double clip_gradient(M& grad, const ClipGradientOptions& options, Context& ctx) {
  const double norm = gradient_norm(grad, options.trainable, ctx);
  const double scale = clip_scale(norm, options);
  if (scale == 1) return norm;
  for_each_param(
      [&](std::string_view path, auto& g) {
        using Field = std::remove_cvref_t<decltype(g)>;
        using T = typename Field::Scalar;
        if constexpr (Trained<T> && !is_shared_tensor<Field>)
          if (options.trainable(path))
            for_each_block({.count = g.size()}, ctx.parallel_for, [&](Index, Index begin, Index end) {
              for (Index i = begin; i < end; ++i) g.data()[i] = g.data()[i] * T(scale);
            });
      },
      grad);
  return norm;
}

}  // namespace gatefold
