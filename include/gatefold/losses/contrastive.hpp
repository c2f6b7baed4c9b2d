#pragma once
#include <algorithm>

#include "gatefold/losses/similarity.hpp"
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// The bidirectional softmax contrastive loss of CLIP and LIMoE (Radford et al. 2021; Mustafa et al. 2022). With
/// A = exp(log_scale) * cosine similarity // [B, B + X]: the mean cross entropy of row i against column i over all
/// B + X columns, and of column j < B against row j over the B rows, averaged. The X further rows of b are negatives
/// only. With label smoothing eps the target is (1 - eps) * one-hot + eps / N, N = B + X and B. Pairs that are no fair
/// negatives (a caption that is also true of another image) can be left out of both softmaxes; N counts what is left.
///
/// Every row meets every other: a NaN embedding makes loss and gradient NaN. Sums run in a fixed order, whatever the
/// number of threads.
struct SoftmaxContrastive {
  double label_smoothing = 0;  ///< In [0, 1].

  template <Real T>
  struct Saved {
    CosineSimilarity::Saved<T> pairs;
    T scale{};                                           // exp(log_scale)
    View<const Wide<T>, 1> row_top, column_top;          // [B] largest of A's rows and first B columns
    View<const Wide<T>, 1> row_log_sum, column_log_sum;  // [B] log sum exp(A - top)
    View<const Index, 1> row_count, column_count;        // [B] pairs in each softmax
    View<const std::uint8_t, 2> left_out;                // [B, B + X] or empty
    T loss{};
    Index correct_a_to_b = 0;  ///< Rows whose partner is nearer than any other row of b.
    Index correct_b_to_a = 0;  ///< The same for the first B rows of b.
  };

  /// z_a // [B, P], z_b // [B + X, P], not normalised; see CosineSimilarity. left_out // [B, B + X]: non-zero where a
  /// pair is no negative; its diagonal is not looked at. The result is valid while left_out and the caller's workspace
  /// scope live. 2 B (B + X) P flops and 2 B (B + X) exponentials.
  /// Throws ShapeError if the arguments do not fit, OptionError if label_smoothing is outside [0, 1].
  template <Real T>
  Saved<T> forward(std::type_identity_t<Rows<const T>> z_a, std::type_identity_t<Rows<const T>> z_b, T log_scale,
                   Context& ctx, View<const std::uint8_t, 2> left_out = {}) const {
    using std::exp;
    using W = Wide<T>;
    if (!(label_smoothing >= 0 && label_smoothing <= 1))
      throw OptionError("SoftmaxContrastive: label_smoothing is " + std::to_string(label_smoothing) +
                        ", expected 0..1");
    const auto pairs = CosineSimilarity::forward<T>(z_a, z_b, ctx);
    const Index batch = pairs.u.extent(0);
    if (left_out.size()) expect_shape(left_out, {batch, pairs.v.extent(0)}, "SoftmaxContrastive::forward: left_out");
    const auto row_top = ctx.workspace.take<W>(batch), column_top = ctx.workspace.take<W>(batch);
    const auto row_log_sum = ctx.workspace.take<W>(batch), column_log_sum = ctx.workspace.take<W>(batch);
    const auto row_count = ctx.workspace.take<Index>(batch), column_count = ctx.workspace.take<Index>(batch);
    Saved<T> saved{.pairs = pairs,
                   .scale = exp(log_scale),
                   .row_top = row_top,
                   .column_top = column_top,
                   .row_log_sum = row_log_sum,
                   .column_log_sum = column_log_sum,
                   .row_count = row_count,
                   .column_count = column_count,
                   .left_out = left_out};

    const auto scope = ctx.workspace.scope();
    const Directions<T> out{.top = {row_top, column_top},
                            .log_sum = {row_log_sum, column_log_sum},
                            .count = {row_count, column_count},
                            .cross_entropy = ctx.workspace.take<W>(2, batch),
                            .correct = ctx.workspace.take<Index>(2, batch)};
    kernels::for_each_row(batch, pairs.v.extent(0), ctx, [&](Index i) { row(saved, i, out); });
    const auto sum = ctx.workspace.take<W>(batch), total = ctx.workspace.take<W>(batch);
    const Index blocks = (batch + kColumns - 1) / kColumns;
    ctx.parallel_for(blocks, [&](Index begin, Index end, Index) {
      columns(saved, {begin * kColumns, std::min(batch, end * kColumns)}, {sum, total}, out);
    });

    W loss(0.0);
    for (Index i = 0; i < batch; ++i) {
      loss += out.cross_entropy(0, i) + out.cross_entropy(1, i);
      saved.correct_a_to_b += out.correct(0, i);
      saved.correct_b_to_a += out.correct(1, i);
    }
    saved.loss = static_cast<T>(loss / W(2.0 * static_cast<double>(batch)));
    return saved;
  }

