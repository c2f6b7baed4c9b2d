#pragma once
#include <map>
#include <span>
#include <vector>

#include "gatefold/train/shuffle.hpp"

namespace gatefold {

/// Batches of samples of one cluster each, so that all negatives of a sample are alike (MCL_batch_sampler_DDP of the
/// code beside arXiv 2409.19291): of each cluster of n samples a random floor(n / B) B, one batch of each cluster in
/// turn, by the number of the cluster. A cluster smaller than a batch gives nothing, nor do samples with a negative
/// label. Endless: each pass draws anew, the rest that it leaves out too. Batch `step` is a function of the seed, so a
/// run that goes on at any step needs no state:
///   const ClusterSampler sampler(labels, {.batch = 256, .seed = 1});
///   std::vector<Index> chosen(256);
///   for (Index step = 0; step < 3 * sampler.num_batches(); ++step) sampler.batch(step, chosen);
class ClusterSampler {
 public:
  struct Options {
    Index batch;  ///< B, over all workers
    std::uint64_t seed = 0;
  };
  /// What a pass uses, and what not.
  struct Counts {
    Index samples = 0;        ///< All there are.
    Index used = 0;           ///< In full batches, in one pass.
    Index left_over = 0;      ///< The rest of clusters that fill a batch: others in each pass.
    Index in_small = 0;       ///< In clusters that do not: never used.
    Index without_label = 0;  ///< Negative labels: never used.
    Index clusters = 0, clusters_used = 0;
    bool operator==(const Counts&) const = default;
  };

  /// Throws OptionError for a batch below 1 and where no cluster fills one. // label [N]
  ClusterSampler(std::span<const Index> label, const Options& o) : options_(o) {
    expect_size("ClusterSampler", "batch", o.batch);
    std::map<Index, std::vector<Index>> all;
    for (std::size_t i = 0; i < label.size(); ++i) {
      if (label[i] < 0)
        ++counts_.without_label;
      else
        all[label[i]].push_back(static_cast<Index>(i));
    }
    counts_.samples = std::ssize(label);
    counts_.clusters = std::ssize(all);
    Index largest = 0;
    for (auto& [number, samples] : all) {
      const Index size = std::ssize(samples), rest = size % o.batch;
      largest = std::max(largest, size);
      if (size < o.batch) {
        counts_.in_small += size;
        continue;
      }
      ++counts_.clusters_used;
      counts_.left_over += rest;
      counts_.used += size - rest;
      clusters_.push_back({number, std::move(samples)});
    }
    expect_option(counts_.used > 0, "ClusterSampler", "batch", o.batch,
                  "at most the size of the largest cluster, " + std::to_string(largest));
    for (Index round = 0, before = -1; before < std::ssize(turns_); ++round) {
      before = std::ssize(turns_);
      for (std::size_t c = 0; c < clusters_.size(); ++c)
        if ((round + 1) * o.batch <= std::ssize(clusters_[c].samples)) turns_.push_back({c, round});
    }
  }

  const Counts& counts() const { return counts_; }
  /// Of a pass.
  Index num_batches() const { return std::ssize(turns_); }
  /// The label that all samples of a batch have. Throws OptionError for a negative step.
  Index label_of(Index step) const { return clusters_[turn(step).cluster].label; }

  /// Throws OptionError for a negative step, ShapeError unless there is room for one batch. // chosen [B]
  void batch(Index step, std::span<Index> chosen) const {
    expect_shape(View<Index, 1>(chosen.data(), {std::ssize(chosen)}), {options_.batch},
                 "ClusterSampler::batch: chosen");
    const auto [cluster, round] = turn(step);
    const auto& [label, samples] = clusters_[cluster];
    // A key for each cluster: with one for all, clusters of one size would be shuffled alike.
    const auto word =
        philox({static_cast<std::uint32_t>(label), static_cast<std::uint32_t>(label >> 32), 0, 0},
               {static_cast<std::uint32_t>(options_.seed), static_cast<std::uint32_t>(options_.seed >> 32)});
    const Shuffle order{.size = std::ssize(samples), .seed = std::uint64_t{word[0]} << 32 | word[1]};
    const Index begin = step / num_batches() * order.size + round * options_.batch;
    for (std::size_t i = 0; i < chosen.size(); ++i)
      chosen[i] = samples[static_cast<std::size_t>(order(begin + static_cast<Index>(i)))];
  }

 private:
  struct Cluster {
    Index label;
    std::vector<Index> samples;
  };
  struct Turn {
    std::size_t cluster;
    Index round;  // which of the cluster's batches
  };

  const Turn& turn(Index step) const {
    expect_option(step >= 0, "ClusterSampler", "step", step, "at least 0");
    return turns_[static_cast<std::size_t>(step % num_batches())];
  }

  Options options_;
  Counts counts_;
  std::vector<Cluster> clusters_;  // those that fill a batch
  std::vector<Turn> turns_;        // the order of a pass
};

}  // namespace gatefold
