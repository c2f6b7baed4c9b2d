#pragma once
#include <numeric>

#include "gatefold/adapt/pruners.hpp"

namespace gatefold {

/// Swaps weights of an output between removed and kept so that what the removed ones gave on average, eps = sum of w
/// mean(x), gets nearer to 0 (Zhang et al. 2023, «Dynamic Sparse no Training», arXiv 2310.08915). A swap brings back
/// the removed weight with the largest w mean(x) / var(x) of the sign of eps, for the kept one of the lowest Wanda
/// score whose w mean(x) has the other sign or, where it is N of M, of the lowest score in the same group.
struct DsnotOptions {
  Index swaps = 0;           ///< Of an output at most; 0: one for each 100 inputs. The paper's 50 are for 4,096 inputs.
  double threshold = 0.001;  ///< No swap where |eps| is no more than this.
  enum class Sign {
    free,
    kept,  ///< A swap after which eps has the other sign is the end, and not made; always so where it is N of M.
  } sign = Sign::free;
};

template <ScoringPruner From = Wanda>
struct Dsnot {
  DsnotOptions options{};
  From from{};  ///< Whose choice is the first.

  static constexpr std::optional<CalibrationDetail> kSees = CalibrationDetail::columns;

  Tensor<std::uint8_t, 2> prune(Tensor<float, 2>& weight, const WeightStatistics& seen, const Sparsity& sparsity,
                                Context& ctx) const {
    expect_option(options.swaps >= 0, "Dsnot", "swaps", options.swaps, "at least 0");
    expect_rate("Dsnot", "threshold", options.threshold);
    const auto score = from.score(weight, seen), size = Wanda().score(weight, seen);
    auto mask = keep_highest(score, sparsity);
    if (seen.rows == 0) return mask;
    ctx.parallel_for(weight.extent(0), [&](Index begin, Index end, Index) {
      for (Index n = begin; n < end; ++n) refine(weight, seen, {score, size}, n, std::get_if<NOfM>(&sparsity), mask);
    });
    return mask;
  }

 private:
  struct Scores {
    const Tensor<double, 2>&first, &wanda;
  };

  void refine(const Tensor<float, 2>& weight, const WeightStatistics& seen, const Scores& scores, Index n,
              const NOfM* groups, Tensor<std::uint8_t, 2>& mask) const {
    const auto columns = static_cast<std::size_t>(weight.extent(1));
    std::uint8_t* const stays = mask.view()[n].data();
    std::vector<double> given(columns), score(columns), pull(columns);
    std::vector<std::size_t> removed, kept;
    double error = 0;
    for (std::size_t k = 0; k < columns; ++k) {
      const auto at = static_cast<Index>(k);
      given[k] = double{weight.view()(n, at)} * seen.mean(at);
      pull[k] = given[k] / std::max(seen.variance(at), std::numeric_limits<double>::min());
      score[k] = (groups ? scores.first : scores.wanda).view()(n, at);
      (stays[k] ? kept : removed).push_back(k);
      if (!stays[k]) error += given[k];
    }
    std::ranges::stable_sort(removed, {}, [&](std::size_t k) { return pull[k]; });
    std::ranges::stable_sort(kept, {}, [&](std::size_t k) { return score[k]; });
    // Both ends of those to bring back; those to remove, of either sign.
    std::size_t low = 0, high = removed.size();
    std::vector<std::size_t> by_sign[2];
    for (const std::size_t k : kept)
      if (given[k] != 0) by_sign[given[k] > 0].push_back(k);
    std::size_t taken[2] = {};
    std::vector<std::uint8_t> used(columns);
    const bool positive = error > 0;
    const Index most = options.swaps ? options.swaps : std::max<Index>(1, weight.extent(1) / 100);
    for (Index swap = 0; swap < most && std::abs(error) > options.threshold && low < high; ++swap) {
      const bool above = error > 0;
      const std::size_t grow = removed[above ? --high : low++];
      if (!(above ? given[grow] > 0 : given[grow] < 0)) return;  // nothing that would help is left
      std::size_t cut = columns;
      if (groups) {
        const auto of = static_cast<std::size_t>(groups->of), begin = grow / of * of;
        for (const std::size_t k : kept)
          if (k >= begin && k < begin + of && !used[k]) {
            cut = k;
            break;
          }
      } else if (auto& next = taken[!above]; next < by_sign[!above].size()) {
        cut = by_sign[!above][next++];
      }
      if (cut == columns) return;
      const double after = error + given[cut] - given[grow];
      const bool same_sign = positive ? after > 0 : after < 0;
      if ((groups || options.sign == DsnotOptions::Sign::kept) && !same_sign) return;
      used[cut] = 1;
      stays[grow] = 1, stays[cut] = 0;
      error = after;
    }
  }
};
static_assert(Pruner<Dsnot<>>);

}  // namespace gatefold
