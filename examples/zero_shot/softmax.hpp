#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

namespace zero_shot {

/// softmax(temperature * cosine): how likely each label is if one of them is right. What is not a number stays so and
/// has no part in the others.
inline std::vector<double> probabilities(std::span<const double> cosines, double temperature) {
  double most = -std::numeric_limits<double>::infinity(), sum = 0;
  for (const double cosine : cosines)
    if (!std::isnan(cosine)) most = std::max(most, temperature * cosine);
  std::vector<double> p(cosines.size(), std::numeric_limits<double>::quiet_NaN());
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (std::isnan(cosines[i])) continue;
    p[i] = std::exp(temperature * cosines[i] - most);
    sum += p[i];
  }
  for (double& value : p) value /= sum;
  return p;
}

}  // namespace zero_shot
