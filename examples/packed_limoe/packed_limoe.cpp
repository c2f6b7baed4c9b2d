#include "packed_limoe/packed_limoe.hpp"

#include <map>

namespace gatefold {
namespace {

const std::map<std::string, std::unique_ptr<PackedLimoe> (*)(const Limoe<float>&)>& formats() {
  static const std::map<std::string, std::unique_ptr<PackedLimoe> (*)(const Limoe<float>&)> all{
      {"fp32", pack_limoe<float>}, {"bf16", pack_limoe<bf16>}, {"int8", pack_limoe<int8>}, {"int4", pack_limoe<int4>}};
  return all;
}

}  // namespace

std::vector<std::string> packed_formats() {
  std::vector<std::string> names;
  for (const auto& [name, pack] : formats()) names.push_back(name);
  return names;
}

std::unique_ptr<PackedLimoe> pack_as(const std::string& format, const Limoe<float>& model) {
  return formats().at(format)(model);
}

}  // namespace gatefold
