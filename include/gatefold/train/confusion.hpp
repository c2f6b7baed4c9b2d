#pragma once
#include <algorithm>
#include <cstdio>
#include <span>
#include <string>

#include "gatefold/core/error.hpp"
#include "gatefold/core/tensor.hpp"

namespace gatefold {

/// How many samples of each class a classifier took for which.
struct Confusion {
  Tensor<Index, 2> count;  // [classes, classes] rows are what they are, columns what they were taken for

  /// Throws OptionError for fewer than one class.
  explicit Confusion(Index classes) : count(shape_of(classes)) {}

  Index num_classes() const { return count.extent(0); }

  /// Of equal logits the first counts, of NaN none before the others. Throws ShapeError if the arguments do not fit or
  /// a label is no class; a negative one is ignored, as by CrossEntropy. // logits [R, classes], label [R]
  template <class T>
  void add(Rows<const T> logits, View<const Index, 1> label) {
    const Index classes = num_classes();
    expect_shape(logits, {label.extent(0), classes}, "Confusion::add: logits");
    for (Index i = 0; i < label.extent(0); ++i)
      if (label[i] >= classes)
        throw ShapeError("Confusion::add: label[" + std::to_string(i) + "] is " + std::to_string(label[i]) +
                         ", expected less than " + std::to_string(classes));
    for (Index i = 0; i < label.extent(0); ++i) {
      if (label[i] < 0) continue;
      const auto row = logits[i];
      Index best = 0;
      for (Index c = 1; c < classes; ++c)
        if (row[c] > row[best] || row[best] != row[best]) best = c;
      ++count.view()(label[i], best);
    }
  }

  Index total() const { return sum(count.flat()); }
  /// In [0, 1]; 0 without samples.
  double accuracy() const {
    Index right = 0;
    for (Index c = 0; c < num_classes(); ++c) right += count.view()(c, c);
    return share(right, total());
  }
  /// Of the samples of a class, how many were told to be of it.
  double recall(Index c) const { return share(count.view()(c, c), sum(row(c))); }
  /// Of the samples that were told to be of a class, how many are.
  double precision(Index c) const {
    Index told = 0;
    for (Index other = 0; other < num_classes(); ++other) told += count.view()(other, c);
    return share(count.view()(c, c), told);
  }
  /// The class that this one is most often mistaken for; -1 where no mistake was made.
  Index nearest(Index c) const {
    Index worst = -1;
    for (Index other = 0; other < num_classes(); ++other)
      if (other != c && count.view()(c, other) > (worst < 0 ? 0 : count.view()(c, worst))) worst = other;
    return worst;
  }

  /// A table in Markdown, a line for each class. Throws ShapeError unless there is a name for each.
  std::string table(std::span<const char* const> names) const {
    if (std::ssize(names) != num_classes())
      throw ShapeError("Confusion::table: there are " + std::to_string(names.size()) + " names, expected " +
                       std::to_string(num_classes()));
    std::string text = "| class | n | recall % | precision % | most often taken for |\n|---|---|---|---|---|\n";
    for (Index c = 0; c < num_classes(); ++c) {
      const Index other = nearest(c);
      char rates[64];
      std::snprintf(rates, sizeof rates, " | %.1f | %.1f | ", 100 * recall(c), 100 * precision(c));
      text.append("| ").append(names[static_cast<std::size_t>(c)]).append(" | ").append(std::to_string(sum(row(c))));
      text.append(rates).append(other < 0 ? "" : names[static_cast<std::size_t>(other)]).append(" |\n");
    }
    return text;
  }

 private:
  static Shape<2> shape_of(Index classes) {
    expect_size("Confusion", "classes", classes);
    return {classes, classes};
  }
  std::span<const Index> row(Index c) const {
    return count.flat().subspan(static_cast<std::size_t>(c * num_classes()), static_cast<std::size_t>(num_classes()));
  }
  static Index sum(std::span<const Index> counts) {
    Index all = 0;
    for (const Index n : counts) all += n;
    return all;
  }
  static double share(Index part, Index whole) {
    return whole ? static_cast<double>(part) / static_cast<double>(whole) : 0;
  }
};

}  // namespace gatefold
