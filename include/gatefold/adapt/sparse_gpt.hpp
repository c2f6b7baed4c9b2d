#pragma once
#include "gatefold/adapt/pruners.hpp"
#include "gatefold/train/blocks.hpp"

namespace gatefold {

namespace detail {
/// h = U⁻¹ U⁻ᵀ becomes the upper triangle of U, so that h⁻¹ = Uᵀ U; what is below stays. 2 K³ / 3 flops. Returns the
/// first input, from the last on, whose row depends on those behind it, or -1. // h [K, K]
inline Index invert_to_factor(Rows<double> h, Context& ctx) {
  const Index size = h.extent(0);
  constexpr Index kRows = 16, kColumns = 64;
  // h = R Rᵀ with R upper: from the last column to the first.
  for (Index j = size; j-- > 0;) {
    double* const row = h[j].data();
    const double left = row[j] - sum_of_squares(row, j + 1, size);
    if (!(left > 1e-13 * row[j])) return j;
    row[j] = std::sqrt(left);
    ctx.parallel_for((j + kRows - 1) / kRows, [&](Index first, Index last, Index) {
      for (Index i = first * kRows; i < std::min(j, last * kRows); ++i) {
        double* const other = h[i].data();
        other[j] = (other[j] - sum_in_lanes(j + 1, size, [&](Index k) { return other[k] * row[k]; })) / row[j];
      }
    });
  }
  // U = R⁻¹, each worker some columns of it, from the last row to the first. R stays until all are done.
  Tensor<double, 2> inverse({size, size});
  ctx.parallel_for((size + kColumns - 1) / kColumns, [&](Index first, Index last, Index) {
    for (Index block = first; block < last; ++block) {
      const Index begin = block * kColumns, end = std::min(size, begin + kColumns);
      for (Index i = end; i-- > 0;) {
        double sum[kColumns] = {};
        for (Index k = i + 1; k < end; ++k) {
          const double factor = h(i, k);
          const double* const from = inverse.view()[k].data() + begin;
          for (Index c = 0; c < end - begin; ++c) sum[c] += factor * from[c];
        }
        double* const to = inverse.view()[i].data() + begin;
        for (Index c = 0; c < end - begin; ++c) to[c] = ((i == begin + c ? 1.0 : 0.0) - sum[c]) / h(i, i);
      }
    }
  });
  for (Index i = 0; i < size; ++i) std::copy(&inverse.view()(i, i), inverse.view()[i].data() + size, &h(i, i));
  return -1;
}
}  // namespace detail

/// Removes the weights whose loss the others can best make good, w² / U_kk², and changes these so that they do, input
/// by input (Frantar & Alistarh 2023, arXiv 2301.00774). A share counts among the outputs of a block of inputs
/// (Scope::tensor) or of one of them (Scope::row). Weights of an input that was always 0 become 0. N K² + 2 K³ / 3
/// flops in double, on K² numbers.
struct SparseGpt {
  double damping = 0.01;  ///< Of the mean of the diagonal, added to it.
  Index block = 128;      ///< Inputs that a share counts among, a multiple of M where it is N of M.

  static constexpr std::optional<CalibrationDetail> kSees = CalibrationDetail::gram;

