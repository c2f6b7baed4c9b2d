#pragma once
#include <string>
#include <unordered_map>

#include "gatefold/module/visit.hpp"

namespace gatefold {

/// The paths of a module's parameters by where they lie: for functions of a single weight that depend on its path.
/// Valid until the module is moved or changed in structure.
class ParamPaths {
 public:
  template <class M>
  explicit ParamPaths(const M& module) {
    for_each_param([&](std::string_view path, const auto& tensor) { path_.try_emplace(&tensor, path); }, module);
  }

  /// Of a parameter. Throws std::invalid_argument for one that is another's.
  std::string_view operator()(const void* tensor) const {
    const auto at = path_.find(tensor);
    if (at == path_.end()) throw std::invalid_argument("ParamPaths: not a parameter of the module");
    return at->second;
  }

 private:
  std::unordered_map<const void*, std::string> path_;
};

}  // namespace gatefold
