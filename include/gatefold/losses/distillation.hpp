#pragma once
#include "gatefold/kernels/dispatch.hpp"
#include "gatefold/losses/similarity.hpp"

namespace gatefold {

/// How far embeddings have turned away from a teacher's, each tower by itself: the mean of 1 - cosine. (RESSA's repair
/// of each tower alone.)
struct EmbeddingDistillation {
  template <Real T>
  struct Saved {
    Rows<const T> z, teacher;           // [B, P]
    Rows<const Wide<T>> dot_and_norms;  // [B, 3] z t, |z|, |t|
    T loss{};
  };

  /// Throws ShapeError for other shapes, or none. A row of zeros counts 1 and has no gradient. // z, teacher [B, P]
  template <Real T>
  static Saved<T> forward(Rows<const T> z, Rows<const T> teacher, Context& ctx) {
    using std::sqrt;
    using W = Wide<T>;
    expect_shape(teacher, z.shape(), "EmbeddingDistillation::forward: teacher");
    if (z.extent(0) < 1) throw ShapeError("EmbeddingDistillation::forward: z has no rows, expected at least one");
    auto each = ctx.workspace.take<W>(z.extent(0), 3);
    kernels::for_each_row(z.extent(0), z.extent(1), ctx, [&](Index b) {
      W dot(0.0), own(0.0), other(0.0);
      for (Index p = 0; p < z.extent(1); ++p) {
        const W a(z(b, p)), t(teacher(b, p));
        dot += a * t, own += a * a, other += t * t;
      }
      each(b, 0) = dot;
      each(b, 1) = own > W(0.0) ? W(sqrt(own)) : own;  // the root of 0 has no slope
      each(b, 2) = other > W(0.0) ? W(sqrt(other)) : other;
    });
    W loss(0.0);
    for (Index b = 0; b < z.extent(0); ++b) loss += W(1.0) - cosine<T>(each, b);
    return {z, teacher, each, static_cast<T>(loss / W(static_cast<double>(z.extent(0))))};
  }

  /// dz = dloss / B (z cos / |z|² - t / (|z| |t|)), overwritten. // [B, P]
  template <Real T>
  static void backward(const Saved<T>& saved, std::type_identity_t<T> dloss, std::type_identity_t<Rows<T>> dz,
                       Context& ctx) {
    using W = Wide<T>;
    expect_shape(dz, saved.z.shape(), "EmbeddingDistillation::backward: dz");
    const W factor = W(dloss) / W(static_cast<double>(dz.extent(0)));
    kernels::for_each_row(dz.extent(0), dz.extent(1), ctx, [&](Index b) {
      const auto& each = saved.dot_and_norms;
      const bool any = each(b, 1) > W(0.0) && each(b, 2) > W(0.0);
      const W along = any ? cosine<T>(each, b) / (each(b, 1) * each(b, 1)) : W(0.0);
      const W towards = any ? W(1.0) / (each(b, 1) * each(b, 2)) : W(0.0);
      for (Index p = 0; p < dz.extent(1); ++p)
        dz(b, p) = static_cast<T>(factor * (W(saved.z(b, p)) * along - W(saved.teacher(b, p)) * towards));
    });
  }

 private:
  template <Real T>
  static Wide<T> cosine(Rows<const Wide<T>> each, Index b) {
    const auto norms = each(b, 1) * each(b, 2);
    return norms > Wide<T>(0.0) ? Wide<T>(each(b, 0) / norms) : Wide<T>(0.0);
  }
};

/// How far the picture that two sets of embeddings give of each other has changed, across the towers: with A = scale *
/// cosine similarity // [B, B'], the mean over rows of KL(softmax of the teacher's row || softmax of the student's),
/// the same of columns, and of both the mean. (RESSA, arXiv 2404.02424, whose logits are those of a language model.)
struct SimilarityDistillation {
  template <Real T>
  struct Saved {
    CosineSimilarity::Saved<T> pairs;
    Rows<const T> d_similarity;  // [B, B']
    T loss{};
  };

