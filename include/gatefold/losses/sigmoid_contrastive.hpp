#pragma once
#include "gatefold/losses/similarity.hpp"
#include "gatefold/simd/map.hpp"

namespace gatefold {

/// The pairwise sigmoid loss of SigLIP (Zhai et al. 2023): (1 / B) sum_ij softplus(-y_ij A_ij) with y_ij = 1 for
/// partners and -1 for all others, A = exp(log_scale) * cosine similarity + bias // [B, B + X]. The X further rows of b
/// are negatives only. No row needs another's softmax; a NaN embedding still meets every row of the other side.
struct SigmoidContrastive {
  template <Real T>
  struct Saved {
    CosineSimilarity::Saved<T> pairs;
    T scale{}, bias{};  // exp(log_scale)
    T loss{};
  };
  template <Real T>
  struct Params {
    T log_scale{};
    T bias{};
  };

  /// z_a // [B, P], z_b // [B + X, P], not normalised; see CosineSimilarity. The result is valid while the caller's
  /// workspace scope lives. 2 B (B + X) P flops. Throws ShapeError if z_a and z_b do not fit.
  template <Real T>
  Saved<T> forward(std::type_identity_t<Rows<const T>> z_a, std::type_identity_t<Rows<const T>> z_b,
                   const Params<T>& params, Context& ctx) const {
    using std::exp;
    using W = Wide<T>;
    Saved<T> saved{
        .pairs = CosineSimilarity::forward<T>(z_a, z_b, ctx), .scale = exp(params.log_scale), .bias = params.bias};
    const auto scope = ctx.workspace.scope();
    const Rows<const T> c = saved.pairs.similarity;
    const auto row = ctx.workspace.take<W>(c.extent(0));
    kernels::for_each_row(c.extent(0), c.extent(1), ctx, [&](Index i) {
      row[i] = W(0.0);
      for (Index j = 0; j < c.extent(1); ++j) row[i] += W(softplus(wrongness(saved, i, j)));
    });
    W loss(0.0);
    for (Index i = 0; i < c.extent(0); ++i) loss += row[i];
    saved.loss = static_cast<T>(loss / W(static_cast<double>(c.extent(0))));
    return saved;
  }

  /// dA_ij = -y_ij sigmoid(-y_ij A_ij) / B, times dloss. Overwrites dz_a and dz_b, adds to dparams.
  template <Real T>
  void backward(const Saved<T>& saved, std::type_identity_t<T> dloss, std::type_identity_t<Rows<T>> dz_a,
                std::type_identity_t<Rows<T>> dz_b, Params<T>& dparams, Context& ctx) const {
    using W = Wide<T>;
    const auto scope = ctx.workspace.scope();
    const Rows<const T> c = saved.pairs.similarity;
    const Index batch = c.extent(0);
    const auto d_similarity = ctx.workspace.take<T>(batch, c.extent(1));
    const auto d_scale = ctx.workspace.take<W>(batch), d_bias = ctx.workspace.take<W>(batch);
    const T factor = dloss * T(1 / static_cast<double>(batch));
    kernels::for_each_row(batch, c.extent(1), ctx, [&](Index i) {
      d_scale[i] = d_bias[i] = W(0.0);
      for (Index j = 0; j < c.extent(1); ++j) {
        const T slope = factor * sigmoid(wrongness(saved, i, j));
        const T d = i == j ? T(0.0) - slope : slope;
        d_bias[i] += W(d);
        d_scale[i] += W(d) * W(saved.scale * c(i, j));
        d_similarity(i, j) = d * saved.scale;
      }
    });
    W scale_sum(0.0), bias_sum(0.0);
    for (Index i = 0; i < batch; ++i) {
      scale_sum += d_scale[i];
      bias_sum += d_bias[i];
    }
    dparams.log_scale += static_cast<T>(scale_sum);
    dparams.bias += static_cast<T>(bias_sum);
    CosineSimilarity::backward<T>(saved.pairs, d_similarity, dz_a, dz_b, ctx);
  }

 private:
  /// -y_ij A_ij: how far the pair lies on the wrong side. Scale and bias all but cancel, so their sum is taken in Wide.
  template <Real T>
  static T wrongness(const Saved<T>& saved, Index i, Index j) {
    using W = Wide<T>;
    const W a = W(saved.scale) * W(saved.pairs.similarity(i, j)) + W(saved.bias);
    return static_cast<T>(i == j ? W(0.0) - a : a);
  }
  // Both take the exponential of a negative number only, so that neither overflows.
  template <Real T>
  static T softplus(const T& x) {
    using std::exp, std::log1p;
    return x > T(0.0) ? x + log1p(exp(T(0.0) - x)) : log1p(exp(x));
  }
  template <Real T>
  static T sigmoid(const T& x) {
    using std::exp;
    return x > T(0.0) ? T(1.0) / (T(1.0) + exp(T(0.0) - x)) : exp(x) / (T(1.0) + exp(x));
  }
};

}  // namespace gatefold
