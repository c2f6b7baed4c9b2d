#pragma once
#include <string>
#include <string_view>
#include <utility>

#include "gatefold/core/language.hpp"

namespace gatefold {

/// Names parameters by their dotted path, whole: `*` stands for any run of characters (dots too), `?` for one. So
/// "router*" is the router of this module, "*.router.*" every router below it, "*.bias" every bias below it.
class PathPattern {
 public:
  explicit PathPattern(std::string text) : text_(std::move(text)) {}

  const std::string& text() const { return text_; }

  /// O(pattern * path) at worst: on a mismatch only the last `*` is widened, which is enough, since an earlier one that
  /// took more would leave less for the rest.
  bool matches(std::string_view path) const {
    std::size_t p = 0, at = 0, star = std::string::npos, resume = 0;
    while (at < path.size()) {
      if (p < text_.size() && text_[p] == '*') {
        star = p++;
        resume = at;
      } else if (p < text_.size() && (text_[p] == '?' || text_[p] == path[at])) {
        ++p;
        ++at;
      } else if (star != std::string::npos) {
        p = star + 1;
        at = ++resume;
      } else {
        return false;
      }
    }
    while (p < text_.size() && text_[p] == '*') ++p;
    return p == text_.size();
  }

  bool operator==(const PathPattern&) const = default;

 private:
  std::string text_;
};

}  // namespace gatefold