  /// z_a, teacher_a [B, P], z_b, teacher_b [B', P]; B' >= B. 4 B B' (P + 4) flops. Throws ShapeError, OptionError for a
  /// scale that is not above 0.
  template <Real T>
  static Saved<T> forward(Rows<const T> z_a, Rows<const T> z_b, Rows<const T> teacher_a, Rows<const T> teacher_b,
                          double scale, Context& ctx) {
    using W = Wide<T>;
    expect_option(scale > 0 && std::isfinite(scale), "SimilarityDistillation", "scale", scale,
                  "a finite number above 0");
    expect_shape(teacher_a, z_a.shape(), "SimilarityDistillation::forward: teacher_a");
    expect_shape(teacher_b, z_b.shape(), "SimilarityDistillation::forward: teacher_b");
    Saved<T> saved{.pairs = CosineSimilarity::forward<T>(z_a, z_b, ctx), .d_similarity = {}};
    const Index rows = z_a.extent(0), columns = z_b.extent(0);
    auto d = ctx.workspace.take<T>(rows, columns);
    const auto scope = ctx.workspace.scope();
    const Rows<const T> wanted = CosineSimilarity::forward<T>(teacher_a, teacher_b, ctx).similarity;
    const Rows<const T> given = saved.pairs.similarity;
    auto loss = ctx.workspace.take<W>(rows + columns);
    const Run<T> along_rows{given, wanted, scale, rows}, along_columns{given, wanted, scale, columns};
    kernels::for_each_row(rows, columns, ctx, [&](Index i) {
      loss[i] = along_rows.divergence(
          columns, [i](Index j) { return std::pair(i, j); }, [&](Index j, const T& g) { d(i, j) = g; });
    });
    kernels::for_each_row(columns, rows, ctx, [&](Index j) {
      loss[rows + j] = along_columns.divergence(
          rows, [j](Index i) { return std::pair(i, j); }, [&](Index i, const T& g) { d(i, j) = d(i, j) + g; });
    });
    W sum(0.0);
    for (Index i = 0; i < rows; ++i) sum += loss[i] / W(2.0 * static_cast<double>(rows));
    for (Index j = 0; j < columns; ++j) sum += loss[rows + j] / W(2.0 * static_cast<double>(columns));
    saved.loss = static_cast<T>(sum);
    saved.d_similarity = d;
    return saved;
  }

  /// Overwrites dz_a // [B, P] and dz_b // [B', P].
  template <Real T>
  static void backward(const Saved<T>& saved, std::type_identity_t<T> dloss, std::type_identity_t<Rows<T>> dz_a,
                       std::type_identity_t<Rows<T>> dz_b, Context& ctx) {
    const auto scope = ctx.workspace.scope();
    auto d = ctx.workspace.take<T>(saved.d_similarity.extent(0), saved.d_similarity.extent(1));
    for (Index i = 0; i < d.size(); ++i) d.data()[i] = dloss * saved.d_similarity.data()[i];
    CosineSimilarity::backward<T>(saved.pairs, d, dz_a, dz_b, ctx);
  }

 private:
  template <Real T>
  struct Run {
    Rows<const T> given, wanted;
    double scale;
    Index runs;

    /// KL over the `count` pairs that `at` gives; take(k, its gradient by the cosine).
    template <class At, class Take>
    Wide<T> divergence(Index count, At&& at, Take&& take) const {
      using std::exp, std::log;
      using W = Wide<T>;
      const auto logit = [&](Rows<const T> s, Index k) {
        const auto [i, j] = at(k);
        return W(scale) * W(s(i, j));
      };
      W top_given = logit(given, 0), top_wanted = logit(wanted, 0);
      for (Index k = 1; k < count; ++k) {
        if (top_given < logit(given, k)) top_given = logit(given, k);
        if (top_wanted < logit(wanted, k)) top_wanted = logit(wanted, k);
      }
      W sum_given(0.0), sum_wanted(0.0);
      for (Index k = 0; k < count; ++k) {
        sum_given += W(exp(logit(given, k) - top_given));
        sum_wanted += W(exp(logit(wanted, k) - top_wanted));
      }
      const W log_given = log(sum_given) + top_given, log_wanted = log(sum_wanted) + top_wanted;
      W all(0.0);
      for (Index k = 0; k < count; ++k) {
        const W q = logit(given, k) - log_given, p = logit(wanted, k) - log_wanted;
        all += W(exp(p)) * (p - q);
        take(k, static_cast<T>(W(scale / (2.0 * static_cast<double>(runs))) * (W(exp(q)) - W(exp(p)))));
      }
      return all;
    }
  };
};

}  // namespace gatefold
