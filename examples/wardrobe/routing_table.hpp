#pragma once
#include <array>
#include <cstdio>
#include <string>

#include "gatefold/routing/routing_report.hpp"

namespace wardrobe {

/// Over the sparse layers, the mean share of requests that got a seat and of effective experts, for images and text.
struct MeanUsage {
  double success = 1, experts = 0;
};
std::array<MeanUsage, 2> mean_usage(const gatefold::RoutingReport& report);

/// Who went where, as Markdown: for each sparse layer the tokens of each modality that each expert took.
std::string routing_table(const gatefold::RoutingReport& report);

}  // namespace wardrobe
