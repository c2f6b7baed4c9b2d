#pragma once
#include "gatefold/adapt/mask.hpp"
#include "gatefold/io/safetensors.hpp"

namespace gatefold {

/// The key of a file's metadata under which it says how sparse a tensor is, as to_text writes it: «2:4».
inline std::string sparsity_key(std::string_view tensor) { return "gatefold.sparsity." + std::string(tensor); }

/// Throws FormatError for a tensor that is not N of M though the file says so, «FILE: TENSOR: row 3 has 3 of the 4
/// inputs from 8 on, expected at most 2», and for one that is not there. Reads those tensors once.
inline void expect_sparsity(const SafeTensors& file) {
  const std::string prefix = sparsity_key("");
  std::vector<float> values;
  for (const auto& [key, text] : file.metadata()) {
    if (!key.starts_with(prefix)) continue;
    const std::string name = key.substr(prefix.size()), place = file.source() + ": " + name;
    Sparsity sparsity;
    try {
      sparsity = sparsity_of(text);
    } catch (const OptionError& error) {
      throw FormatError(place + ": " + error.what());
    }
    const auto* const groups = std::get_if<NOfM>(&sparsity);
    const auto* const entry = file.find(name);
    if (!entry || entry->shape.size() != 2 || !decodes_to<float>(entry->dtype))
      throw FormatError(place + ": is said to be sparse, but is no matrix of numbers in the file");
    if (!groups) continue;
    values.resize(static_cast<std::size_t>(entry->shape[0] * entry->shape[1]));
    decode(entry->dtype, entry->bytes, std::span(values));
    expect_n_of_m(Rows<const float>(values.data(), {entry->shape[0], entry->shape[1]}), *groups, place);
  }
}

}  // namespace gatefold
