#pragma once
#include <algorithm>
#include <map>
#include <vector>

#include "gatefold/adapt/sparsity.hpp"
#include "gatefold/core/shared_tensor.hpp"
#include "gatefold/module/module.hpp"

namespace gatefold {

/// Which weights stay: 1, or 0 for those that are removed. // [N, K]
using Mask = SharedTensor<std::uint8_t, 2>;

namespace detail {
/// Sets those of `mask` to 0 that have the `count` lowest scores; of equal ones those that come first.
inline void remove_lowest(std::span<const double> score, Index count, std::span<std::uint8_t> mask,
                          std::vector<double>& scratch) {
  if (count == 0) return;
  scratch.assign(score.begin(), score.end());
  std::nth_element(scratch.begin(), scratch.begin() + (count - 1), scratch.end());
  const double last = scratch[static_cast<std::size_t>(count - 1)];
  Index equal = count - std::ranges::count_if(score, [&](double s) { return s < last; });
  for (std::size_t i = 0; i < score.size(); ++i)
    if (score[i] < last || (score[i] == last && equal-- > 0)) mask[i] = 0;
}
}  // namespace detail

/// Keeps the weights with the highest scores, as many as the sparsity says of each row or group (Scope::model: of the
/// tensor); of equal scores the later in order. Throws OptionError for a NaN. // score [N, K]
inline Tensor<std::uint8_t, 2> keep_highest(const Tensor<double, 2>& score, const Sparsity& sparsity) {
  check(sparsity);
  for (const double s : score.flat())
    expect_option(!std::isnan(s), "keep_highest: a score is NaN, expected numbers; is a weight or an activation one?");
  Tensor<std::uint8_t, 2> mask(score.shape());
  std::ranges::fill(mask.flat(), std::uint8_t{1});
  const auto columns = static_cast<std::size_t>(score.extent(1));
  std::vector<double> scratch;
  const auto* const some = std::get_if<Unstructured>(&sparsity);
  if (some && some->scope != Scope::row) {
    detail::remove_lowest(score.flat(), share_of(some->share, score.size()), mask.flat(), scratch);
    return mask;
  }
  for (std::size_t n = 0; n < static_cast<std::size_t>(score.extent(0)); ++n) {
    const auto row = score.flat().subspan(n * columns, columns);
    const auto row_mask = mask.flat().subspan(n * columns, columns);
    if (some) {
      detail::remove_lowest(row, share_of(some->share, score.extent(1)), row_mask, scratch);
      continue;
    }
    const auto& groups = std::get<NOfM>(sparsity);
    const auto of = static_cast<std::size_t>(groups.of);
    for (std::size_t k = 0; k < columns; k += of) {
      const std::size_t size = std::min(of, columns - k);
      detail::remove_lowest(row.subspan(k, size), std::max<Index>(0, static_cast<Index>(size) - groups.kept),
                            row_mask.subspan(k, size), scratch);
    }
  }
  return mask;
}

/// Throws FormatError «PLACE: row 3 has 3 of the 4 inputs from 8 on, expected at most 2» for a weight that is not N of
/// M. // [N, K]
inline void expect_n_of_m(Rows<const float> weight, const NOfM& groups, std::string_view place) {
  for (Index n = 0; n < weight.extent(0); ++n)
    for (Index k = 0; k < weight.extent(1); k += groups.of) {
      const float* const group = weight[n].data() + k;
      const Index size = std::min(groups.of, weight.extent(1) - k);
      const Index kept = std::count_if(group, group + size, [](float w) { return w != 0; });
      if (kept > groups.kept)
        throw FormatError(std::string(place) + ": row " + std::to_string(n) + " has " + std::to_string(kept) +
                          " of the " + std::to_string(size) + " inputs from " + std::to_string(k) +
                          " on, expected at most " + std::to_string(groups.kept));
    }
}

/// The masks of a model's weights, by path. A weight without one is whole.
struct Masks {
  std::map<std::string, Mask, std::less<>> of;

  const Mask* find(std::string_view path) const {
    const auto at = of.find(path);
    return at == of.end() ? nullptr : &at->second;
  }

  /// Removed weights become 0: of a model, or of its gradient where kept weights are trained. Throws ShapeError for a
  /// mask of another shape, OptionError for one whose weight is not there.
  template <Module M>
  void apply(M& model) const {
    std::size_t met = 0;
    for_each_param(
        [&](std::string_view path, auto& tensor) {
          if constexpr (std::is_same_v<std::remove_cvref_t<decltype(tensor)>, Tensor<float, 2>>)
            if (const Mask* const mask = find(path)) {
              ++met;
              expect_shape(mask->view(), tensor.shape(), "Masks::apply: the mask of " + std::string(path));
              for (std::size_t i = 0; i < tensor.flat().size(); ++i)
                if (!mask->flat()[i]) tensor.flat()[i] = 0;
            }
        },
        model);
    expect_option(met == of.size(), "Masks::apply: the model has " + std::to_string(met) + " of the " +
                                        std::to_string(of.size()) + " weights that are masked");
  }
};

}  // namespace gatefold
