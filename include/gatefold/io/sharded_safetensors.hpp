#pragma once
#include <set>

#include "gatefold/io/safetensors.hpp"

namespace gatefold {

/// The tensors of one safetensors file, or of several that an index names as one
/// ({"weight_map": {"tensor name": "model-00001-of-00002.safetensors", ...}}, as Hugging Face writes large models).
class ShardedSafeTensors {
 public:
  struct Tensor {
    const SafeTensors* file;
    const SafeTensors::Entry* entry;
  };

  /// Throws FormatError that names the file: not sound, cut short, not there, not a safetensors at all.
  static ShardedSafeTensors open(const std::filesystem::path& path) {
    ShardedSafeTensors all;
    all.source_ = path.string();
    all.add(path);
    return all;
  }

  /// The shards lie beside the index. Throws FormatError, also for a tensor that is not where the index has it.
  static ShardedSafeTensors open_index(const std::filesystem::path& path) {
    ShardedSafeTensors all;
    all.source_ = path.string();
    const auto refuse = [&](const std::string& why) { throw FormatError(all.source_ + ": " + why); };
    const auto bytes = read(path);
    constexpr std::size_t kMaxBytes = std::size_t{64} << 20;
    const auto* const text = reinterpret_cast<const char*>(bytes.bytes().data());
    if (bytes.bytes().size() > kMaxBytes) refuse("an index of more than 64 MiB");
    const auto json = nlohmann::json::parse(text, text + bytes.bytes().size(), nullptr, false);
    const auto map = json.is_object() ? json.find("weight_map") : json.end();
    if (!json.is_object() || map == json.end() || !map->is_object())
      refuse("is no index of shards (no «weight_map»; cut short?)");
    std::set<std::string> shards;
    for (const auto& [tensor, shard] : map->items()) {
      // A name that leads out of the folder is no shard.
      const auto name = shard.is_string() ? shard.get<std::string>() : "";
      if (name.empty() || name.find_first_of("/\\") != name.npos || name.find('\0') != name.npos)
        refuse("the shard of " + detail::quote_text(tensor) + " is " +
               detail::quote_text(shard.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)) +
               ", expected the name of a file");
      shards.insert(name);
    }
    for (const auto& name : shards) all.add(path.parent_path() / name);
    for (const auto& [tensor, shard] : map->items())
      if (!all.find(tensor))
        refuse("the index has " + detail::quote_text(tensor) + " in " + detail::quote_text(shard.get<std::string>()) +
               ", where it is not");
    return all;
  }

  const std::string& source() const { return source_; }
  const std::map<std::string_view, Tensor>& tensors() const { return tensors_; }
  const std::vector<std::shared_ptr<const SafeTensors>>& files() const { return files_; }

  /// Null for a name that no file has. O(log n).
  const Tensor* find(std::string_view name) const {
    const auto at = tensors_.find(name);
    return at == tensors_.end() ? nullptr : &at->second;
  }

 private:
  static MappedFile read(const std::filesystem::path& path) {
    try {
      return MappedFile(path);
    } catch (const std::system_error& error) {
      throw FormatError(error.what());
    }
  }

  void add(const std::filesystem::path& path) {
    auto mapped = read(path);
    const auto head = mapped.bytes().first(std::min<std::size_t>(mapped.bytes().size(), 64));
    const std::string_view begin(reinterpret_cast<const char*>(head.data()), head.size());
    if (begin.starts_with("version https://git-lfs"))
      throw FormatError(path.string() + ": is a pointer of Git LFS, not the file; run «git lfs pull» in its folder");
    try {
      files_.push_back(std::make_shared<const SafeTensors>(std::move(mapped)));
    } catch (const FormatError& error) {
      throw FormatError(std::string(error.what()) + " (if the file was cut short, download it again)");
    }
    for (const auto& entry : files_.back()->entries())
      if (const auto [at, fresh] = tensors_.emplace(entry.name, Tensor{files_.back().get(), &entry}); !fresh)
        throw FormatError(path.string() + ": tensor " + detail::quote_text(entry.name) + " is also in " +
                          at->second.file->source());
  }

  std::string source_;
  std::vector<std::shared_ptr<const SafeTensors>> files_;
  std::map<std::string_view, Tensor> tensors_;
};

}  // namespace gatefold
