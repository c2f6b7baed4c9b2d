#pragma once
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "gatefold/products/matmul.hpp"
#include "gatefold/simd/map.hpp"
#include "gatefold/train/blocks.hpp"
#include "gatefold/train/shuffle.hpp"

namespace gatefold {

struct KMeansOptions {
  Index num_clusters = 0;      // C
  Index batch = 0;             ///< Rows of a step of mini-batch k-means (Sculley 2010); 0: each step sees all (Lloyd).
  Index max_iterations = 300;  ///< Passes over the rows.
  double tolerance = 1e-4;     ///< Lloyd ends where all centres together move by no more, squared, than this times the
                               ///< mean squared distance of a row to its centre. 0: where no row changes its cluster.
  Index patience = 10;         ///< Mini-batch k-means ends after so many steps without a better smoothed distance.
  bool unit_norm = false;      ///< Rows count as if of length 1 (cosine); centres are their means, so shorter.
  std::uint64_t seed = 0;
};

/// Centres of clusters. A Module, so save and load keep centres and weights. Distances go through the matrix products,
/// in blocks of rows that fit into the caches; each sum runs over the rows in order, so all results are bitwise the
/// same for any number of threads. A row with a NaN or an infinity belongs to no cluster: its label is -1, and it moves
/// no centre.
template <std::floating_point T>
struct KMeans {
  using Scalar = T;
  /// What a step of Lloyd tells.
  struct Step {
    double inertia = 0;  ///< Of all rows before the step.
    double shift = 0;    ///< Of all centres, squared.
    Index changed = 0;   ///< Rows whose label changed.
  };

  Tensor<T, 2> centres;      // [C, D]
  Tensor<double, 1> weight;  // [C] rows that a centre is the mean of: what learn weighs a batch against
  bool unit_norm;            ///< See KMeansOptions.

  /// Throws OptionError for no centres, or such of no width.
  explicit KMeans(Tensor<T, 2> c, bool unit = false)
      : centres(std::move(c)), weight({centres.extent(0)}), unit_norm(unit) {
    expect_size("KMeans", "number of centres", centres.extent(0));
    expect_size("KMeans", "width", centres.extent(1));
  }
  static void visit(auto& v, auto&... self) {
    v("centres", self.centres...);
    v("weight", self.weight...);
  }

  /// Labels each row by its nearest centre (of equally near ones the first) and returns the sum of squared distances,
  /// the inertia. 2 R C D flops. Throws ShapeError. // x [R, D], label [R]
  double assign(Rows<const T> x, std::span<Index> label, Context& ctx) const {
    const auto scope = ctx.workspace.scope();
    expect_labels(x, label);
    double inertia = 0;
    for_each_block(x, ctx, [&](Index begin, const Block& block) {
      for (Index i = 0; i < block.x.extent(0); ++i) {
        label[static_cast<std::size_t>(begin + i)] = block.label[i];
        inertia += block.distance[i];
      }
    });
    return inertia;
  }

  /// One step of mini-batch k-means: a centre becomes the mean of all rows that it was ever given, those of this batch
  /// by where the centres stood before. A centre without rows stays. Returns the inertia before the step; `weight`
  /// counts on. Throws ShapeError. // x [R, D]
  double learn(Rows<const T> x, Context& ctx) {
    const auto scope = ctx.workspace.scope();
    const Sums sums = take_sums(ctx);
    double inertia = 0;
    for_each_block(x, ctx, [&](Index, const Block& block) {
      add(block, sums, ctx);
      for (Index i = 0; i < block.x.extent(0); ++i) inertia += block.distance[i];
    });
    for (Index c = 0; c < centres.extent(0); ++c) {
      const double before = weight.flat()[static_cast<std::size_t>(c)], now = before + sums.count[c];
      if (sums.count[c] == 0) continue;
      weight.flat()[static_cast<std::size_t>(c)] = now;
      for (Index d = 0; d < centres.extent(1); ++d) {
        T& at = centres.view()(c, d);
        at = static_cast<T>((double{at} * before + sums.row(c, d)) / now);
      }
    }
    return inertia;
  }

