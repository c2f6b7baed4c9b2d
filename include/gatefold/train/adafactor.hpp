#pragma once
#include <cmath>
#include <optional>
#include <vector>

#include "gatefold/module/ops.hpp"
#include "gatefold/train/blocks.hpp"
#include "gatefold/train/freeze.hpp"
#include "gatefold/train/optimizer.hpp"

namespace gatefold {

struct AdafactorOptions {
  std::optional<double> lr{};     ///< None: the paper's min(1e-2, 1 / sqrt(t)).
  bool relative = true;           ///< Steps in units of the tensor's own root mean square, at least epsilon2.
  double beta1 = 0.9;             ///< Of the updates, as V-MoE trains; 0 keeps no momentum, as in the paper.
  double decay_exponent = 0.8;    ///< The second moment decays by 1 - t^-0.8, ...
  double max_decay = 1;           ///< ... at most by this (big_vision: 0.999).
  double clip_threshold = 1;      ///< The largest root mean square of an update, before the learning rate.
  double epsilon1 = 1e-30;        ///< Added to the squared gradient.
  double epsilon2 = 1e-3;         ///< The least scale of a tensor for relative steps.
  Index min_dim_to_factor = 128;  ///< Both of the last two axes must have this much, else the moment is kept whole.
  double weight_decay = 0;        ///< Decoupled: w loses lr * weight_decay of itself in each step.
  DecayRule decays = decay_matrices;
  Trainable trainable{};
};

/// The second moment of one parameter, seen as `matrices` matrices of its last two axes. In double: it is small next to
/// the parameter where it is factored, and squares of 1e-15 have to fit.
struct FactoredMoment {
  std::string path;
  Tensor<double, 2> row, column;  // [matrices, rows], [matrices, columns]: means of g^2 along the other axis
  Tensor<double, 1> whole;        // [size], where not factored

  bool factored() const { return row.size() > 0; }

  static void visit(auto& v, auto&... self) {
    const auto& first = std::get<0>(std::tie(self...));
    if (first.factored()) {
      v("row", self.row...);
      v("column", self.column...);
    } else {
      v("whole", self.whole...);
    }
  }
};

/// One moment for each parameter, in the order of the fields and under the parameter's path.
struct FactoredMoments {
  std::vector<FactoredMoment> each;

  static void visit(auto& v, auto&... self) {
    const auto& first = std::get<0>(std::tie(self...)).each;
    if (((self.each.size() != first.size()) || ...))
      throw std::invalid_argument("FactoredMoments: the optimisers visited together are of different models");
    for (std::size_t i = 0; i < first.size(); ++i) v(first[i].path, self.each[i]...);
  }
};

/// Adafactor (Shazeer & Stern 2018, algorithms 4 to 6): the second moment of a matrix is the outer product of its row
/// and column means, so the state of an [R, C] weight is R + C numbers (and the momentum, if any). Only the last two
/// axes are factored, never across experts or other leading axes. The momentum averages whole steps, learning rate
/// included, as in T5 and optax. Bitwise the same for any number of threads.
template <class M>
struct Adafactor {
  static_assert(Module<M>, "Adafactor moves the parameters of a module");
  using Options = AdafactorOptions;

  Options options;
  std::optional<M> mean;
  FactoredMoments variance;
  Tensor<double, 1> steps = detail::step_counter();  // [1]

  /// Throws OptionError for options outside their ranges and for a freeze pattern that matches nothing.
  explicit Adafactor(const M& model, Options o = {}) : options(std::move(o)) {
    const std::string_view who = "Adafactor", above_0 = "a number above 0";
    if (options.lr) expect_rate(who, "lr", *options.lr);
    expect_option(0 <= options.beta1 && options.beta1 < 1, who, "beta1", options.beta1, "a number in [0, 1)");
    expect_option(options.decay_exponent > 0, who, "decay_exponent", options.decay_exponent, above_0);
    expect_option(0 < options.max_decay && options.max_decay <= 1, who, "max_decay", options.max_decay,
                  "a number in (0, 1]");
    expect_option(options.clip_threshold > 0, who, "clip_threshold", options.clip_threshold, above_0);
    expect_option(options.epsilon1 > 0, who, "epsilon1", options.epsilon1, above_0);
    expect_rate(who, "epsilon2", options.epsilon2);
    expect_size(who, "min_dim_to_factor", options.min_dim_to_factor);
    expect_rate(who, "weight_decay", options.weight_decay);
    options.trainable.expect_known(model);
    if (options.beta1 > 0) mean = zeros_like(model);
    for_each_param([&](std::string_view path, const auto& t) { variance.each.push_back(moment_of(path, t)); }, model);
  }

  static void visit(auto& v, auto&... self) {
    v("mean", self.mean...);
    v("variance", self.variance...);
    v("steps", self.steps...);
  }

  Index step_count() const { return static_cast<Index>(steps.data()[0]); }

