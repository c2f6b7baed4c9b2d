#pragma once
#include "gatefold/kernels/softmax.hpp"

namespace gatefold {

/// The softmax cross entropy of classification: the mean of -sum_n q_n log softmax(logits)_n over the rows that have a
/// label, with q = (1 - label_smoothing) one-hot + label_smoothing / N (Szegedy et al. 2016). Rows of a negative label
/// are ignored: they may hold anything and get no gradient. Sums run in a fixed order, whatever the number of threads.
struct CrossEntropy {
  double label_smoothing = 0;  ///< In [0, 1].

  template <Real T>
  struct Saved {
    Rows<const T> log_probs;     // [R, N]
    View<const Index, 1> label;  // [R] the caller's
    T loss{};                    ///< 0 where no row has a label.
    Index num_labels = 0;        ///< Rows that have one.
    Index num_correct = 0;       ///< Of those, the rows whose label has the largest logit, larger than all others.
  };

  /// // logits [R, N], label [R]. Valid while label and the caller's workspace scope live.
  /// Throws ShapeError if the arguments do not fit or a label is no column, OptionError if label_smoothing is outside
  /// [0, 1].
  template <Real T>
  Saved<T> forward(std::type_identity_t<Rows<const T>> logits, View<const Index, 1> label, Context& ctx) const {
    expect_option(label_smoothing >= 0 && label_smoothing <= 1, "CrossEntropy", "label_smoothing", label_smoothing,
                  "a number in [0, 1]");
    const Index rows = logits.extent(0), classes = logits.extent(1);
    expect_shape(label, {rows}, "CrossEntropy::forward: label");
    for (Index i = 0; i < rows; ++i)
      if (label[i] >= classes)
        throw ShapeError("CrossEntropy::forward: label[" + std::to_string(i) + "] is " + std::to_string(label[i]) +
                         ", expected less than " + std::to_string(classes) + ", or a negative one to ignore the row");
    auto log_probs = ctx.workspace.take<T>(rows, classes);
    kernels::log_softmax_rows<T>(logits, log_probs, ctx);
    Saved<T> saved{.log_probs = log_probs, .label = label};
    Wide<T> sum(0.0);
    for (Index i = 0; i < rows; ++i) {
      if (label[i] < 0) continue;
      const T own = log_probs(i, label[i]);
      sum += Wide<T>(T(label_smoothing - 1) * own);
      if (label_smoothing > 0) {  // else 0 times the -inf of a class that is shut
        const T all = kernels::simd::sum<T>(
            ctx.isa, classes, [](auto v) { return v; }, &log_probs(i, 0));
        sum += Wide<T>(T(-label_smoothing / static_cast<double>(classes)) * all);
      }
      bool ahead = true;
      for (Index n = 0; n < classes; ++n) ahead &= n == label[i] || log_probs(i, n) < own;
      saved.num_correct += ahead;
      ++saved.num_labels;
    }
    if (saved.num_labels) saved.loss = static_cast<T>(sum / Wide<T>(static_cast<double>(saved.num_labels)));
    return saved;
  }

  /// dlogits = dloss (softmax - q) / the number of labels; 0 in ignored rows. // dlogits [R, N]
  template <Real T>
  void backward(const Saved<T>& saved, std::type_identity_t<T> dloss, std::type_identity_t<Rows<T>> dlogits,
                Context& ctx) const {
    expect_shape(dlogits, saved.log_probs.shape(), "CrossEntropy::backward: dlogits");
    const Index classes = saved.log_probs.extent(1);
    const T share = T(label_smoothing / static_cast<double>(std::max<Index>(classes, 1)));
    const T factor = dloss * T(1 / static_cast<double>(std::max<Index>(saved.num_labels, 1)));
    kernels::for_each_row(dlogits.extent(0), classes, ctx, [&](Index i) {
      T* const out = dlogits.data() + i * dlogits.stride(0);
      if (saved.label[i] < 0) {
        std::fill_n(out, classes, T(0));
        return;
      }
      kernels::simd::transform<T>(
          ctx.isa, classes, [=](auto v) { return (kernels::exp(v) - share) * factor; }, out, &saved.log_probs(i, 0));
      out[saved.label[i]] = out[saved.label[i]] - T(1 - label_smoothing) * factor;
    });
  }
};

}  // namespace gatefold
