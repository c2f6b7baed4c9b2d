#pragma once
#include <numeric>

#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace gatefold {

/// Which experts have the highest scores, in their order; of equal scores the later stay. // [kept]
inline std::vector<Index> best_experts(const std::vector<ExpertStatistics>& experts, Index kept) {
  expect_option(1 <= kept && kept <= std::ssize(experts), "best_experts", "kept", kept,
                "1 to as many as were seen in calibration");
  std::vector<Index> order(experts.size());
  std::iota(order.begin(), order.end(), Index{0});
  std::ranges::stable_sort(order, {}, [&](Index e) { return experts[static_cast<std::size_t>(e)].score(); });
  order.erase(order.begin(), order.end() - kept);
  std::ranges::sort(order);
  return order;
}

/// A mixture of some of its experts, with what its router knows of them: REAP (Lasby et al. 2025, arXiv 2510.13999)
/// with best_experts(calibration.experts_of(&layer), kept). Capacity, which counts seats per expert, stays as it is: a
/// factor gives each of fewer experts more seats. Throws OptionError for a choice that is not ascending, with fewer
/// experts than a token asks for, and for experts in groups.
template <Real T, class E, class Aux>
SparseMlp<TopKRouter<T>, E, Aux> keep_experts(const SparseMlp<TopKRouter<T>, E, Aux>& layer,
                                              const std::vector<Index>& kept) {
  const TopKRouter<T>& from = layer.router;
  const bool ascending = std::ranges::adjacent_find(kept, std::greater_equal<>()) == kept.end();
  expect_option(!kept.empty() && ascending && kept.front() >= 0 && kept.back() < from.num_experts(),
                "keep_experts: the choice is not ascending, expected different ones of 0.." +
                    std::to_string(from.num_experts() - 1));
  expect_option(from.options.groups.count == 1, "keep_experts", "groups.count", from.options.groups.count,
                "1: groups have no room for a choice of experts");
  auto options = from.options;
  options.num_experts = std::ssize(kept);
  TopKRouter<T> router(options);
  std::vector<E> experts;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const Index e = kept[i], to = static_cast<Index>(i);
    std::copy_n(from.weight.view()[e].data(), from.weight.extent(1), router.weight.view()[to].data());
    if (options.bias) router.bias.flat()[i] = from.bias.view()[e];
    if (options.selection_bias) router.selection_bias.flat()[i] = from.selection_bias.view()[e];
    experts.push_back(layer.experts[static_cast<std::size_t>(e)]);
  }
  SparseMlp<TopKRouter<T>, E, Aux> other(std::move(router), std::move(experts), layer.aux);
  other.aux_scale = layer.aux_scale;
  other.weighed = layer.weighed;
  return other;
}

}  // namespace gatefold
