#pragma once
#include "gatefold/routing/routing_report.hpp"

namespace gatefold {

/// The coefficient of ReluSparsity that leads a model to so many experts a token as are wanted: after each optimiser
/// step it is multiplied by `step` where more are used, and divided where fewer. One for all layers, whose mean is
/// looked at.
///   SparsityControl control{.wanted = 2};
///   for_each_sparse(model, [&](auto, auto& layer) { layer.aux.coefficient = control.coefficient; });
///   ... counts.begin_batch(), forward, backward, optimizer.step(...)
///   control.update(counts);                      // a report with Detail::totals
///   counts.clear();
/// (Wang et al. 2024, «ReMoE», arXiv 2412.14711: 1e-8 and 1.2.)
struct SparsityControl {
  double wanted = 1;  ///< K
  double coefficient = 1e-8, step = 1.2;

  /// used: experts a token of the batch asked for on the average. Throws OptionError for a step or a coefficient that
  /// leads nowhere.
  void update(double used) {
    expect_option(step > 1 && std::isfinite(step), "SparsityControl", "step", step, "a finite number above 1");
    expect_option(coefficient > 0 && std::isfinite(coefficient), "SparsityControl", "coefficient", coefficient,
                  "a finite number above 0");
    expect_option(used >= 0 && std::isfinite(used), "SparsityControl", "used", used, "a finite number of 0 or more");
    if (used > wanted) coefficient *= step;
    if (used < wanted) coefficient /= step;
  }

  /// The same by what all sparse layers of a pass report. Without a token nothing changes. Throws OptionError for a
  /// report that only counts, which does not know how many tokens there were.
  void update(const RoutingReport& report) {
    double asked = 0, tokens = 0, counted = 0;
    for (const auto& layer : report.layers()) {
      const auto all = layer.total();
      tokens += all.tokens;
      for (const double n : all.requests) asked += n;
      counted += asked;
    }
    expect_option(tokens > 0 || counted == 0,
                  "SparsityControl: the report has counts only, expected RoutingReport::Detail::totals");
    if (tokens > 0) update(asked / tokens);
  }
};

}  // namespace gatefold
