#pragma once
#include <cmath>
#include <span>
#include <vector>

#include "gatefold/module/module.hpp"
#include "gatefold/products/matmul.hpp"
#include "gatefold/train/blocks.hpp"
#include "gatefold/train/shuffle.hpp"

namespace gatefold {

struct KMeansOptions {
  Index num_clusters = 0;  // C
  Index batch = 0;  ///< Rows of a step of mini-batch k-means (Sculley 2010); 0: every step sees all rows (Lloyd).
  Index max_iterations = 300;  ///< Passes over the rows.
  double tolerance = 1e-4;  ///< Lloyd ends where all centres together move by less, squared, than this times the mean
                            ///< squared distance of a row to its centre. 0: where no row changes its cluster.
  Index patience = 10;      ///< Mini-batch k-means ends after so many steps without a better smoothed distance.
  bool unit_norm = false;   ///< Rows count as if of length 1 (cosine); the centres are their means, so shorter.
  std::uint64_t seed = 0;
};

/// Centres of clusters. A Module, so save and load keep them. Distances go through the matrix products, in blocks of
/// rows that fit into the caches; each sum runs over the rows in order, so all results are bitwise the same for any
/// number of threads. A row with a NaN or an infinity belongs to no cluster: its label is -1, and it moves no centre.
template <std::floating_point T>
struct KMeans {
  using Scalar = T;

  Tensor<T, 2> centres;      // [C, D]
  Tensor<double, 1> weight;  // [C] rows that a centre is the mean of: what learn weighs a batch against
  bool unit_norm = false;    ///< See KMeansOptions.

  explicit KMeans(Tensor<T, 2> c, bool unit = false)
      : centres(std::move(c)), weight({centres.extent(0)}), unit_norm(unit) {}
  static void visit(auto& v, auto&... self) {
    v("centres", self.centres...);
    v("weight", self.weight...);
  }

  /// The nearest centre of each row (of equally near ones the first), and the sum of squared distances (inertia).
  /// 2 R C D flops. Throws ShapeError. // x [R, D], label [R]
  double assign(Rows<const T> x, std::span<Index> label, Context& ctx) const;

  /// One step of mini-batch k-means: each centre becomes the mean of all rows that it was ever given, those of this
  /// batch by where the centres stood before. A centre without rows stays. Returns the inertia of the batch before
  /// the step. // x [R, D]
  double learn(Rows<const T> x, Context& ctx);
};

template <std::floating_point T>
struct KMeansFit {
  KMeans<T> clusters;
  std::vector<Index> label;  // [R] under the final centres
  double inertia = 0;        ///< Under the final centres.
  Index iterations = 0;      ///< Of Lloyd: passes; of mini-batch k-means: steps.
  bool converged = false;    ///< Ended before max_iterations.
};

/// k-means from centres at hand.
template <std::floating_point T>
KMeansFit<T> kmeans_from(KMeans<T> start, Rows<const T> x, const KMeansOptions& o, Context& ctx);

/// k-means from centres that greedy k-means++ draws (Arthur & Vassilvitskii 2007): a row by its squared distance to
/// what is chosen, of 2 + ln C candidates the one that leaves least. A function of the seed and the rows alone.
template <std::floating_point T>
KMeansFit<T> kmeans(Rows<const T> x, const KMeansOptions& o, Context& ctx);

}  // namespace gatefold
