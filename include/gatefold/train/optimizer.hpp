#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "gatefold/module/module.hpp"

namespace gatefold {

/// What differs from one optimiser step to the next.
struct StepOptions {
  std::optional<double> learning_rate{};  ///< What a schedule says; else the optimiser's own.
  double gradient_scale = 1;              ///< The gradient is read times this: clip_scale, 1 / number of micro-batches.
};

namespace detail {
/// Throws OptionError, before anything changes, for a rate that would break every parameter.
inline void check_step(double learning_rate, double gradient_scale, std::string_view who) {
  expect_rate(who, "learning_rate", learning_rate);
  expect_option(std::isfinite(gradient_scale), who, "gradient_scale", gradient_scale, "a finite number");
}
}  // namespace detail

/// Does weight decay act on the parameter?
using DecayRule = std::function<bool(std::string_view path, std::size_t rank)>;

/// Matrices decay; biases, the scales of norms and single tokens do not.
inline bool decay_matrices(std::string_view, std::size_t rank) { return rank >= 2; }

/// An optimiser is a Module over its state (moments and step count), so whatever saves and restores a model does the
/// same for it, and a run that is resumed from both equals one that was never interrupted, bit for bit.
template <class O, class M>
concept Optimizer = Module<O> &&
    requires(O& optimizer, M& model, const M& grad, const StepOptions& options, Context& ctx) {
  { optimizer.step(model, grad, options, ctx) } -> std::same_as<void>;
};

/// Scalars that a gradient step can move; packed or quantised integers in a model are left alone.
template <class T>
concept Trained = Real<T> && !std::integral<T>;
/// The tensors that one can move, its decay too: those of such scalars, but no buffer, and nothing that is shared.
template <class Field>
concept TrainedField = Trained<typename Field::Scalar> && !is_buffer<Field> && !is_shared_tensor<Field>;

namespace detail {
[[noreturn, gnu::cold, gnu::noinline]] inline void refuse_like(std::string_view what, std::string_view path,
                                                               std::span<const Index> got,
                                                               std::span<const Index> wanted) {
  refuse_shape(std::string(what) + " of " + std::string(path), got, wanted);
}

/// Throws ShapeError «AdamW::step: gradient of up.weight has shape [2, 3], expected [3, 2]».
template <class Got, class Wanted>
void expect_like(const Got& got, const Wanted& wanted, std::string_view what, std::string_view path) {
  if (got.shape() != wanted.shape()) refuse_like(what, path, got.shape(), wanted.shape());
}

/// One update counter, as a tensor so that it travels with the moments; a double counts exactly to 2^53.
inline Tensor<double, 1> step_counter() { return Tensor<double, 1>(Shape<1>{1}); }
}  // namespace detail

}  // namespace gatefold
