#pragma once
#include <array>
#include <filesystem>
#include <fstream>

#include "gatefold/core/error.hpp"

namespace zero_shot {

/// Throws FormatError where --model names a file that is no model at all, such as a picture: the readers of models
/// would take its first bytes for a length. What only needs to be converted is left to them, for they say how.
inline void expect_model(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) return;
  const auto end = path.extension();
  if (end == ".pt" || end == ".pth" || end == ".bin" || end == ".json") return;
  std::array<char, 9> begin{};  // 8 bytes of length and a JSON object
  std::ifstream file(path, std::ios::binary);
  if (!file) return;  // which the reader explains
  if (file.read(begin.data(), begin.size()) && begin[8] == '{') return;
  throw gatefold::FormatError(path.string() +
                              ": is no model, for it does not begin as a .safetensors file does; name the folder of a "
                              "CLIP, or a model of train_limoe (--model run/model.safetensors)");
}

}  // namespace zero_shot
