#pragma once
#include <optional>

#include "gatefold/adapt/mask.hpp"
#include "gatefold/nn/calibration.hpp"

namespace gatefold {

/// Decides which inputs of a weight // [N, K] stay, from what was seen of them in calibration passes, and may change
/// those that do; what is removed the caller sets to 0. kSees is what it wants to have been seen: nothing, or so much.
/// A weight of which no row was seen is pruned by magnitude.
template <class P>
concept Pruner = requires(const P& pruner, Tensor<float, 2>& weight, const WeightStatistics& seen,
                          const Sparsity& sparsity, Context& ctx) {
  { P::kSees } -> std::convertible_to<std::optional<CalibrationDetail>>;
  { pruner.prune(weight, seen, sparsity, ctx) } -> std::same_as<Tensor<std::uint8_t, 2>>;
};

/// One that scores every weight by itself, so that weights of different layers can be compared (Scope::model).
template <class P>
concept ScoringPruner = Pruner<P> &&
    requires(const P& pruner, const Tensor<float, 2>& weight, const WeightStatistics& seen) {
  { pruner.score(weight, seen) } -> std::same_as<Tensor<double, 2>>;
};

/// |w|.
struct Magnitude {
  static constexpr std::optional<CalibrationDetail> kSees = std::nullopt;

  Tensor<double, 2> score(const Tensor<float, 2>& weight, const WeightStatistics&) const {
    Tensor<double, 2> score(weight.shape());
    std::ranges::transform(weight.flat(), score.flat().begin(), [](float w) { return std::abs(double{w}); });
    return score;
  }
  Tensor<std::uint8_t, 2> prune(Tensor<float, 2>& weight, const WeightStatistics& seen, const Sparsity& sparsity,
                                Context&) const {
    return keep_highest(score(weight, seen), sparsity);
  }
};
static_assert(ScoringPruner<Magnitude>);

/// |w| times the root of the mean square of its input (Sun et al. 2023, arXiv 2306.11695). Where an input was always 0,
/// its weights go first.
struct Wanda {
  static constexpr std::optional<CalibrationDetail> kSees = CalibrationDetail::columns;

  Tensor<double, 2> score(const Tensor<float, 2>& weight, const WeightStatistics& seen) const {
    auto score = Magnitude().score(weight, seen);
    if (seen.rows == 0) return score;
    std::vector<double> root(static_cast<std::size_t>(weight.extent(1)));
    for (std::size_t k = 0; k < root.size(); ++k) root[k] = std::sqrt(seen.mean_square(static_cast<Index>(k)));
    for (std::size_t i = 0; i < score.flat().size(); ++i) score.flat()[i] *= root[i % root.size()];
    return score;
  }
  Tensor<std::uint8_t, 2> prune(Tensor<float, 2>& weight, const WeightStatistics& seen, const Sparsity& sparsity,
                                Context&) const {
    return keep_highest(score(weight, seen), sparsity);
  }
};
static_assert(ScoringPruner<Wanda>);

}  // namespace gatefold
