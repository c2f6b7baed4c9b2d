#pragma once
#include "gatefold/io/json_file.hpp"
#include "gatefold/io/sharded_safetensors.hpp"

namespace gatefold {

namespace detail {

/// How to get one: as a command, for messages.
inline std::string clip_download(const std::string& folder, const std::string& files = "") {
  return "hf download openai/clip-vit-base-patch32 " + files + "--revision refs/pr/15 --local-dir " + folder;
}

[[noreturn]] inline void refuse_pickle(const std::filesystem::path& path) {
  const auto to = path.parent_path() / "model.safetensors";
  throw FormatError(
      path.string() +
      ": is a pickle, which may run any code and is not read here. Most models come as safetensors too, OpenAI's with\n"
      "  " +
      clip_download(path.parent_path().string(), "model.safetensors ") +
      "\nWhere yours does not and you trust it, turn it into one (pip install torch safetensors numpy):\n"
      "  python3 -c \"import sys, torch; from safetensors.torch import save_file; d = torch.load(sys.argv[1], "
      "map_location='cpu', weights_only=True); d = d.get('state_dict', d); save_file({k.removeprefix('module.'): "
      "v.clone().contiguous() for k, v in d.items()}, sys.argv[2])\" " +
      path.string() + " " + to.string() +
      "\n(the archives of openaipublic.azureedge.net, which are TorchScript, with examples/convert_clip.py)");
}

inline bool is_pickle_name(const std::filesystem::path& path) {
  const auto end = path.extension();
  return end == ".pt" || end == ".pth" || end == ".bin" || end == ".ckpt" || end == ".pkl";
}

}  // namespace detail

/// Where the weights of a folder are. Throws FormatError that says what to put there.
inline ShardedSafeTensors open_clip_weights(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  if (!fs::exists(path))
    throw FormatError(path.string() + ": does not exist; expected a .safetensors file, or a folder as this makes it: " +
                      detail::clip_download("FOLDER"));
  if (!fs::is_directory(path)) {
    if (detail::is_pickle_name(path)) detail::refuse_pickle(path);
    return path.filename().string().ends_with(".index.json") ? ShardedSafeTensors::open_index(path)
                                                             : ShardedSafeTensors::open(path);
  }
  if (const auto index = path / "model.safetensors.index.json"; fs::exists(index))
    return ShardedSafeTensors::open_index(index);
  for (const auto* name : {"model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"})
    if (fs::exists(path / name)) return ShardedSafeTensors::open(path / name);
  std::vector<fs::path> weights, pickles;
  for (const auto& file : fs::directory_iterator(path)) {
    if (file.path().extension() == ".safetensors") weights.push_back(file.path());
    if (detail::is_pickle_name(file.path())) pickles.push_back(file.path());
  }
  if (weights.size() == 1) return ShardedSafeTensors::open(weights[0]);
  std::ranges::sort(pickles);
  if (weights.empty() && !pickles.empty()) detail::refuse_pickle(pickles[0]);
  throw FormatError(
      path.string() + (weights.empty() ? ": has no weights" : ": has several .safetensors files") +
      ", expected model.safetensors, or model.safetensors.index.json with its shards, as in a folder that "
      "this makes: " +
      detail::clip_download("FOLDER"));
}

}  // namespace gatefold