  /// Throws, before anything changes, ShapeError if the gradient or the model has other shapes than the model the
  /// optimiser was made for, OptionError for a rate that is negative or not finite.
  void step(M& model, const M& grad, const StepOptions& step_options, Context& ctx) {
    expect_shapes(model, grad);
    const double t = steps.data()[0] + 1;
    const double lr = step_options.learning_rate.value_or(options.lr.value_or(std::min(1e-2, 1 / std::sqrt(t))));
    detail::check_step(lr, step_options.gradient_scale, "Adafactor::step");
    steps.data()[0] = t;
    const double decay = std::min(options.max_decay, 1 - std::pow(t, -options.decay_exponent));
    const Pass pass{lr, decay, step_options.gradient_scale};
    auto moment = variance.each.begin();
    const auto update = [&](std::string_view path, auto& w, const auto& g, auto&... m) {
      auto& moment_of_w = *moment++;
      if constexpr (TrainedField<std::remove_cvref_t<decltype(w)>>) {
        if (w.size() == 0 || !options.trainable(path)) return;
        if (moment_of_w.factored())
          update_factored(pass, path, moment_of_w, ctx, w, g, m...);
        else
          update_whole(pass, path, moment_of_w, ctx, w, g, m...);
      }
    };
    if (mean)
      for_each_param(update, model, grad, *mean);
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

 private:
  struct Pass {
    double lr, decay, gradient_scale;
  };
  /// w = keep w - step, where step = rate u, or its running mean.
  struct Rates {
    double rate, keep;
  };

  template <class Field>
  static constexpr bool kHasMoment = Trained<typename Field::Scalar> && !is_shared_tensor<Field>;

  template <class Field>
  FactoredMoment moment_of(std::string_view path, const Field& t) const {
    constexpr std::size_t Rank = Field::kRank;
    FactoredMoment moment{std::string(path), {}, {}, {}};
    if constexpr (Rank >= 2 && kHasMoment<Field>) {
      const Index rows = t.extent(Rank - 2), columns = t.extent(Rank - 1);
      if (t.size() > 0 && std::min(rows, columns) >= options.min_dim_to_factor) {
        const Index matrices = t.size() / (rows * columns);
        moment.row = Tensor<double, 2>({matrices, rows});
        moment.column = Tensor<double, 2>({matrices, columns});
        return moment;
      }
    }
    if constexpr (kHasMoment<Field>) moment.whole = Tensor<double, 1>(Shape<1>{t.size()});
    return moment;
  }

  template <class Field>
  static bool fits(const FactoredMoment& moment, const Field& t) {
    constexpr std::size_t Rank = Field::kRank;
    if constexpr (Rank >= 2) {
      if (moment.factored())
        return moment.row.extent(1) == t.extent(Rank - 2) && moment.column.extent(1) == t.extent(Rank - 1) &&
               moment.row.size() * t.extent(Rank - 1) == t.size();
    }
    return moment.whole.size() == (kHasMoment<Field> ? t.size() : 0);
  }

  void expect_shapes(const M& model, const M& grad) const {
    std::size_t i = 0;
    for_each_param(
        [&](std::string_view path, const auto& w, const auto& g) {
          detail::expect_like(g, w, "Adafactor::step: the gradient", path);
          if (i >= variance.each.size() || !fits(variance.each[i], w))
            throw ShapeError("Adafactor::step: " + std::string(path) + " has shape " + to_string(w.shape()) +
                             ", which is not that of the model the optimiser was made for");
          ++i;
        },
        model, grad);
  }

  template <class Field>
  Rates rates(const Pass& pass, std::string_view path, const Field& w, double update_squares, Context& ctx) const {
    const auto size = static_cast<double>(w.size());
    double rate = pass.lr / std::max(1.0, std::sqrt(update_squares / size) / options.clip_threshold);
    if (options.relative) {
      const double squares = sum_over_blocks(
          {.count = w.size()}, ctx, [&](Index begin, Index end) { return sum_of_squares(w.data(), begin, end); });
      rate *= std::max(options.epsilon2, std::sqrt(squares / size));
    }
    const double decay = options.decays(path, Field::kRank) ? options.weight_decay : 0;
    return {rate, 1 - pass.lr * decay};
  }

  /// Elements [begin, end), where update(i) is the i-th element of u.
  template <class T, class Update, class... Mean>
  void apply(const Rates& r, Index begin, Index end, Update&& update, T* w, Mean*... mean_of_w) const {
    const T rate = T(r.rate), keep = T(r.keep);
    [[maybe_unused]] const T beta = T(options.beta1), rest = T(1 - options.beta1);
    for (Index i = begin; i < end; ++i) {
      T step = rate * update(i);
      ((step = mean_of_w[i] = beta * mean_of_w[i] + rest * step), ...);
      w[i] = keep * w[i] - step;
    }
  }

  template <class Field, class... Mean>
  void update_whole(const Pass& pass, std::string_view path, FactoredMoment& moment, Context& ctx, Field& w,
                    const Field& g, Mean&... m) const {
    using T = typename Field::Scalar;
    double* const v = moment.whole.data();
    const T* const gradient = g.data();
    const double squares = sum_over_blocks({.count = w.size()}, ctx, [&](Index begin, Index end) {
      return sum_in_lanes(begin, end, [&](Index i) {
        const double x = pass.gradient_scale * to_double(gradient[i]);
        v[i] = pass.decay * v[i] + (1 - pass.decay) * (x * x + options.epsilon1);
        return x * x / v[i];
      });
    });
    const Rates r = rates(pass, path, w, squares, ctx);
    for_each_block({.count = w.size()}, ctx.parallel_for, [&](Index, Index begin, Index end) {
      const auto u = [&](Index i) { return T(pass.gradient_scale * to_double(gradient[i]) / std::sqrt(v[i])); };
      apply(r, begin, end, u, w.data(), m.data()...);
    });
  }

  template <class Field, class... Mean>
  void update_factored(const Pass& pass, std::string_view path, FactoredMoment& moment, Context& ctx, Field& w,
                       const Field& g, Mean&... m) const {
    using T = typename Field::Scalar;
    const auto scope = ctx.workspace.scope();
    const Index matrices = moment.row.extent(0), rows = moment.row.extent(1), columns = moment.column.extent(1);
    const Blocks row_blocks{.count = matrices * rows, .size = std::max<Index>(1, Blocks::kSize / columns)};
    auto row_factor = ctx.workspace.template take<T>(matrices, rows);
    auto column_factor = ctx.workspace.template take<T>(matrices, columns);

    average_squares(pass, moment, g, row_blocks, ctx);
    for (Index l = 0; l < matrices; ++l) factors<T>(moment, l, row_factor[l], column_factor[l]);

    // u(i, j) = g(i, j) / sqrt(row(i) column(j) / mean(row)); the root is taken per row and per column only.
    const auto update_of_row = [&](Index row) {
      return [g_row = g.data() + row * columns, scale = T(pass.gradient_scale) * row_factor.data()[row],
              factor = column_factor.data() + row / rows * columns](Index j) { return g_row[j] * scale * factor[j]; };
    };
    const double squares = sum_over_blocks(row_blocks, ctx, [&](Index begin, Index end) {
      double sum = 0;
      for (Index row = begin; row < end; ++row) {
        const auto u = update_of_row(row);
        sum += sum_in_lanes(0, columns, [&](Index j) { return to_double(u(j)) * to_double(u(j)); });
      }
      return sum;
    });
    const Rates r = rates(pass, path, w, squares, ctx);
    for_each_block(row_blocks, ctx.parallel_for, [&](Index, Index begin, Index end) {
      for (Index row = begin; row < end; ++row)
        apply(r, 0, columns, update_of_row(row), w.data() + row * columns, (m.data() + row * columns)...);
    });
  }

  /// Moves the means of the squared gradient along rows and columns; each mean is one task's own sum.
  template <class Field>
  void average_squares(const Pass& pass, FactoredMoment& moment, const Field& g, Blocks row_blocks,
                       Context& ctx) const {
    const Index matrices = moment.row.extent(0), rows = moment.row.extent(1), columns = moment.column.extent(1);
    const double scale2 = pass.gradient_scale * pass.gradient_scale;
    const auto average = [&](double& mean_square, double squares, Index count) {
      const double now = scale2 * squares / static_cast<double>(count) + options.epsilon1;
      mean_square = pass.decay * mean_square + (1 - pass.decay) * now;
    };
    for_each_block(row_blocks, ctx.parallel_for, [&](Index, Index begin, Index end) {
      for (Index row = begin; row < end; ++row)
        average(moment.row.data()[row], sum_of_squares(g.data(), row * columns, (row + 1) * columns), columns);
    });
    constexpr Index kColumns = 64;  // 512 bytes of sums in L1, and whole cache lines of each row
    for (Index l = 0; l < matrices; ++l)
      for_each_block({.count = columns, .size = kColumns}, ctx.parallel_for, [&](Index, Index begin, Index end) {
        double sum[kColumns] = {};
        for (Index i = 0; i < rows; ++i) {
          const auto* const g_row = g.data() + (l * rows + i) * columns;
          for (Index j = begin; j < end; ++j) sum[j - begin] += to_double(g_row[j]) * to_double(g_row[j]);
        }
        for (Index j = begin; j < end; ++j) average(moment.column.data()[l * columns + j], sum[j - begin], rows);
      });
  }

  template <class T>
  static void factors(const FactoredMoment& moment, Index l, View<T, 1> row_factor, View<T, 1> column_factor) {
    const auto row = moment.row.view()[l], column = moment.column.view()[l];
    double mean_of_rows = 0;
    for (Index i = 0; i < row.extent(0); ++i) mean_of_rows += row[i] / static_cast<double>(row.extent(0));
    for (Index i = 0; i < row.extent(0); ++i) row_factor[i] = T(std::sqrt(mean_of_rows / row[i]));
    for (Index j = 0; j < column.extent(0); ++j) column_factor[j] = T(1 / std::sqrt(column[j]));
  }
};

}  // namespace gatefold
