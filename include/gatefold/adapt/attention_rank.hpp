#pragma once
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "gatefold/blocks/encoder.hpp"

/// ARank: how many directions the attention maps of a layer have, by which layers are chosen that may skip tokens
/// (Luo et al. 2024, «γ-MoD», arXiv 2410.13859, eq. 4). A numerical rank depends on the length of the sequence and on
/// the tolerance: compare layers of one set of samples only.
namespace gatefold {

/// Who attends to whom by how much: the softmax that a head of a sequence takes, row by row. From what Attention keeps
/// of a pass. // qkv [R, (H + 2 G) d], map [n, n]
template <Real T>
Tensor<double, 2> attention_map(Rows<const T> qkv, const kernels::AttentionPlan& plan, Index sequence, Index head) {
  const Index heads = plan.heads, key_heads = plan.key_heads ? plan.key_heads : heads;
  const kernels::detail::AttentionTask task(plan, sequence, head, qkv.extent(1) * heads / (heads + 2 * key_heads));
  Tensor<double, 2> map({task.n, task.n});
  for (Index i = 0; i < task.n; ++i) {
    const Index begin = std::max<Index>(0, i - task.behind), end = std::min(task.n, i + task.ahead + 1);
    double* const row = map.data() + i * task.n;
    double highest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (Index j = begin; j < end; ++j) {
      const T *const q = task.at(qkv, task.q, i), *const k = task.at(qkv, task.k, j);
      for (Index c = 0; c < task.d; ++c) row[j] += to_double(q[c]) * to_double(k[c]) * task.scale;
      highest = std::max(highest, row[j]);
    }
    for (Index j = begin; j < end; ++j) sum += row[j] = std::exp(row[j] - highest);
    for (Index j = begin; j < end; ++j) row[j] /= sum;
  }
  return map;
}

/// Singular values above tolerance times the largest; 0 stands for what PyTorch's matrix_rank takes of a float map,
/// n times the epsilon of float. 0 for a map with NaN. // map [n, n]
inline Index numerical_rank(View<const double, 2> map, double tolerance = 0) {
  const Index n = map.extent(0);
  if (n == 0) return 0;
  const Eigen::MatrixXd values =
      Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>(
          map.data(), n, map.extent(1), Eigen::OuterStride<>(map.stride(0)));
  if (!values.allFinite()) return 0;
  const Eigen::VectorXd singular = Eigen::BDCSVD<Eigen::MatrixXd>(values).singularValues();
  if (tolerance == 0) tolerance = static_cast<double>(n) * static_cast<double>(std::numeric_limits<float>::epsilon());
  return static_cast<Index>((singular.array() > tolerance * singular(0)).count());
}

/// Spearman's correlation of ranks, equal values at the mean of their ranks; NaN where one side does not vary.
inline double spearman(const std::vector<double>& a, const std::vector<double>& b) {
  const auto ranks = [](const std::vector<double>& values) {
    std::vector<double> rank;
    for (const double v : values)
      rank.push_back(static_cast<double>(std::ranges::count_if(values, [&](double w) { return w < v; })) +
                     0.5 * static_cast<double>(std::ranges::count(values, v)));
    const double mean = std::accumulate(rank.begin(), rank.end(), 0.0) / static_cast<double>(rank.size());
    for (double& r : rank) r -= mean;
    return rank;
  };
  const auto x = ranks(a), y = ranks(b);
  const auto dot = [](const auto& u, const auto& v) { return std::inner_product(u.begin(), u.end(), v.begin(), 0.0); };
  return dot(x, y) / std::sqrt(dot(x, x) * dot(y, y));
}

namespace detail {
/// What the attention of a block keeps of a pass; of a block that may skip tokens, if it does not.
template <class Block>
const auto& attention_kept(const Block& block, const typename Block::Saved& saved) {
  if constexpr (requires { block.layer.index(); }) {
    expect_option(
        block.layer.index() == 0,
        "AttentionRanks: a block skips tokens, so that its maps are smaller than others; expected dense ones");
    return saved.a.attention.inner;
  } else {
    return saved.attention.inner;
  }
}
}  // namespace detail

/// The ranks of the attention maps of all layers and heads, sample after sample.
class AttentionRanks {
 public:
  struct Options {
    double tolerance = 0;  ///< As numerical_rank has it.
    /// Causal maps without what tokens give to themselves, as the authors' code has them.
    bool without_diagonal = true;
  };

  AttentionRanks() : AttentionRanks(Options()) {}
  explicit AttentionRanks(const Options& o) : options_(o) {}

