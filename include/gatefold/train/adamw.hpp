#pragma once
#include <cmath>

#include "gatefold/module/ops.hpp"
#include "gatefold/simd/simd.hpp"
#include "gatefold/train/blocks.hpp"
#include "gatefold/train/freeze.hpp"
#include "gatefold/train/optimizer.hpp"

namespace gatefold {

struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  DecayRule decays = decay_matrices;
  Trainable trainable{};
};

/// Adam with decoupled weight decay (Loshchilov & Hutter 2019), step for step as torch.optim.AdamW:
///   mean = beta1 mean + (1 - beta1) g,  variance = beta2 variance + (1 - beta2) g^2
///   w = (1 - lr weight_decay) w - lr / (1 - beta1^t) mean / (sqrt(variance / (1 - beta2^t)) + epsilon)
/// One pass over memory, 28 bytes per float; two more models in size. Bitwise the same for any number of threads.
template <class M>
struct AdamW {
  static_assert(Module<M>, "AdamW moves the parameters of a module");
  using Options = AdamWOptions;

  Options options;
  M mean, variance;
  Tensor<double, 1> steps = detail::step_counter();  // [1]

  /// Throws OptionError for rates outside their ranges and for a freeze pattern that matches nothing.
  explicit AdamW(const M& model, Options o = {})
      : options(std::move(o)), mean(zeros_like(model)), variance(zeros_like(model)) {
    expect_rate("AdamW", "lr", options.lr);
    expect_option(0 <= options.beta1 && options.beta1 < 1, "AdamW", "beta1", options.beta1, "a number in [0, 1)");
    expect_option(0 <= options.beta2 && options.beta2 < 1, "AdamW", "beta2", options.beta2, "a number in [0, 1)");
    expect_rate("AdamW", "epsilon", options.epsilon);
    expect_rate("AdamW", "weight_decay", options.weight_decay);
    options.trainable.expect_known(model);
  }

  static void visit(auto& v, auto&... self) {
    v("mean", self.mean...);
    v("variance", self.variance...);
    v("steps", self.steps...);
  }

  Index step_count() const { return static_cast<Index>(steps.data()[0]); }

  /// Moves the model against its gradient. Throws, before anything changes, ShapeError if one has other shapes than the
  /// model the optimiser was made for, OptionError for a rate that is negative or not finite.
  void step(M& model, const M& grad, const StepOptions& step_options, Context& ctx) {
    step_with(model, grad, step_options, ctx);
  }
  void step(M& model, const M& grad, Context& ctx) { step(model, grad, {}, ctx); }

  /// A step that leaves the gradient at 0, for the next backward to add to: the same numbers as step and set_zero, and
  /// one pass over memory less.
  void step_and_clear(M& model, M& grad, const StepOptions& step_options, Context& ctx) {
    step_with(model, grad, step_options, ctx);
  }

  /// On the calling thread.
  void step(M& model, const M& grad, const StepOptions& step_options = {}) {
    Context ctx;
    ctx.parallel_for = ParallelFor();
    step(model, grad, step_options, ctx);
  }

 private:
  struct Rates {
    double lr, decay, t, gradient_scale;
  };

  /// The constants of the formula, computed in double and rounded once.
  template <class T>
  struct Coefficients {
    T gradient_scale, beta1, rest1, beta2, rest2, keep, rate, root, epsilon;

    Coefficients(const Options& o, const Rates& r)
        : gradient_scale(T(r.gradient_scale)),
          beta1(T(o.beta1)),
          rest1(T(1 - o.beta1)),
          beta2(T(o.beta2)),
          rest2(T(1 - o.beta2)),
          keep(T(1 - r.lr * r.decay)),
          rate(T(r.lr / (1 - std::pow(o.beta1, r.t)))),
          root(T(1 / std::sqrt(1 - std::pow(o.beta2, r.t)))),
          epsilon(T(o.epsilon)) {}
  };

  /// Clears a gradient that is not const.
  template <class G>
  void step_with(M& model, G& grad, const StepOptions& step_options, Context& ctx) {
    expect_shapes(model, grad);
    const double lr = step_options.learning_rate.value_or(options.lr);
    detail::check_step(lr, step_options.gradient_scale, "AdamW::step");
    const double t = steps.data()[0] += 1;
    for_each_param(
        [&](std::string_view path, auto& w, auto& g, auto& m, auto& v) {
          using Field = std::remove_cvref_t<decltype(w)>;
          if constexpr (TrainedField<Field>)
            if (options.trainable(path)) {
              const double decay = options.decays(path, Field::kRank) ? options.weight_decay : 0;
              return update(Rates{lr, decay, t, step_options.gradient_scale}, w.size(), w.data(), g.data(), m.data(),
                            v.data(), ctx);
            }
          if constexpr (!std::is_const_v<G> && !is_shared_tensor<Field>)
            std::ranges::fill(g.flat(), typename Field::Scalar{});
        },
        model, grad, mean, variance);
  }

  void expect_shapes(const M& model, const M& grad) const {
    for_each_param(
        [](std::string_view path, const auto& w, const auto& g, const auto& m) {
          detail::expect_like(w, m, "AdamW::step: the model's value", path);
          detail::expect_like(g, m, "AdamW::step: the gradient", path);
        },
        model, grad, mean);
  }

  /// Clears a gradient that is not const, while its block is in the cache.
  template <class T, class G>
  [[gnu::noinline]] void update(const Rates& rates, Index size, T* weight, G* gradient, T* first, T* second,
                                Context& ctx) const {
    const Coefficients<T> c(options, rates);
    for_each_block({.count = size}, ctx.parallel_for, [&](Index, Index begin, Index end) {
      const std::array moved{weight + begin, first + begin, second + begin};
      kernels::simd::update<T>(
          ctx.isa, end - begin,
          [c](auto w, auto m, auto v, auto g) {
            using std::sqrt;
            const auto scaled = c.gradient_scale * g;
            const auto mean_now = c.beta1 * m + c.rest1 * scaled,
                       variance_now = c.beta2 * v + c.rest2 * scaled * scaled;
            const auto moved_w = c.keep * w - c.rate * mean_now / (c.root * sqrt(variance_now) + c.epsilon);
            return std::array{moved_w, mean_now, variance_now};
          },
          moved, gradient + begin);
      if constexpr (!std::is_const_v<G>) std::fill(gradient + begin, gradient + end, T{});
    });
  }
};

}  // namespace gatefold