  /// One step of Lloyd: labels, then each centre the mean of its rows. A cluster without rows takes the row that is
  /// farthest from its centre, as scikit-learn has it. Throws ShapeError. // x [R, D], label [R] of the step before
  Step lloyd(Rows<const T> x, std::span<Index> label, Context& ctx) {
    const auto scope = ctx.workspace.scope();
    expect_labels(x, label);
    const Sums sums = take_sums(ctx);
    const auto distance = ctx.workspace.take<double>(x.extent(0));
    Step step;
    for_each_block(x, ctx, [&](Index begin, const Block& block) {
      add(block, sums, ctx);
      for (Index i = 0; i < block.x.extent(0); ++i) {
        Index& l = label[static_cast<std::size_t>(begin + i)];
        step.changed += l != block.label[i];
        l = block.label[i];
        distance[begin + i] = block.distance[i];
        step.inertia += block.distance[i];
      }
    });
    for (Index c = 0; c < centres.extent(0); ++c)
      if (sums.count[c] == 0) step.changed += fill(c, x, label, distance, sums);
    for (Index c = 0; c < centres.extent(0); ++c) {
      weight.flat()[static_cast<std::size_t>(c)] = sums.count[c];
      if (sums.count[c] == 0) continue;
      for (Index d = 0; d < centres.extent(1); ++d) {
        const T before = std::exchange(centres.view()(c, d), static_cast<T>(sums.row(c, d) / sums.count[c]));
        const double moved = double{centres.view()(c, d)} - double{before};
        step.shift += moved * moved;
      }
    }
    return step;
  }

  /// What x is multiplied by: 1, or with unit_norm 1 / |x|, and 0 for a row of zeros. // x [D]
  static double scale_of(View<const T, 1> x, bool unit) {
    if (!unit) return 1;
    const double square = sum_of_squares(x.data(), 0, x.extent(0));
    return square > 0 ? 1 / std::sqrt(square) : 0;
  }

 private:
  struct Block {
    Rows<const T> x;                  // [r, D]
    View<Index, 1> label;             // [r]
    View<double, 1> distance, scale;  // [r] squared; see scale_of
  };
  struct Sums {
    Rows<double> row;       // [C, D]
    View<double, 1> count;  // [C]
  };

  void expect_labels(Rows<const T> x, std::span<Index> label) const {
    expect_shape(View<Index, 1>(label.data(), {std::ssize(label)}), {x.extent(0)}, "KMeans: label");
  }
  Sums take_sums(Context& ctx) const {
    return {ctx.workspace.take_zeroed<double>(centres.extent(0), centres.extent(1)),
            ctx.workspace.take_zeroed<double>(centres.extent(0))};
  }

  /// body(first row, block) for blocks of rows, labelled.
  template <class Body>
  void for_each_block(Rows<const T> x, Context& ctx, Body&& body) const {
    const Index width = centres.extent(1), clusters = centres.extent(0);
    expect_shape(x, {x.extent(0), width}, "KMeans: x");
    const auto half = ctx.workspace.take<double>(clusters);  // |c|² / 2
    for (Index c = 0; c < clusters; ++c) half[c] = sum_of_squares(centres.view()[c].data(), 0, width) / 2;
    // 4 MiB stay in the cache that cores share between labelling rows and adding them up.
    const Blocks blocks{.count = x.extent(0),
                        .size = std::clamp<Index>((Index{4} << 20) / (width * Index{sizeof(T)}), 64, 65536)};
    const Index most = std::min(blocks.size, blocks.count);
    const auto product = ctx.workspace.take<T>(most, clusters);
    const auto label = ctx.workspace.take<Index>(most);
    const auto distance = ctx.workspace.take<double>(most), scale = ctx.workspace.take<double>(most);
    for (Index b = 0; b < blocks.number(); ++b) {
      const Index rows = blocks.end(b) - blocks.begin(b);
      const Block block{x.rows(blocks.begin(b), blocks.end(b)), label.rows(0, rows), distance.rows(0, rows),
                        scale.rows(0, rows)};
      kernels::matmul<T>(block.x, centres, product.rows(0, rows), ctx);
      kernels::for_each_row(rows, width, ctx, [&](Index i) { label_row(block, i, product[i], half); });
      body(blocks.begin(b), block);
    }
  }

  /// |x - c|² / 2 = |x|² / 2 + |c|² / 2 - x c finds the centre; what is returned is |x - c|², without cancellation.
  void label_row(const Block& block, Index i, View<const T, 1> product, View<const double, 1> half) const {
    const double scale = block.scale[i] = scale_of(block.x[i], unit_norm);
    Index nearest = -1;
    double least = std::numeric_limits<double>::infinity();
    for (Index c = 0; c < half.extent(0); ++c)
      if (const double d = half[c] - scale * double{product[c]}; d < least) {
        least = d;
        nearest = c;
      }
    const T* const x = block.x[i].data();
    const T* const centre = centres.view()[std::max<Index>(0, nearest)].data();
    block.distance[i] = sum_in_lanes(0, block.x.extent(1), [&](Index d) {
      const double apart = scale * double{x[d]} - double{centre[d]};
      return apart * apart;
    });
    block.label[i] = nearest;
    if (std::isfinite(block.distance[i])) return;
    block.label[i] = -1;
    block.distance[i] = 0;
  }

