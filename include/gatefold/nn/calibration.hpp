#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

#include "gatefold/module/path_pattern.hpp"
#include "gatefold/products/matmul.hpp"

namespace gatefold {

/// What was seen of the rows x that a weight [N, K] was multiplied with. Sums are over rows, in double.
struct WeightStatistics {
  std::string path;                                    ///< Of the weight in its model.
  Index rows = 0;                                      ///< Padding is not among them,
  Index rows_left_out = 0;                             ///< nor are those with a value that is no finite number.
  std::vector<double> sum{}, squares{};                // [K] of x, of x²
  std::vector<double> lowest{}, highest{};             // [K] infinite without rows
  Tensor<double, 2> gram = Tensor<double, 2>({0, 0});  // [K, K] of xᵀ x, or [0, 0] with Detail::columns

  double mean(Index k) const { return per_row(sum[static_cast<std::size_t>(k)]); }
  double mean_square(Index k) const { return per_row(squares[static_cast<std::size_t>(k)]); }
  double variance(Index k) const { return std::max(0.0, mean_square(k) - mean(k) * mean(k)); }

 private:
  double per_row(double total) const { return rows ? total / static_cast<double>(rows) : 0; }
};

/// What was seen of an expert: its rows, and the sum over them of weight * |E(x)|.
struct ExpertStatistics {
  Index rows = 0, rows_left_out = 0;
  double weighed_norm = 0;

  /// The mean: what REAP keeps experts by. 0 for one that nobody asked. (Lasby et al. 2025, arXiv 2510.13999, eq. 9.)
  double score() const { return rows ? weighed_norm / static_cast<double>(rows) : 0; }
};

/// `gram` also sums xᵀ x: K² doubles a weight, and 2 R K² flops a pass.
enum class CalibrationDetail { columns, gram };
struct CalibrationOptions {
  std::vector<std::string> weights{"*"};  ///< Which, see PathPattern.
  CalibrationDetail detail = CalibrationDetail::columns;
};

/// Statistics of what flows through a model of floats, for pruning and quantising. While Context::calibration points at
/// one, every layer with a dense weight shows the rows that it multiplies, experts those they were given, and mixtures
/// what their experts gave:
///   Calibration calibration(model, {.weights = {"*.ffn.*"}, .detail = Calibration::Detail::gram});
///   ctx.calibration = &calibration;
///   ... passes
///   calibration.of("blocks.0.ffn.inner.up.weight").mean_square(k)
/// A weight is known by where it lies: the model must not be moved or copied meanwhile. Passes add up; the same bits
/// for any number of threads. Allocates for an expert layer that is new, else only when it is made.
class Calibration {
 public:
  using Options = CalibrationOptions;
  using Detail = CalibrationDetail;

  /// Throws OptionError for a pattern that names no weight of the model.
  template <class M>
  explicit Calibration(const M& model, const Options& options = {}) : see_rows_(see_rows), see_mixture_(see_mixture) {
    std::vector<PathPattern> patterns(options.weights.begin(), options.weights.end());
    std::vector<char> used(patterns.size());
    for_each_param(
        [&](std::string_view path, const auto& tensor) {
          if constexpr (std::is_same_v<std::remove_cvref_t<decltype(tensor)>, Tensor<float, 2>>)
            for (std::size_t i = 0; i < patterns.size(); ++i)
              if (patterns[i].matches(path)) {
                used[i] = 1;
                if (!index_.contains(&tensor)) add(path, &tensor, tensor.extent(1), options.detail);
              }
        },
        model);
    for (std::size_t i = 0; i < used.size(); ++i)
      expect_option(used[i], "Calibration: the pattern \"" + patterns[i].text() + "\" matches no weight");
  }

  /// In the order of the model's fields.
  const std::vector<WeightStatistics>& weights() const { return weights_; }
  /// Throws OptionError for a weight that is not looked at.
  const WeightStatistics& of(std::string_view path) const {
    const auto at = std::ranges::find(weights_, path, &WeightStatistics::path);
    expect_option(at != weights_.end(), "Calibration: \"" + std::string(path) + "\" is not looked at");
    return *at;
  }
  /// Of a mixture that lies where it lay in the passes; empty if there were none. // [E]
  const std::vector<ExpertStatistics>& experts_of(const void* mixture) const {
    static const std::vector<ExpertStatistics> none;
    const auto at = experts_.find(mixture);
    return at == experts_.end() ? none : at->second;
  }

  /// Called by a layer before it multiplies x // [R, K] by the weight // [N, K]. Models of other scalars show nothing.
  template <Real T>
  void see(const void* weight, const kernels::Operand<T>& x, Context& ctx) {
    if constexpr (std::is_same_v<T, float>) see_rows_(*this, weight, x, ctx);
  }
  /// Called by a mixture: expert e gave the rows offset[e]..offset[e+1] of ys, which count with `weight`, or one each
  /// where that is empty. // ys [N, D], weight [N], offset [E+1]
  template <Real T>
  void see_experts(const void* mixture, Rows<const T> ys, View<const T, 1> weight, View<const Index, 1> offset,
                   Context& ctx) {
    if constexpr (std::is_same_v<T, float>) see_mixture_(*this, mixture, ys, weight, offset, ctx);
  }

