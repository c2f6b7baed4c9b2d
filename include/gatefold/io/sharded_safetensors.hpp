#pragma once
#include <set>

#include "gatefold/io/json_file.hpp"
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

  /// Throws FormatError that names the file: not sound, cut short, not there, not a safetensors at all, or not what its
  /// checksum says (which files of other writers have not).
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
    const auto json = read_json_object(path, std::size_t{64} << 20);
    const auto map = json.find("weight_map");
    if (map == json.end() || !map->is_object()) refuse("is no index of shards (no «weight_map»)");
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
    for (const auto& name : shards) {
      const auto shard = path.parent_path() / name;
      std::error_code error;  // as of a name that is too long
      if (!std::filesystem::exists(shard, error))
        refuse("names the shard " + detail::quote_text(name) + ", which is not beside it; download that as well");
      all.add(shard);
    }
    for (const auto& [tensor, shard] : map->items())
      if (!all.find(tensor))
        refuse("the index has " + detail::quote_text(tensor) + " in " + detail::quote_text(shard.get<std::string>()) +
               ", where it is not");
    return all;
  }

  /// The same tensors under other names: rename(name) gives a part of the name, or nothing for a tensor that is left
  /// out. Throws FormatError when two come to have the same name.
  template <class Rename>
  ShardedSafeTensors renamed(Rename&& rename) const {
    ShardedSafeTensors other;
    other.source_ = source_;
    other.files_ = files_;
    for (const auto& [name, tensor] : tensors_) {
      const std::string_view fresh = rename(name);
      if (!fresh.empty() && !other.tensors_.emplace(fresh, tensor).second)
        throw FormatError(source_ + ": has two tensors that stand for " + detail::quote_text(std::string(fresh)));
    }
    return other;
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
    std::error_code unknown;
    if (std::filesystem::is_symlink(path, unknown) && !std::filesystem::exists(path, unknown))
      throw FormatError(path.string() + ": is a link to " + std::filesystem::read_symlink(path).string() +
                        ", which is not there; copy what it stands for (cp -rL)");
    auto mapped = read(path);
    const auto head = mapped.bytes().first(std::min<std::size_t>(mapped.bytes().size(), 64));
    const std::string begin(reinterpret_cast<const char*>(head.data()), head.size());
    try {
      files_.push_back(std::make_shared<const SafeTensors>(std::move(mapped)));
    } catch (const FormatError& error) {
      for (const auto& [start, what] :
           {std::pair("version https://git-lfs",
                      "a pointer of Git LFS, not the file; run «git lfs pull» in its folder"),
            {"<", "a web page, not the file; download what its «download» leads to"},
            {"{", "JSON, expected a .safetensors; of a model's folder, name the folder"},
            {"PK\3\4", "an archive or a pickle under another name, expected a .safetensors"}})
        if (begin.starts_with(start)) throw FormatError(path.string() + ": is " + what);
      throw FormatError(std::string(error.what()) + " (if the file was cut short, download it again)");
    }
    files_.back()->expect_checksum();
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
