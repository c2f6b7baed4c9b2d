#pragma once
#include "gatefold/io/json_file.hpp"
#include "gatefold/io/sharded_safetensors.hpp"
#include "gatefold/models/name_map.hpp"

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

/// Where the tensors of a CLIP stand within a file: in front of their names may be what a wrapper was called.
struct ClipRoot {
  ClipNames names;
  std::string prefix;  ///< Such as «module.», or empty.
  bool operator==(const ClipRoot&) const = default;
};

/// Nothing when no tensor is one of a CLIP. Throws FormatError when a file holds several.
inline std::optional<ClipRoot> clip_root(const ShardedSafeTensors& file) {
  struct Sign {
    ClipNames names;
    std::string_view end;  ///< Of the name of a tensor that every such CLIP has.
  };
  static constexpr Sign kSigns[] = {{ClipNames::hugging_face, "vision_model.embeddings.class_embedding"},
                                    {ClipNames::hugging_face, "text_model.embeddings.token_embedding.weight"},
                                    {ClipNames::open_clip, "visual.class_embedding"},
                                    {ClipNames::open_clip, "visual.conv1.weight"}};
  for (const auto names : {ClipNames::hugging_face, ClipNames::open_clip}) {
    std::set<std::string> prefixes;
    for (const auto& [name, tensor] : file.tensors())
      for (const auto& sign : kSigns)
        if (sign.names == names && name.ends_with(sign.end)) {
          const auto prefix = name.substr(0, name.size() - sign.end.size());
          if (prefix.empty() || prefix.ends_with('.')) prefixes.emplace(prefix);
        }
    if (prefixes.empty()) continue;
    if (prefixes.size() == 1 || prefixes.contains("")) return ClipRoot{names, *prefixes.begin()};
    std::string all;
    for (const auto& prefix : prefixes) all += (all.empty() ? "" : ", ") + quote_text(prefix);
    throw FormatError(file.source() + ": holds parts of several models, under " + all +
                      "; write a file with one of them");
  }
  // What has lost the tensors above is still told what it lacks.
  for (const auto& [names, begin] : {std::pair(ClipNames::hugging_face, "vision_model."),
                                     {ClipNames::hugging_face, "text_model."},
                                     {ClipNames::open_clip, "visual."},
                                     {ClipNames::open_clip, "transformer.resblocks."}})
    if (const auto at = file.tensors().lower_bound(begin); at != file.tensors().end() && at->first.starts_with(begin))
      return ClipRoot{names, ""};
  return std::nullopt;
}

inline constexpr const char* kClipWeightsNames[] = {"model.safetensors.index.json", "model.safetensors",
                                                    "open_clip_model.safetensors",
                                                    "open_clip_pytorch_model.safetensors"};
inline bool is_well_known(const std::filesystem::path& path) {
  return std::ranges::find(kClipWeightsNames, path.filename().string()) != std::end(kClipWeightsNames);
}

/// The .safetensors of a folder, in the order in which they are looked at.
inline std::vector<std::filesystem::path> clip_candidates(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found, others;
  for (const auto* name : kClipWeightsNames)
    if (std::filesystem::exists(folder / name)) found.push_back(folder / name);
  if (!found.empty()) return found;
  for (const auto& file : std::filesystem::directory_iterator(folder))
    if (file.path().extension() == ".safetensors") others.push_back(file.path());
  std::ranges::sort(others);
  return others;
}

inline ShardedSafeTensors open_weights(const std::filesystem::path& path) {
  if (is_pickle_name(path)) refuse_pickle(path);
  return path.filename().string().ends_with(".index.json") ? ShardedSafeTensors::open_index(path)
                                                           : ShardedSafeTensors::open(path);
}

}  // namespace detail

/// The folder that holds the files of a model, where another was named that leads to it: one of Hugging Face's cache
/// (models--OWNER--NAME with its snapshots), or one of sentence-transformers (0_CLIPModel). Any other path as it is.
/// Throws FormatError where there are several.
inline std::filesystem::path clip_folder(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  if (fs::is_directory(path / "0_CLIPModel")) return path / "0_CLIPModel";
  if (!fs::is_directory(path / "snapshots")) return path;
  if (const auto main = path / "refs" / "main"; fs::exists(main)) {
    auto commit = read_text_file(main, 1000);
    commit.erase(std::ranges::find_if(commit, [](unsigned char c) { return !std::isalnum(c); }), commit.end());
    if (!commit.empty() && fs::is_directory(path / "snapshots" / commit))
      return clip_folder(path / "snapshots" / commit);
  }
  std::vector<fs::path> snapshots;
  for (const auto& snapshot : fs::directory_iterator(path / "snapshots"))
    if (snapshot.is_directory()) snapshots.push_back(snapshot.path());
  if (snapshots.size() == 1) return clip_folder(snapshots[0]);
  std::ranges::sort(snapshots);
  std::string all;
  for (const auto& snapshot : snapshots) all += "\n  " + snapshot.string();
  throw FormatError(path.string() + ": is a folder of Hugging Face's cache with " +
                    (snapshots.empty() ? "no snapshot; download the model again"
                                       : "several snapshots, of which none is its main one; name one of them:" + all));
}

/// The weights that a path names: a file, or what in a folder (see clip_folder) is a CLIP, whatever it is called; of
/// several well-known names the one that Hugging Face uses comes first. Throws FormatError that says what to put there.
inline ShardedSafeTensors open_clip_weights(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  if (!fs::exists(path))
    throw FormatError(path.string() + ": does not exist; expected a .safetensors file, or a folder as this makes it: " +
                      detail::clip_download("FOLDER"));
  if (!fs::is_directory(path)) return detail::open_weights(path);
  const auto folder = clip_folder(path);
  const auto candidates = detail::clip_candidates(folder);
  std::vector<fs::path> clips;
  for (const auto& candidate : candidates) {
    if (candidates.size() == 1) return detail::open_weights(candidate);
    auto file = detail::open_weights(candidate);
    if (!detail::clip_root(file)) continue;
    if (detail::is_well_known(candidate)) return file;
    clips.push_back(candidate);
  }
  if (clips.size() == 1) return detail::open_weights(clips[0]);
  if (!candidates.empty() && detail::is_well_known(candidates[0])) return detail::open_weights(candidates[0]);
  std::vector<fs::path> pickles;
  for (const auto& file : fs::directory_iterator(folder))
    if (detail::is_pickle_name(file.path())) pickles.push_back(file.path());
  std::ranges::sort(pickles);
  if (candidates.empty() && !pickles.empty()) detail::refuse_pickle(pickles[0]);
  throw FormatError(
      folder.string() + (candidates.empty() ? ": has no weights" : ": has several .safetensors files") +
      ", expected model.safetensors, or model.safetensors.index.json with its shards, as in a folder that "
      "this makes: " +
      detail::clip_download("FOLDER"));
}

}  // namespace gatefold