  /// Throws OptionError for a weight that is no finite number, and where the inputs depend on each other and damping is
  /// 0.
  Tensor<std::uint8_t, 2> prune(Tensor<float, 2>& weight, const WeightStatistics& seen, const Sparsity& sparsity,
                                Context& ctx) const {
    check(sparsity);
    expect_rate("SparseGpt", "damping", damping);
    expect_size("SparseGpt", "block", block);
    if (seen.rows == 0) return Magnitude().prune(weight, seen, sparsity, ctx);
    const Index rows = weight.extent(0), columns = weight.extent(1);
    expect_shape(seen.gram.view(), {columns, columns}, "SparseGpt: the Gram matrix of " + seen.path);
    for (const float w : weight.flat())
      expect_option(std::isfinite(w), "SparseGpt: a weight of " + seen.path + " is no finite number");
    Tensor<double, 2> factor({columns, columns}), w({rows, columns});
    std::ranges::copy(weight.flat(), w.flat().begin());
    const double scale = 2 / static_cast<double>(seen.rows);
    std::ranges::transform(seen.gram.flat(), factor.flat().begin(), [&](double h) { return scale * h; });
    double diagonal = 0;
    for (Index k = 0; k < columns; ++k) {
      double& own = factor.view()(k, k);
      if (own == 0) {
        own = 1;
        for (Index n = 0; n < rows; ++n) w.view()(n, k) = 0;
      }
      diagonal += own;
    }
    for (Index k = 0; k < columns; ++k) factor.view()(k, k) += damping * diagonal / static_cast<double>(columns);
    if (const Index at = detail::invert_to_factor(factor, ctx); at >= 0)
      throw OptionError("SparseGpt: input " + std::to_string(at) + " of " + seen.path +
                        " depends on those behind it (" + std::to_string(seen.rows) + " rows of " +
                        std::to_string(columns) + " inputs were seen), expected a damping above " +
                        std::to_string(damping) + " or more rows");

    Tensor<std::uint8_t, 2> mask(weight.shape());
    std::ranges::fill(mask.flat(), std::uint8_t{1});
    const auto* const groups = std::get_if<NOfM>(&sparsity);
    const Index step = groups ? std::max(groups->of, block - block % groups->of) : block;
    for (Index begin = 0; begin < columns; begin += step) {
      const Index end = std::min(columns, begin + step);
      if (!groups) choose(w, factor, {begin, end}, std::get<Unstructured>(sparsity), mask);
      ctx.parallel_for(rows, [&](Index first, Index last, Index) {
        Scratch scratch{std::vector<double>(static_cast<std::size_t>(end - begin)), {}, {}};
        for (Index n = first; n < last; ++n)
          reconstruct(w.view()[n].data(), mask.view()[n].data(), factor, {begin, end}, groups, scratch);
      });
    }
    std::ranges::transform(w.flat(), weight.flat().begin(), [](double v) { return static_cast<float>(v); });
    return mask;
  }

 private:
  struct Range {
    Index begin, end;
  };
  struct Scratch {
    std::vector<double> error, score, sorted;
  };

  static double score(double w, double u) { return w * w / (u * u); }

  static void choose(const Tensor<double, 2>& w, const Tensor<double, 2>& factor, const Range& range,
                     const Unstructured& some, Tensor<std::uint8_t, 2>& mask) {
    Tensor<double, 2> scores({w.extent(0), range.end - range.begin});
    for (Index n = 0; n < w.extent(0); ++n)
      for (Index k = range.begin; k < range.end; ++k)
        scores.view()(n, k - range.begin) = score(w.view()(n, k), factor.view()(k, k));
    const auto kept = keep_highest(scores, some);
    for (Index n = 0; n < w.extent(0); ++n)
      std::copy_n(kept.view()[n].data(), kept.extent(1), mask.view()[n].data() + range.begin);
  }

  /// The inputs of a block, of one output: what is removed goes into those behind it.
  static void reconstruct(double* w, std::uint8_t* mask, const Tensor<double, 2>& factor, const Range& range,
                          const NOfM* groups, Scratch& scratch) {
    const Index columns = factor.extent(1);
    for (Index k = range.begin; k < range.end; ++k) {
      if (groups && (k - range.begin) % groups->of == 0) {
        const Index size = std::min(groups->of, range.end - k);
        scratch.score.clear();
        for (Index j = k; j < k + size; ++j) scratch.score.push_back(score(w[j], factor.view()(j, j)));
        detail::remove_lowest(scratch.score, std::max<Index>(0, size - groups->kept),
                              {mask + k, static_cast<std::size_t>(size)}, scratch.sorted);
      }
      const double* const u = factor.view()[k].data();
      const double error = mask[k] ? 0 : w[k] / u[k];
      scratch.error[static_cast<std::size_t>(k - range.begin)] = error;
      if (error != 0)
        for (Index j = k + 1; j < range.end; ++j) w[j] -= error * u[j];
      if (!mask[k]) w[k] = 0;
    }
    for (Index k = range.begin; k < range.end; ++k) {
      const double error = scratch.error[static_cast<std::size_t>(k - range.begin)];
      const double* const u = factor.view()[k].data();
      for (Index j = range.end; error != 0 && j < columns; ++j) w[j] -= error * u[j];
    }
  }
};
static_assert(Pruner<SparseGpt> && !ScoringPruner<SparseGpt>);

}  // namespace gatefold
