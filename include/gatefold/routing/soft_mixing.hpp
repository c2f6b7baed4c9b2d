#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "gatefold/module/module.hpp"

namespace gatefold {

/// Smallest, largest and mean cosine between different vectors of a set; all 0 for fewer than two vectors.
struct Similarity {
  double min = 0, max = 0, mean = 0;
};

enum class VectorsAre { rows, columns };

/// Zero vectors are orthogonal to all. O(n^2) in the number of vectors; allocates.
template <Real T>
Similarity cosine_similarity(Rows<const T> matrix, VectorsAre vectors) {
  const bool rows = vectors == VectorsAre::rows;
  const Index count = matrix.extent(rows ? 0 : 1), length = matrix.extent(rows ? 1 : 0);
  const auto at = [&](Index i, Index d) { return to_double(rows ? matrix(i, d) : matrix(d, i)); };
  std::vector<double> norm(static_cast<std::size_t>(count));
  for (Index i = 0; i < count; ++i) {
    double squares = 0;
    for (Index d = 0; d < length; ++d) squares += at(i, d) * at(i, d);
    norm[static_cast<std::size_t>(i)] = std::sqrt(squares);
  }
  Similarity out;
  double pairs = 0;
  for (Index i = 0; i < count; ++i)
    for (Index j = 0; j < i; ++j, ++pairs) {
      double dot = 0;
      for (Index d = 0; d < length; ++d) dot += at(i, d) * at(j, d);
      const double norms = norm[static_cast<std::size_t>(i)] * norm[static_cast<std::size_t>(j)];
      const double cosine = norms > 0 ? dot / norms : 0;
      out.min = pairs > 0 ? std::min(out.min, cosine) : cosine;
      out.max = pairs > 0 ? std::max(out.max, cosine) : cosine;
      out.mean += cosine;
    }
  if (pairs > 0) out.mean /= pairs;
  return out;
}

/// How sharp and how varied the mixing of one sequence is in a SoftMoe (V-MoE's metrics of soft routing).
struct SoftMixing {
  double combine_min = 0, combine_max = 0;    ///< Mean over tokens of their smallest and largest weight.
  double dispatch_min = 0, dispatch_max = 0;  ///< Mean over slots.
  Similarity combine;                         ///< Between tokens.
  Similarity dispatch;                        ///< Between slots.
  Similarity mu;                              ///< Between the parameters of slots.
};

/// dispatch, combine [R, N] of one sequence without padding, mu [N, D]
template <Real T>
SoftMixing soft_mixing(Rows<const T> dispatch, Rows<const T> combine, Rows<const T> mu) {
  SoftMixing out{.combine = cosine_similarity<T>(combine, VectorsAre::rows),
                 .dispatch = cosine_similarity<T>(dispatch, VectorsAre::columns),
                 .mu = cosine_similarity<T>(mu, VectorsAre::rows)};
  const Index tokens = combine.extent(0), slots = combine.extent(1);
  if (tokens == 0 || slots == 0) return out;
  for (Index row = 0; row < tokens; ++row) {
    const auto [least, most] = std::minmax_element(combine[row].data(), combine[row].data() + slots);
    out.combine_min += to_double(*least);
    out.combine_max += to_double(*most);
  }
  for (Index n = 0; n < slots; ++n) {
    T least = dispatch(0, n), most = least;
    for (Index row = 1; row < tokens; ++row) {
      if (dispatch(row, n) < least) least = dispatch(row, n);
      if (most < dispatch(row, n)) most = dispatch(row, n);
    }
    out.dispatch_min += to_double(least);
    out.dispatch_max += to_double(most);
  }
  for (double* sum : {&out.combine_min, &out.combine_max}) *sum /= static_cast<double>(tokens);
  for (double* sum : {&out.dispatch_min, &out.dispatch_max}) *sum /= static_cast<double>(slots);
  return out;
}

}  // namespace gatefold
