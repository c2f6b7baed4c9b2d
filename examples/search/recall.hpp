#pragma once
#include <array>
#include <functional>

#include "gatefold/core/view.hpp"

namespace search {

using gatefold::Index;

/// Percentages of questions with a right answer among the first 1, 5 and 10.
class Recall {
 public:
  static constexpr std::array<Index, 3> kAt{1, 5, 10};

  /// Questions from `first` on, some at a time. A question is answered at k if fewer than k wrong answers are at least
  /// as near as the nearest right one: a tie is never luck. What is not a number is no answer. // [questions, answers]
  void add(gatefold::Rows<const float> similarity, Index first, const std::function<bool(Index, Index)>& right) {
    for (Index q = 0; q < similarity.extent(0); ++q) {
      bool found = false;
      float nearest = 0;
      for (Index a = 0; a < similarity.extent(1); ++a) {
        const float s = similarity(q, a);
        if (s == s && right(first + q, a) && (!found || s > nearest)) nearest = s, found = true;
      }
      Index before = 0;
      for (Index a = 0; a < similarity.extent(1); ++a) before += !right(first + q, a) && similarity(q, a) >= nearest;
      for (std::size_t k = 0; k < kAt.size(); ++k) answered_[k] += found && before < kAt[k];
      ++questions_;
    }
  }

  Index questions() const { return questions_; }
  double percent(std::size_t k) const {
    return 100 * static_cast<double>(answered_[k]) / static_cast<double>(questions_);
  }

 private:
  std::array<Index, 3> answered_{};
  Index questions_ = 0;
};

}  // namespace search
