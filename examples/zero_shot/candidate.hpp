#pragma once
#include <algorithm>

#include "gatefold/core/shape.hpp"
#include "zero_shot/softmax.hpp"

namespace zero_shot {

using gatefold::Index;

/// A label for a picture.
struct Candidate {
  Index label = 0;
  double cosine = 0, probability = 0;
};

/// Best first; what is not a number comes last. `choices` are the labels that the cosines belong to.
inline std::vector<Candidate> rank(std::span<const Index> choices, std::span<const double> cosines,
                                   double temperature) {
  const auto p = probabilities(cosines, temperature);
  std::vector<Candidate> ranked;
  for (std::size_t i = 0; i < p.size(); ++i) ranked.push_back({choices[i], cosines[i], p[i]});
  std::stable_sort(ranked.begin(), ranked.end(), [](const Candidate& a, const Candidate& b) {
    return std::isnan(b.cosine) ? !std::isnan(a.cosine) : a.cosine > b.cosine;
  });
  return ranked;
}

}  // namespace zero_shot
