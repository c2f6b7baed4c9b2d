#pragma once
#include <string>
#include <unordered_map>

#include "gatefold/module/visit.hpp"

namespace gatefold {

/// The paths of a module's parameters by where they lie: for functions of a single weight that depend on its path. Valid
/// until the module is moved or changed in structure.
class ParamPaths {
 public:
  template <class M>
  explicit ParamPaths(const M& module) {
    for_each_param(
        [&](std::string_view path, const auto& tensor) {
          const auto add = [&](const void* at) { path_.try_emplace(at, path); };
          add(&tensor);
        },
        module);
  }

  /// Of the parameter that begins there: a tensor or, of a storage that is a module, its first. Throws
  /// std::invalid_argument where there is none.
  std::string_view operator()(const void* parameter) const {
    const auto at = path_.find(parameter);
    if (at == path_.end()) throw std::invalid_argument("ParamPaths: not a parameter of the module");
    return at->second;
  }

 private:
  std::unordered_map<const void*, std::string> path_;
};

}  // namespace gatefold