  /// Adds the rows to the sums of their clusters, in their order; the columns are what is split.
  static void add(const Block& block, const Sums& sums, Context& ctx) {
    constexpr Index kColumns = 128;
    const Index width = block.x.extent(1);
    ctx.parallel_for((width + kColumns - 1) / kColumns, [&](Index first, Index last, Index) {
      const Index begin = first * kColumns, end = std::min(width, last * kColumns);
      for (Index i = 0; i < block.x.extent(0); ++i) {
        if (block.label[i] < 0) continue;
        const T* const x = block.x[i].data();
        double* const sum = sums.row[block.label[i]].data();
        const double scale = block.scale[i];
        for (Index d = begin; d < end; ++d) sum[d] += scale * double{x[d]};
      }
    });
    for (Index i = 0; i < block.x.extent(0); ++i)
      if (block.label[i] >= 0) sums.count[block.label[i]] += 1;
  }

  /// Gives cluster c the row that is farthest from its centre; false if all rows are where a centre is.
  bool fill(Index c, Rows<const T> x, std::span<Index> label, View<double, 1> distance, const Sums& sums) const {
    const auto* const farthest = std::max_element(distance.data(), distance.data() + distance.extent(0));
    if (distance.extent(0) == 0 || !(*farthest > 0)) return false;
    const Index r = farthest - distance.data(), from = std::exchange(label[static_cast<std::size_t>(r)], c);
    const double scale = scale_of(x[r], unit_norm);
    for (Index d = 0; d < x.extent(1); ++d) {
      sums.row(c, d) = scale * double{x(r, d)};
      sums.row(from, d) -= sums.row(c, d);
    }
    sums.count[c] = 1;
    sums.count[from] -= 1;
    distance[r] = 0;
    return true;
  }
};

template <std::floating_point T>
struct KMeansFit {
  KMeans<T> clusters;
  std::vector<Index> label;  // [R] under the final centres, as is:
  double inertia = 0;
  Index iterations = 0;    ///< Of Lloyd: passes; of mini-batch k-means: steps.
  bool converged = false;  ///< Ended before max_iterations.
};

namespace detail {
inline void check(const KMeansOptions& o, std::string_view who) {
  expect_size(who, "num_clusters", o.num_clusters);
  expect_option(o.batch >= 0, who, "batch", o.batch, "at least 0");
  expect_size(who, "max_iterations", o.max_iterations);
  expect_rate(who, "tolerance", o.tolerance);
  expect_size(who, "patience", o.patience);
}

/// Sculley's steps over rows in an order that is another permutation in each pass. True: ended before the last.
template <std::floating_point T>
bool fit_batches(KMeansFit<T>& fit, Rows<const T> x, const KMeansOptions& o, Context& ctx) {
  const auto scope = ctx.workspace.scope();
  const Index batch = std::min(o.batch, x.extent(0)), steps = o.max_iterations * ((x.extent(0) + batch - 1) / batch);
  const auto rows = ctx.workspace.take<T>(batch, x.extent(1));
  const Shuffle order{.size = x.extent(0), .seed = o.seed};
  // As scikit-learn smooths: over about a pass.
  const double share = std::min(1.0, 2 * static_cast<double>(batch) / (static_cast<double>(x.extent(0)) + 1));
  double smoothed = 0, best = std::numeric_limits<double>::infinity();
  for (Index waited = 0; fit.iterations < steps; ++fit.iterations) {
    kernels::for_each_row(batch, x.extent(1), ctx, [&](Index i) {
      std::copy_n(x[order(fit.iterations * batch + i)].data(), x.extent(1), rows[i].data());
    });
    const double inertia = fit.clusters.learn(rows, ctx);
    smoothed = fit.iterations == 0 ? inertia : (1 - share) * smoothed + share * inertia;
    waited = smoothed < best ? 0 : waited + 1;
    best = std::min(best, smoothed);
    if (waited >= o.patience) return true;
  }
  return false;
}
}  // namespace detail

/// k-means from centres at hand; seed, num_clusters and unit_norm of the options are not looked at (but the seed with
/// mini-batches). Throws OptionError, ShapeError. // x [R, D]
template <std::floating_point T>
KMeansFit<T> kmeans_from(KMeans<T> start, std::type_identity_t<Rows<const T>> x, const KMeansOptions& o, Context& ctx) {
  auto options = o;
  options.num_clusters = start.centres.extent(0);
  detail::check(options, "kmeans");
  KMeansFit<T> fit{.clusters = std::move(start),
                   .label = std::vector<Index>(static_cast<std::size_t>(x.extent(0)), -2)};
  if (o.batch > 0 && x.extent(0) > 0) {
    fit.converged = detail::fit_batches(fit, x, o, ctx);
  } else {
    while (!fit.converged && fit.iterations < o.max_iterations) {
      const auto step = fit.clusters.lloyd(x, fit.label, ctx);
      ++fit.iterations;
      fit.converged = step.changed == 0 ||
                      (o.tolerance > 0 && step.shift * static_cast<double>(x.extent(0)) <= o.tolerance * step.inertia);
    }
  }
  fit.inertia = fit.clusters.assign(x, fit.label, ctx);
  return fit;
}

/// k-means++ (Arthur & Vassilvitskii 2007), greedy: the next centre is a row, drawn by its squared distance to those
/// that are chosen, of 2 + ln C such draws the one that leaves least distance in all. A function of the rows and the
/// seed. Rows that are not finite are not drawn. Throws OptionError if there are fewer finite rows than clusters.
/// // x [R, D]
template <std::floating_point T>
KMeans<T> kmeans_plus_plus(Rows<const T> x, const KMeansOptions& o, Context& ctx) {
  detail::check(o, "kmeans");
  const auto scope = ctx.workspace.scope();
  const Index rows = x.extent(0), width = x.extent(1);
  const auto scale = ctx.workspace.take<double>(rows), square = ctx.workspace.take<double>(rows);
  const auto nearest = ctx.workspace.take<double>(rows), sum = ctx.workspace.take<double>(rows);
  kernels::for_each_row(rows, width, ctx, [&](Index r) {
    scale[r] = KMeans<T>::scale_of(x[r], o.unit_norm);
    square[r] = scale[r] * scale[r] * sum_of_squares(x[r].data(), 0, width);
  });
  Index finite = 0;
  for (Index r = 0; r < rows; ++r) {
    nearest[r] = std::isfinite(square[r]) ? 1 : 0;  // all alike for the first draw
    finite += std::isfinite(square[r]);
  }
  expect_option(finite >= o.num_clusters, "kmeans", "num_clusters", o.num_clusters,
                "no more than there are finite rows: " + std::to_string(finite));

  const auto most = 2 + static_cast<Index>(std::log(static_cast<double>(o.num_clusters)));
  const auto drawn = ctx.workspace.take<Index>(most);
  const auto candidates = ctx.workspace.take<T>(most, width), product = ctx.workspace.take<T>(rows, most);
  const auto left = ctx.workspace.take<double>(most);
  // |x - c|² of row r and draw t, after the products; 0 for a row that counts for nothing.
  const auto distance = [&](Index r, Index t) {
    if (!std::isfinite(square[r])) return 0.0;
    const double both = scale[r] * scale[drawn[t]] * double{product(r, t)};
    return std::max(0.0, square[r] + square[drawn[t]] - 2 * both);
  };
  Rng rng(o.seed);
  KMeans<T> chosen(Tensor<T, 2>({o.num_clusters, width}), o.unit_norm);
  for (Index c = 0; c < o.num_clusters; ++c) {
    double total = 0;
    for (Index r = 0; r < rows; ++r) sum[r] = total += nearest[r];
    const Index draws = c == 0 ? 1 : most;
    for (Index t = 0; t < draws; ++t) {
      // Where all rows lie on centres already, the last finite one; else the first whose sum is above the draw.
      const double* const at = std::upper_bound(sum.data(), sum.data() + rows, rng.uniform() * total);
      drawn[t] = std::min<Index>(rows - 1, at - sum.data());
      while (!std::isfinite(square[drawn[t]])) --drawn[t];
      std::copy_n(x[drawn[t]].data(), width, candidates[t].data());
    }
    kernels::matmul<T>(x, candidates.rows(0, draws), product.columns(0, draws), ctx);
    Index best = 0;
    for (Index t = 0; t < draws; ++t) {
      left[t] = 0;
      for (Index r = 0; r < rows; ++r) left[t] += c == 0 ? 0.0 : std::min(nearest[r], distance(r, t));
      if (left[t] < left[best]) best = t;
    }
    for (Index r = 0; r < rows; ++r) nearest[r] = c == 0 ? distance(r, best) : std::min(nearest[r], distance(r, best));
    nearest[drawn[best]] = 0;
    for (Index d = 0; d < width; ++d)
      chosen.centres.view()(c, d) = static_cast<T>(scale[drawn[best]] * double{x(drawn[best], d)});
  }
  return chosen;
}

/// k-means from the centres that k-means++ draws. // x [R, D]
template <std::floating_point T>
KMeansFit<T> kmeans(Rows<const T> x, const KMeansOptions& o, Context& ctx) {
  return kmeans_from<T>(kmeans_plus_plus<T>(x, o, ctx), x, o, ctx);
}

}  // namespace gatefold