  /// Every sequence of a pass of an encoder of blocks with an Attention each. Splits over sequences, layers and heads;
  /// n³ flops each. Throws OptionError for a pass with recompute, which keeps no maps, ShapeError for another number of
  /// layers or heads than before.
  template <class Encoder>
  void add(const Encoder& encoder, const typename Encoder::Saved& saved, Context& ctx) {
    using T = typename Encoder::Scalar;
    const auto layers = std::ssize(encoder.blocks);
    expect_option(saved.blocks.extent(0) == layers,
                  "AttentionRanks: the pass kept no blocks, expected one without "
                  "recompute");
    if (layers == 0) return;
    const auto kept_of = [&](Index layer) -> const auto& {
      return detail::attention_kept(encoder.blocks[static_cast<std::size_t>(layer)], saved.blocks[layer]);
    };
    for (Index layer = 0; layer < layers; ++layer) (void)kept_of(layer);  // refuses before threads run
    const auto& plan = kept_of(0).plan;
    const Index heads = plan.heads, sequences = plan.num_sequences(), maps = sequences * layers * heads;
    if (samples_.empty()) layers_ = layers, heads_ = heads;
    if (layers != layers_ || heads != heads_)
      throw ShapeError("AttentionRanks::add: " + std::to_string(layers) + " layers of " + std::to_string(heads) +
                       " heads, expected " + std::to_string(layers_) + " of " + std::to_string(heads_));
    std::vector<Index> rank(static_cast<std::size_t>(maps));
    ctx.parallel_for(maps, [&](Index begin, Index end, Index) {
      for (Index i = begin; i < end; ++i) {
        const auto& kept = kept_of(i / heads % layers);
        auto map = attention_map<T>(kept.projected, kept.plan, i / heads / layers, i % heads);
        if (options_.without_diagonal && kept.plan.mask == kernels::AttentionMask::causal)
          for (Index t = 0; t < map.extent(0); ++t) map.data()[t * map.extent(1) + t] = 0;
        rank[static_cast<std::size_t>(i)] = numerical_rank(map, options_.tolerance);
      }
    });
    samples_.insert(samples_.end(), rank.begin(), rank.end());
  }

  Index num_samples() const { return layers_ ? std::ssize(samples_) / (layers_ * heads_) : 0; }
  /// Mean rank by layer, over heads and samples. // [L]
  std::vector<double> by_layer() const { return mean(0, 1); }
  /// The same of one layer by head. // [H]
  std::vector<double> by_head(Index layer) const {
    std::vector<double> all(static_cast<std::size_t>(heads_));
    for (Index s = 0; s < num_samples(); ++s)
      for (Index h = 0; h < heads_; ++h)
        all[static_cast<std::size_t>(h)] += static_cast<double>(at(s, layer, h)) / static_cast<double>(num_samples());
    return all;
  }
  /// Spearman's correlation between the layers' ranks of every second sample and those of the others.
  double stability() const { return spearman(mean(0, 2), mean(1, 2)); }

 private:
  Index at(Index sample, Index layer, Index head) const {
    return samples_[static_cast<std::size_t>((sample * layers_ + layer) * heads_ + head)];
  }
  std::vector<double> mean(Index first, Index step) const {
    std::vector<double> all(static_cast<std::size_t>(layers_));
    double count = 0;
    for (Index s = first; s < num_samples(); s += step, ++count)
      for (Index l = 0; l < layers_; ++l)
        for (Index h = 0; h < heads_; ++h) all[static_cast<std::size_t>(l)] += static_cast<double>(at(s, l, h));
    for (double& v : all) v /= std::max(1.0, count) * static_cast<double>(heads_);
    return all;
  }

  Options options_;
  Index layers_ = 0, heads_ = 0;
  std::vector<Index> samples_;  // [samples, L, H]
};

/// Layers that may skip tokens: all but the `dense` ones of the highest ranks; of equal ranks the earlier stay dense.
/// Ascending. Throws OptionError for a number that is none of 0..L.
inline std::vector<Index> layers_to_skip(const std::vector<double>& ranks, Index dense) {
  const auto layers = std::ssize(ranks);
  expect_option(dense >= 0 && dense <= layers, "layers_to_skip", "dense", dense,
                "0 to the " + std::to_string(layers) + " layers there are");
  std::vector<Index> order(ranks.size());
  std::iota(order.begin(), order.end(), Index{0});
  std::ranges::stable_sort(order, std::greater<>(), [&](Index l) { return ranks[static_cast<std::size_t>(l)]; });
  order.erase(order.begin(), order.begin() + dense);
  std::ranges::sort(order);
  return order;
}
/// All layers below a rank, as the authors choose them. Ascending.
inline std::vector<Index> layers_below(const std::vector<double>& ranks, double threshold) {
  std::vector<Index> below;
  for (std::size_t l = 0; l < ranks.size(); ++l)
    if (ranks[l] < threshold) below.push_back(static_cast<Index>(l));
  return below;
}

}  // namespace gatefold
