#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gatefold/core/tensor.hpp"
#include "gatefold/io/atomic_file.hpp"
#include "gatefold/io/safetensors_writer.hpp"

namespace search {

using gatefold::Index;

/// What a model made of photographs and of labels, for other programs.
struct Embeddings {
  std::vector<std::string> images, labels;                   // [N], [L] the names of the rows
  gatefold::Tensor<float, 2> z_images{{0, 0}};               // [N, P] of length 1
  gatefold::Tensor<float, 2> z_labels{{0, 0}};               // [L, P] of length 1
  std::vector<std::pair<std::string, std::string>> facts{};  ///< Of the model, say.
};

namespace detail {

inline std::string as_json(const std::vector<std::string>& texts) {
  return nlohmann::json(texts).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// What stands in front of the numbers of a .npy file, to the byte as numpy writes it (numpy.lib.format, version 1.0):
/// filled up to a multiple of 64, and with room for a first axis of 21 digits.
inline std::string npy_header(Index rows, Index columns) {
  std::string text = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rows) + ", " +
                     std::to_string(columns) + "), }";
  text.append(21 - std::to_string(rows).size(), ' ');
  const std::size_t head = 10, whole = (head + text.size() + 1 + 63) / 64 * 64;
  text.append(whole - head - text.size() - 1, ' ');
  text += '\n';
  return std::string("\x93NUMPY\x01", 7) + '\0' + static_cast<char>(text.size() & 255) +
         static_cast<char>(text.size() >> 8) + text;
}

}  // namespace detail

/// The names of rows of a .npy file, which has no place for them.
inline std::filesystem::path npy_names(std::filesystem::path path) { return path += ".json"; }

/// One array, images first, then labels: [N + L, P] of floats. Their names are in npy_names. Throws std::system_error.
inline void write_npy(const Embeddings& e, const std::filesystem::path& path) {
  const Index columns = std::max(e.z_images.extent(1), e.z_labels.extent(1));
  nlohmann::ordered_json names;
  for (const auto& [key, value] : e.facts) names[key] = value;
  names["images"] = e.images;
  names["labels"] = e.labels;
  const auto text = names.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  const auto header = detail::npy_header(e.z_images.extent(0) + e.z_labels.extent(0), columns);
  gatefold::AtomicFile beside(npy_names(path)), file(path);
  beside.write(std::as_bytes(std::span(text)));
  file.write(std::as_bytes(std::span(header)));
  file.write(std::as_bytes(e.z_images.flat()));
  file.write(std::as_bytes(e.z_labels.flat()));
  file.commit();
  beside.commit();
}

/// Tensors «images» and «labels»; metadata of the same names are lists of the rows' names in JSON. Throws
/// std::system_error.
inline void write_safetensors(const Embeddings& e, const std::filesystem::path& path) {
  gatefold::SafeTensorsWriter writer;
  writer.add("images", e.z_images.view());
  writer.add("labels", e.z_labels.view());
  writer.add_metadata("images", detail::as_json(e.images));
  writer.add_metadata("labels", detail::as_json(e.labels));
  for (const auto& [key, value] : e.facts) writer.add_metadata(key, value);
  writer.write(path);
}

}  // namespace search
