#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gatefold/core/tensor.hpp"
#include "gatefold/io/atomic_file.hpp"

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
void write_npy(const Embeddings& e, const std::filesystem::path& path);

/// Tensors «images» and «labels»; metadata of the same names are lists of the rows' names in JSON. Throws
/// std::system_error.
void write_safetensors(const Embeddings& e, const std::filesystem::path& path);

}  // namespace search
