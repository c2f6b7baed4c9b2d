#pragma once
#include <map>
#include <stdexcept>
#include <string>
#include <variant>

#include "gatefold/models/limoe.hpp"

namespace gatefold {

/// A LIMoE for inference in a format that is chosen at run time.
using PackedLimoe = std::variant<Limoe<float, Packed<float>>, Limoe<float, Packed<bf16>>, Limoe<float, Packed<int8>>,
                                 Limoe<float, Packed<int4>>>;

/// The formats by name, for --format.
inline const std::map<std::string, PackedLimoe (*)(const Limoe<float>&)>& packed_formats() {
  static const std::map<std::string, PackedLimoe (*)(const Limoe<float>&)> formats = {
      {"fp32", [](const Limoe<float>& model) { return PackedLimoe(pack<float>(model)); }},
      {"bf16", [](const Limoe<float>& model) { return PackedLimoe(pack<bf16>(model)); }},
      {"int8", [](const Limoe<float>& model) { return PackedLimoe(pack<int8>(model)); }},
      {"int4", [](const Limoe<float>& model) { return PackedLimoe(pack<int4>(model)); }}};
  return formats;
}

/// Throws std::out_of_range for a name that is none.
inline PackedLimoe pack_as(const std::string& format, const Limoe<float>& model) {
  return packed_formats().at(format)(model);
}

}  // namespace gatefold
