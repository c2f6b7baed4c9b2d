#pragma once
#include "gatefold/simd/simd.hpp"
#include "gatefold/train/blocks.hpp"
#include "gatefold/train/optimizer.hpp"

namespace gatefold {

struct WeightAverageOptions {
  double decay = 0.999;  ///< In [0, 1): 1 / (1 - decay) updates are remembered, more or less.
};

/// The exponential moving average of the weights of a training run, which is the better model while the learning rate
/// is high (Polyak & Juditsky 1992):
///   mean = d mean + (1 - d) w,  d = min(decay, (1 + t) / (10 + t)) of the t updates before
/// The ramp forgets the first weights soon, as TensorFlow's does. What no gradient moves (buffers, integers) is taken
/// over as it is. Like an optimiser it is a Module over its state. One pass over memory, 12 bytes per float; bitwise
/// the same for any number of threads.
template <class M>
struct WeightAverage {
  static_assert(Module<M>, "WeightAverage averages the parameters of a module");
  using Options = WeightAverageOptions;

  Options options;
  M mean;
  Tensor<double, 1> steps = detail::step_counter();  // [1]

  /// Begins at the model as it is. Throws OptionError for a decay out of its range.
  explicit WeightAverage(const M& model, Options o = {}) : options(o), mean(model) {
    expect_option(0 <= options.decay && options.decay < 1, "WeightAverage", "decay", options.decay,
                  "a number in [0, 1)");
  }

  static void visit(auto& v, auto&... self) {
    v("mean", self.mean...);
    v("steps", self.steps...);
  }

  /// Once after each step of the optimiser. Throws ShapeError, before anything changes, for a model of other shapes.
  void update(const M& model, Context& ctx) {
    for_each_param([](std::string_view path, const auto& w,
                      const auto& m) { detail::expect_like(w, m, "WeightAverage::update: the model's value", path); },
                   model, mean);
    const double t = steps.data()[0]++, decay = std::min(options.decay, (1 + t) / (10 + t));
    for_each_param(
        [&](std::string_view, auto& m, const auto& w) {
          using Field = std::remove_cvref_t<decltype(w)>;
          using T = typename Field::Scalar;
          if constexpr (TrainedField<Field>) {
            const T rest = T(1 - decay);
            for_each_block({.count = m.size()}, ctx.parallel_for, [&](Index, Index begin, Index end) {
              T* const to = m.data() + begin;
              kernels::simd::transform<T>(
                  ctx.isa, end - begin, [rest](auto a, auto b) { return a + rest * (b - a); }, to, to,
                  w.data() + begin);
            });
          } else if constexpr (is_shared_tensor<Field>) {
            m = w;
          } else {
            std::ranges::copy(w.flat(), m.flat().begin());
          }
        },
        mean, model);
  }
};

}  // namespace gatefold