 private:
  // Columns that one worker sums: a few cache lines of each row.
  static constexpr Index kColumns = 64;
  // Rows whose xᵀ x is summed in float before it is added in double.
  static constexpr Index kGramRows = 512;

  void add(std::string_view path, const void* weight, Index columns, Detail detail) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const auto k = static_cast<std::size_t>(columns);
    index_.emplace(weight, weights_.size());
    weights_.push_back({.path = std::string(path),
                        .sum = std::vector<double>(k),
                        .squares = std::vector<double>(k),
                        .lowest = std::vector<double>(k, kInfinity),
                        .highest = std::vector<double>(k, -kInfinity)});
    if (detail == Detail::gram) weights_.back().gram = Tensor<double, 2>({columns, columns});
  }

  static void see_rows(Calibration& self, const void* weight, const kernels::Operand<float>& x, Context& ctx) {
    const auto at = self.index_.find(weight);
    if (at == self.index_.end() || x.rows == 0) return;
    WeightStatistics& seen = self.weights_[at->second];
    const auto scope = ctx.workspace.scope();
    // Rows of an expert are never padding, and fewer than those of a layout that has any.
    const bool laid_out = ctx.layout && !x.index && ctx.layout->modality.extent(0) == x.rows;
    auto finite = ctx.workspace.take<std::uint8_t>(x.rows);
    ctx.parallel_for(x.rows, [&](Index begin, Index end, Index) {
      for (Index i = begin; i < end; ++i)
        finite[i] = std::all_of(x.row(i), x.row(i) + x.cols, [](float v) { return std::isfinite(v); });
    });
    auto row = ctx.workspace.take<Index>(x.rows);
    Index rows = 0;
    for (Index i = 0; i < x.rows; ++i) {
      if (laid_out && ctx.layout->modality[i] == kPadding) continue;
      if (finite[i])
        row[rows++] = i;
      else
        ++seen.rows_left_out;
    }
    seen.rows += rows;
    ctx.parallel_for((x.cols + kColumns - 1) / kColumns, [&](Index first, Index last, Index) {
      for (Index r = 0; r < rows; ++r) {
        const float* const from = x.row(row[r]);
        for (Index k = first * kColumns; k < std::min(x.cols, last * kColumns); ++k) {
          const auto j = static_cast<std::size_t>(k);
          const double v = static_cast<double>(from[k]);
          seen.sum[j] += v, seen.squares[j] += v * v;
          seen.lowest[j] = std::min(seen.lowest[j], v), seen.highest[j] = std::max(seen.highest[j], v);
        }
      }
    });
    if (seen.gram.size()) add_gram(x, row.rows(0, rows), seen.gram, ctx);
  }

  static void add_gram(const kernels::Operand<float>& x, View<const Index, 1> row, Rows<double> gram, Context& ctx) {
    auto part = ctx.workspace.take<float>(std::min(kGramRows, row.extent(0)), x.cols);
    auto product = ctx.workspace.take<float>(x.cols, x.cols);
    for (Index begin = 0; begin < row.extent(0); begin += kGramRows) {
      const Index count = std::min(kGramRows, row.extent(0) - begin);
      for (Index i = 0; i < count; ++i) std::copy_n(x.row(row[begin + i]), x.cols, part[i].data());
      const kernels::Operand<float> rows(part.rows(0, count));
      kernels::multiply<float>({.a = transpose(rows), .b = rows, .c = product, .store = kernels::Store::overwrite},
                               ctx);
      ctx.parallel_for(x.cols, [&](Index first, Index last, Index) {
        for (Index i = first; i < last; ++i)
          for (Index k = 0; k < x.cols; ++k) gram(i, k) += static_cast<double>(product(i, k));
      });
    }
  }

  static void see_mixture(Calibration& self, const void* mixture, Rows<const float> ys, View<const float, 1> weight,
                          View<const Index, 1> offset, Context& ctx) {
    const auto scope = ctx.workspace.scope();
    auto norm = ctx.workspace.take<double>(ys.extent(0));
    ctx.parallel_for(ys.extent(0), [&](Index begin, Index end, Index) {
      for (Index n = begin; n < end; ++n) {
        double squares = 0;
        for (Index k = 0; k < ys.extent(1); ++k) squares += double{ys(n, k)} * double{ys(n, k)};
        norm[n] = std::sqrt(squares) * (weight.size() ? double{weight[n]} : 1.0);
      }
    });
    auto& experts = self.experts_[mixture];
    experts.resize(static_cast<std::size_t>(offset.extent(0) - 1));
    for (std::size_t e = 0; e < experts.size(); ++e)
      for (Index n = offset[static_cast<Index>(e)]; n < offset[static_cast<Index>(e) + 1]; ++n) {
        const bool finite = std::isfinite(norm[n]);
        ++(finite ? experts[e].rows : experts[e].rows_left_out);
        if (finite) experts[e].weighed_norm += norm[n];
      }
  }

  std::vector<WeightStatistics> weights_;
  std::unordered_map<const void*, std::size_t> index_;
  std::unordered_map<const void*, std::vector<ExpertStatistics>> experts_;
  // So that only a program with a calibration compiles what it takes.
  void (*see_rows_)(Calibration&, const void*, const kernels::Operand<float>&, Context&);
  void (*see_mixture_)(Calibration&, const void*, Rows<const float>, View<const float, 1>, View<const Index, 1>,
                       Context&);
};

}  // namespace gatefold
