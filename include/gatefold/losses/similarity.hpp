#pragma once
#include <cmath>

#include "gatefold/products/matmul.hpp"

namespace gatefold {

/// Cosine similarities of two sets of embeddings: c_ij = u_i . v_j with u = z_a / (|z_a| + eps), v likewise. An
/// embedding of zeros, as a zero-initialised projection gives, has similarity 0 to all; its gradient is defined as 0,
/// since the limit 1/eps would throw the model away.
struct CosineSimilarity {
  static constexpr double kEpsilon = 1e-8;

  template <Real T>
  struct Saved {
    Rows<const T> u, v;               // [B, P], [B + X, P] of length 1 (or 0)
    View<const T, 1> norm_a, norm_b;  // [B], [B + X] lengths of what came in
    Rows<const T> similarity;         // [B, B + X]
  };

  /// z_a // [B, P], z_b // [B + X, P]; X >= 0 further rows of b have no partner. 2 B (B + X) P flops.
  /// Throws ShapeError if B = 0, if b has fewer rows than a, or another width.
  template <Real T>
  static Saved<T> forward(Rows<const T> z_a, Rows<const T> z_b, Context& ctx) {
    if (z_a.extent(0) < 1) throw ShapeError("contrastive loss: z_a has no rows, expected at least one");
    if (z_b.extent(0) < z_a.extent(0) || z_b.extent(1) != z_a.extent(1))
      throw ShapeError("contrastive loss: z_b has shape " + to_string<2>(z_b.shape()) + ", expected at least " +
                       to_string<2>(z_a.shape()));
    const auto u = ctx.workspace.take<T>(z_a.extent(0), z_a.extent(1));
    const auto v = ctx.workspace.take<T>(z_b.extent(0), z_b.extent(1));
    const auto norm_a = ctx.workspace.take<T>(z_a.extent(0));
    const auto norm_b = ctx.workspace.take<T>(z_b.extent(0));
    const auto similarity = ctx.workspace.take<T>(z_a.extent(0), z_b.extent(0));
    normalize<T>(z_a, u, norm_a);
    normalize<T>(z_b, v, norm_b);
    kernels::matmul<T>(u, v, similarity, ctx);
    return {u, v, norm_a, norm_b, similarity};
  }

  /// Overwrites dz_a // [B, P] and dz_b // [B + X, P] with the gradient; d_similarity // [B, B + X].
  template <Real T>
  static void backward(const Saved<T>& saved, Rows<const T> d_similarity, Rows<T> dz_a, Rows<T> dz_b, Context& ctx) {
    expect_shape(dz_a, saved.u.shape(), "contrastive loss: dz_a");
    expect_shape(dz_b, saved.v.shape(), "contrastive loss: dz_b");
    kernels::matmul_grad_input<T>(d_similarity, saved.v, dz_a, ctx);
    for (Index r = 0; r < dz_b.extent(0); ++r) std::fill_n(dz_b[r].data(), dz_b.extent(1), T(0.0));
    kernels::add_matmul_grad_weight<T>(d_similarity, saved.u, dz_b, ctx);
    through_norm<T>(saved.u, saved.norm_a, dz_a);
    through_norm<T>(saved.v, saved.norm_b, dz_b);
  }

 private:
  template <Real T>
  static void normalize(Rows<const T> z, Rows<T> unit, View<T, 1> norm) {
    using std::sqrt;
    for (Index r = 0; r < z.extent(0); ++r) {
      Wide<T> squares(0.0);
      for (Index i = 0; i < z.extent(1); ++i) squares += Wide<T>(z(r, i)) * Wide<T>(z(r, i));
      // The root of 0 has no slope: a dual number would get NaN from it.
      const Wide<T> length = squares > Wide<T>(0.0) ? Wide<T>(sqrt(squares)) : squares;
      norm[r] = static_cast<T>(length);
      const Wide<T> inverse = Wide<T>(1.0) / (length + Wide<T>(kEpsilon));
      for (Index i = 0; i < z.extent(1); ++i) unit(r, i) = static_cast<T>(Wide<T>(z(r, i)) * inverse);
    }
  }

  /// dz = g / (n + eps) - u (g . u) / n, in place; 0 where n = 0.
  template <Real T>
  static void through_norm(Rows<const T> unit, View<const T, 1> norm, Rows<T> g) {
    for (Index r = 0; r < g.extent(0); ++r) {
      const Wide<T> length(norm[r]);
      if (!(length > Wide<T>(0.0))) {
        std::fill_n(g[r].data(), g.extent(1), T(0.0));
        continue;
      }
      Wide<T> along(0.0);
      for (Index i = 0; i < g.extent(1); ++i) along += Wide<T>(g(r, i)) * Wide<T>(unit(r, i));
      along = along / length;
      const Wide<T> inverse = Wide<T>(1.0) / (length + Wide<T>(kEpsilon));
      for (Index i = 0; i < g.extent(1); ++i)
        g(r, i) = static_cast<T>(Wide<T>(g(r, i)) * inverse - Wide<T>(unit(r, i)) * along);
    }
  }
};

}  // namespace gatefold
