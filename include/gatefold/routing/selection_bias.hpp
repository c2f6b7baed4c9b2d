#pragma once
#include <span>

#include "gatefold/routing/routing_report.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace gatefold {

namespace detail {
/// b_e += rate sign(mean(n) - n_e).
template <Real T>
void update_selection_bias(std::span<T> bias, std::span<const double> asked, double rate) {
  expect_rate("update_selection_bias", "rate", rate);
  if (asked.size() != bias.size())
    throw ShapeError("update_selection_bias: asked has shape [" + std::to_string(asked.size()) + "], expected [" +
                     std::to_string(bias.size()) + "]");
  double mean = 0;
  for (const double n : asked) mean += n / static_cast<double>(asked.size());
  for (std::size_t e = 0; e < bias.size(); ++e) {
    const double sign = asked[e] < mean ? 1 : asked[e] > mean ? -1 : 0;
    bias[e] = bias[e] + T(rate * sign);
  }
}
}  // namespace detail

/// Balance without a loss (Wang et al. 2024, arXiv 2408.15664; DeepSeek-V3): after each optimiser step experts that
/// were asked more often than the mean become a little less attractive, the others a little more. `asked` counts the
/// choices of the whole batch, all micro-batches and workers: sums of DispatchPlan::demand. DeepSeek-V3's rate is 1e-3.
/// Throws OptionError for a router without a selection bias, ShapeError unless there is a count for each expert. //
/// asked [E]
template <Real T>
void update_selection_bias(TopKRouter<T>& router, std::span<const double> asked, double rate) {
  expect_option(router.selection_bias.size() > 0,
                "update_selection_bias: the router has no selection bias, expected the option selection_bias");
  detail::update_selection_bias(router.selection_bias.flat(), asked, rate);
}

/// The same for all routers of a model, from the report of the passes of one batch, which counts are enough for:
///   RoutingReport counts(RoutingReport::Detail::counts);
///   ctx.report = &counts;
///   counts.begin_batch();                        // before each micro-batch, so that its counts are added
///   ... forward, backward, optimizer.step(...)
///   update_selection_bias(model, counts, 1e-3);
///   counts.clear();
/// Throws OptionError unless the model has as many selection biases as the report has layers, in their order.
template <Module M>
void update_selection_bias(M& model, const RoutingReport& report, double rate) {
  const auto& layers = report.layers();
  std::size_t biases = 0;
  const auto each_bias = [&](auto&& fn) {
    for_each_param(
        [&](std::string_view path, auto& field) {
          if constexpr (is_buffer<std::remove_cvref_t<decltype(field)>>)
            if (path.ends_with("selection_bias")) fn(field);
        },
        model);
  };
  each_bias([&](const auto&) { ++biases; });
  expect_option(
      biases > 0 && biases == layers.size(),
      "update_selection_bias: the model has " + std::to_string(biases) + " selection biases, the report " +
          std::to_string(layers.size()) +
          " sparse layers; expected as many, at least one: begin_batch before each micro-batch, and where only "
          "some routers have one, update them one by one");
  std::size_t at = 0;
  each_bias([&](auto& bias) { detail::update_selection_bias(bias.flat(), layers[at++].total().requests, rate); });
}

}  // namespace gatefold
