#pragma once
#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gatefold/core/error.hpp"
#include "gatefold/module/path_pattern.hpp"
#include "gatefold/module/visit.hpp"

namespace gatefold {

/// Which parameters are trained, by path (see PathPattern). An optimiser leaves the others as they are, to the bit: no
/// update, no decay, no change of their moments. By default all are trained.
///   Trainable::only({"*.experts.*"})        Trainable::all_but({"*.router.*", "embed.*"})
class Trainable {
 public:
  Trainable() = default;
  static Trainable only(const std::vector<std::string>& patterns) { return Trainable(Kind::only, patterns); }
  static Trainable all_but(const std::vector<std::string>& patterns) { return Trainable(Kind::all_but, patterns); }

  bool operator()(std::string_view path) const {
    const auto hit = [&](const PathPattern& pattern) { return pattern.matches(path); };
    return std::ranges::any_of(patterns_, hit) == (kind_ == Kind::only);
  }

  /// Throws OptionError for a pattern that names no parameter of the module: what was to be frozen would be trained.
  template <class M>
  void expect_known(const M& module) const {
    std::vector<char> used(patterns_.size());
    for_each_param([&](std::string_view path, const auto&) { mark_used(path, used); }, module);
    expect_used(used);
  }

  bool operator==(const Trainable&) const = default;

 private:
  enum class Kind { only, all_but };
  [[gnu::noinline]] void mark_used(std::string_view path, std::vector<char>& used) const {
    for (std::size_t i = 0; i < used.size(); ++i) used[i] |= static_cast<char>(patterns_[i].matches(path));
  }
  [[gnu::noinline]] void expect_used(const std::vector<char>& used) const {
    for (std::size_t i = 0; i < used.size(); ++i)
      expect_option(used[i], "Trainable: the pattern \"" + patterns_[i].text() + "\" matches no parameter");
  }
  Trainable(Kind kind, const std::vector<std::string>& patterns)
      : kind_(kind), patterns_(patterns.begin(), patterns.end()) {}

  Kind kind_ = Kind::all_but;
  std::vector<PathPattern> patterns_;
};

/// How many scalars of the module are trained.
template <class M>
Index count_trained(const M& module, const Trainable& trainable) {
  Index n = 0;
  for_each_param([&](std::string_view path, const auto& t) { n += trainable(path) ? t.size() : 0; }, module);
  return n;
}

}  // namespace gatefold