  /// dA = (row softmax + column softmax - both targets) / 2B, times dloss. Overwrites dz_a and dz_b, adds to
  /// dlog_scale. Twice the flops of forward.
  template <Real T>
  void backward(const Saved<T>& saved, std::type_identity_t<T> dloss, std::type_identity_t<Rows<T>> dz_a,
                std::type_identity_t<Rows<T>> dz_b, std::type_identity_t<T>& dlog_scale, Context& ctx) const {
    using std::exp;
    using W = Wide<T>;
    const auto scope = ctx.workspace.scope();
    const Rows<const T> similarity = saved.pairs.similarity;
    const Index batch = similarity.extent(0), candidates = similarity.extent(1);
    const auto d_similarity = ctx.workspace.take<T>(batch, candidates);
    const auto d_scale = ctx.workspace.take<W>(batch);
    const T factor = dloss * T(0.5 / static_cast<double>(batch));
    const auto share = [&](Index count) { return T(label_smoothing / static_cast<double>(count)); };
    kernels::for_each_row(batch, candidates, ctx, [&](Index i) {
      W sum(0.0);
      for (Index j = 0; j < candidates; ++j) {
        if (is_left_out(saved, i, j)) {
          d_similarity(i, j) = T(0);
          continue;
        }
        const W a = logit(saved, i, j);
        // What a softmax and its target differ by sums to 0, so the scale's gradient may be taken by A - top as well.
        const auto add = [&](const W& below, const W& log_sum, Index count) {
          T d = exp(static_cast<T>(below - log_sum)) - share(count);
          if (j == i) d -= T(1 - label_smoothing);
          sum += W(factor) * W(d) * below;
          return d;
        };
        T d = add(a - saved.row_top[i], saved.row_log_sum[i], saved.row_count[i]);
        if (j < batch) d += add(a - saved.column_top[j], saved.column_log_sum[j], saved.column_count[j]);
        d_similarity(i, j) = d * factor * saved.scale;
      }
      d_scale[i] = sum;
    });
    W sum(0.0);
    for (Index i = 0; i < batch; ++i) sum += d_scale[i];
    dlog_scale += static_cast<T>(sum);
    CosineSimilarity::backward<T>(saved.pairs, d_similarity, dz_a, dz_b, ctx);
  }

 private:
  static constexpr Index kColumns = 64;  // a few cache lines of each row, so that walking down columns is not strided

  template <Real T>
  struct Directions {  // index 0: a to b, 1: b to a
    View<Wide<T>, 1> top[2], log_sum[2];
    View<Index, 1> count[2];
    Rows<Wide<T>> cross_entropy;  // [2, B]
    Rows<Index> correct;          // [2, B]
  };
  template <Real T>
  struct ColumnScratch {
    View<Wide<T>, 1> sum, total;  // [B] of exp(logit - top), of logit - top
  };
  struct Range {
    Index begin, end;
  };

  /// A_ij, whose product is exact for floats: cosines near 1 share most of it, and what they differ by is all that
  /// counts.
  template <Real T>
  static Wide<T> logit(const Saved<T>& saved, Index i, Index j) {
    return Wide<T>(saved.scale) * Wide<T>(saved.pairs.similarity(i, j));
  }

  /// -sum_j q_j log softmax_j = log sum - (1 - eps) (A_own - top) - eps mean(A - top).
  template <class W>
  W cross_entropy(const W& log_sum, const W& own, const W& mean) const {
    return log_sum - W(1 - label_smoothing) * own - W(label_smoothing) * mean;
  }

  template <Real T>
  static bool is_left_out(const Saved<T>& saved, Index i, Index j) {
    return i != j && saved.left_out.size() && saved.left_out(i, j) != 0;
  }

  template <Real T>
  void row(const Saved<T>& saved, Index i, const Directions<T>& out) const {
    using std::exp, std::log;
    using W = Wide<T>;
    const Index candidates = saved.pairs.similarity.extent(1);
    const W own = logit(saved, i, i);
    W top = own, sum(0.0), total(0.0);
    bool ahead = true;
    Index count = 0;
    for (Index j = 0; j < candidates; ++j) {
      if (is_left_out(saved, i, j)) continue;
      ++count;
      const W a = logit(saved, i, j);
      if (top < a) top = a;
      if (j != i && !(a < own)) ahead = false;
    }
    for (Index j = 0; j < candidates; ++j) {
      if (is_left_out(saved, i, j)) continue;
      const W below = logit(saved, i, j) - top;
      sum += W(exp(static_cast<T>(below)));
      total += below;
    }
    out.top[0][i] = top;
    out.log_sum[0][i] = log(sum);
    out.count[0][i] = count;
    out.cross_entropy(0, i) = cross_entropy<W>(log(sum), own - top, total / W(static_cast<double>(count)));
    out.correct(0, i) = ahead;
  }

  /// The same down the columns j of `range`; each column's sums run over the rows in order.
  template <Real T>
  void columns(const Saved<T>& saved, Range range, const ColumnScratch<T>& s, const Directions<T>& out) const {
    using std::exp, std::log;
    using W = Wide<T>;
    const Index batch = saved.pairs.similarity.extent(0);
    const View<W, 1> top = out.top[1];
    for (Index j = range.begin; j < range.end; ++j) {
      top[j] = logit(saved, j, j);
      s.sum[j] = s.total[j] = W(0.0);
      out.correct(1, j) = 1;
      out.count[1][j] = 0;
    }
    for (Index i = 0; i < batch; ++i)
      for (Index j = range.begin; j < range.end; ++j) {
        if (is_left_out(saved, i, j)) continue;
        ++out.count[1][j];
        const W a = logit(saved, i, j);
        if (top[j] < a) top[j] = a;
        if (i != j && !(a < logit(saved, j, j))) out.correct(1, j) = 0;
      }
    for (Index i = 0; i < batch; ++i)
      for (Index j = range.begin; j < range.end; ++j) {
        if (is_left_out(saved, i, j)) continue;
        const W below = logit(saved, i, j) - top[j];
        s.sum[j] += W(exp(static_cast<T>(below)));
        s.total[j] += below;
      }
    for (Index j = range.begin; j < range.end; ++j) {
      out.log_sum[1][j] = log(s.sum[j]);
      out.cross_entropy(1, j) = cross_entropy<W>(log(s.sum[j]), logit(saved, j, j) - top[j],
                                                 s.total[j] / W(static_cast<double>(out.count[1][j])));
    }
  }
};

}  // namespace gatefold
