#pragma once
#include <optional>

#include "gatefold/module/ops.hpp"
#include "gatefold/simd/simd.hpp"
#include "gatefold/train/blocks.hpp"
#include "gatefold/train/freeze.hpp"
#include "gatefold/train/optimizer.hpp"

namespace gatefold {

struct SgdOptions {
  double lr = 1e-2;
  double momentum = 0;  ///< 0 keeps no velocity.
  double weight_decay = 0;
  DecayRule decays = decay_matrices;
  Trainable trainable{};
};

/// Stochastic gradient descent with heavy-ball momentum (as torch.optim.SGD) and decoupled weight decay:
///   velocity = momentum velocity + g,  w = (1 - lr weight_decay) w - lr velocity
template <class M>
struct Sgd {
  static_assert(Module<M>, "Sgd moves the parameters of a module");
  using Options = SgdOptions;

  Options options;
  std::optional<M> velocity;
  Tensor<double, 1> steps = detail::step_counter();  // [1]

  /// Throws OptionError for rates outside their ranges and for a freeze pattern that matches nothing.
  explicit Sgd(const M& model, Options o = {}) : options(std::move(o)) {
    expect_rate("Sgd", "lr", options.lr);
    expect_option(0 <= options.momentum && options.momentum < 1, "Sgd", "momentum", options.momentum,
                  "a number in [0, 1)");
    expect_rate("Sgd", "weight_decay", options.weight_decay);
    options.trainable.expect_known(model);
    if (options.momentum > 0) velocity = zeros_like(model);
  }

  static void visit(auto& v, auto&... self) {
    v("velocity", self.velocity...);
    v("steps", self.steps...);
  }

  Index step_count() const { return static_cast<Index>(steps.data()[0]); }

  /// Throws, before anything changes, ShapeError if the gradient or the velocity has other shapes than the model,
  /// OptionError for a rate that is negative or not finite.
  void step(M& model, const M& grad, const StepOptions& step_options, Context& ctx) {
    for_each_param([](std::string_view path, const auto& w,
                      const auto& g) { detail::expect_like(g, w, "Sgd::step: the gradient", path); },
                   model, grad);
    if (velocity)
      for_each_param([](std::string_view path, const auto& w,
                        const auto& v) { detail::expect_like(w, v, "Sgd::step: the model's value", path); },
                     model, *velocity);
    const double lr = step_options.learning_rate.value_or(options.lr);
    detail::check_step(lr, step_options.gradient_scale, "Sgd::step");
    steps.data()[0] += 1;
    const auto update = [&](std::string_view path, auto& w, const auto& g, auto&... velocity_of_w) {
      using Field = std::remove_cvref_t<decltype(w)>;
      using T = typename Field::Scalar;
      if constexpr (TrainedField<Field>) {
        if (!options.trainable(path)) return;
        const double decay = options.decays(path, Field::kRank) ? options.weight_decay : 0;
        const T keep = T(1 - lr * decay), scale = T(step_options.gradient_scale), rate = T(lr);
        const T momentum = T(options.momentum);
        for_each_block({.count = w.size()}, ctx.parallel_for, [&](Index, Index begin, Index end) {
          const Index n = end - begin;
          const T* const gradient = g.data() + begin;
          if constexpr (sizeof...(velocity_of_w) == 0) {
            kernels::simd::update<T>(
                ctx.isa, n, [&](auto x, auto d) { return std::array{keep * x - rate * (scale * d)}; },
                std::array{w.data() + begin}, gradient);
          } else {
            kernels::simd::update<T>(
                ctx.isa, n,
                [&](auto x, auto v, auto d) {
                  const auto now = momentum * v + scale * d;
                  return std::array{keep * x - rate * now, now};
                },
                std::array{w.data() + begin, (velocity_of_w.data() + begin)...}, gradient);
          }
        });
      }
    };
    if (velocity)
      for_each_param(update, model, grad, *velocity);
    else
      for_each_param(update, model, grad);
  }
  void step(M& model, const M& grad, Context& ctx) { step(model, grad, {}, ctx); }

  /// On the calling thread.
  void step(M& model, const M& grad, const StepOptions& step_options = {}) {
    Context ctx;
    ctx.parallel_for = ParallelFor();
    step(model, grad, step_options, ctx);
  }
};

}  // namespace gatefold
