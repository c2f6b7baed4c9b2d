#pragma once
#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "gatefold/core/error.hpp"
#include "gatefold/core/tensor.hpp"

namespace gatefold {

/// How alike the models of the stages so far hold each sample: the pseudo labels of multistage contrastive learning
/// (MCL: Zhang et al. 2024, arXiv 2409.19291, section 3.1). Each stage tells its clusters, y; the label is fold(label K
/// + y), so two samples share one as long as every stage has put them together. 3 clusters of images and 3 of texts
/// make K = 9 a stage; negatives then come from among 9, 81, 729 labels.
///
///   PseudoLabels labels(num_samples);
///   labels.append({.text = text_label, .image = image_label, .num_text = 3, .num_image = 3});  // after each stage
///   ClusterSampler sampler(labels.values(), {.batch = 256});
///
/// A sample without a cluster (-1: a row that is not finite, see KMeans::assign) has the label -1 from then on. A
/// Module, so save and load keep it between stages.
struct PseudoLabels {
  /// The clusters of one stage. // text, image [N], -1 for none
  struct Stage {
    std::span<const Index> text, image;
    Index num_text = 3, num_image = 3;
  };

  Tensor<Index, 1> label;                  // [N]
  Tensor<Index, 1> possible{Shape<1>{1}};  // [1] labels there can be: the product of K over the stages

  /// One label for all: 0. Throws OptionError for a negative number.
  explicit PseudoLabels(Index num_samples) : label(checked(num_samples)) { possible.flat()[0] = 1; }
  static void visit(auto& v, auto&... self) {
    v("label", self.label...);
    v("possible", self.possible...);
  }

  std::span<const Index> values() const { return label.flat(); }

  /// y = num_image text + image, as the authors number them; then as below. Throws likewise.
  void append(const Stage& stage) {
    expect_size("PseudoLabels::append", "num_text", stage.num_text);
    expect_size("PseudoLabels::append", "num_image", stage.num_image);
    check("text", stage.text, stage.num_text);
    check("image", stage.image, stage.num_image);
    fold(stage.num_text * stage.num_image, [&](std::size_t i) {
      const Index text = stage.text[i], image = stage.image[i];
      return text < 0 || image < 0 ? Index{-1} : stage.num_image * text + image;
    });
  }
  /// Clusters of pairs, or of one modality. Throws ShapeError for another number of samples, OptionError for a cluster
  /// outside -1..num_clusters-1 and for more labels than an Index can tell apart; the labels then are as before.
  /// // y [N]
  void append(std::span<const Index> y, Index num_clusters) {
    expect_size("PseudoLabels::append", "num_clusters", num_clusters);
    check("y", y, num_clusters);
    fold(num_clusters, [&](std::size_t i) { return y[i]; });
  }

  /// How many different labels there are, -1 aside.
  Index num_used() const {
    std::vector<Index> sorted(label.flat().begin(), label.flat().end());
    std::erase(sorted, -1);
    std::ranges::sort(sorted);
    return std::unique(sorted.begin(), sorted.end()) - sorted.begin();
  }

 private:
  static Shape<1> checked(Index num_samples) {
    expect_option(num_samples >= 0, "PseudoLabels", "num_samples", num_samples, "at least 0");
    return {num_samples};
  }

  void check(std::string_view name, std::span<const Index> y, Index num_clusters) const {
    const View<const Index, 1> view(y.data(), {std::ssize(y)});
    expect_shape(view, label.shape(), "PseudoLabels::append: " + std::string(name));
    for (const Index c : y)
      if (!(-1 <= c && c < num_clusters))
        throw OptionError("PseudoLabels::append: " + std::string(name) + " has cluster " + std::to_string(c) +
                          ", expected -1.." + std::to_string(num_clusters - 1));
  }

  template <class Y>
  void fold(Index num_clusters, Y&& y) {
    const Index before = possible.flat()[0];
    expect_option(before <= std::numeric_limits<Index>::max() / num_clusters, "PseudoLabels::append", "num_clusters",
                  num_clusters, "fewer: the labels of all stages together no longer fit into 63 bits");
    possible.flat()[0] = before * num_clusters;
    for (std::size_t i = 0; i < label.flat().size(); ++i) {
      Index& l = label.flat()[i];
      const Index c = y(i);
      l = l < 0 || c < 0 ? -1 : l * num_clusters + c;
    }
  }
};

}  // namespace gatefold
