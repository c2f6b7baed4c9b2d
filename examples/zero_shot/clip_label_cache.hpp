#pragma once
#include <map>

#include "gatefold/io/safetensors_writer.hpp"
#include "zero_shot/clip_embed.hpp"

namespace zero_shot {

/// Labels' embeddings in a file, for the next run: of one model, format and set of templates, and growing by what is
/// asked for. What it holds is checked before it is used; of another model it is put aside and replaced.
class LabelCache {
 public:
  /// `path` may be new. Throws FormatError when there is something else under it, which must not be overwritten.
  LabelCache(std::filesystem::path path, const ClipModel& clip, const std::vector<std::string>& templates)
      : path_(std::move(path)),
        owner_(clip.identity + " " + clip.format),
        templates_(as_json(templates)),
        width_(clip.options.embedding) {
    if (std::filesystem::exists(path_)) read();
  }

  Index size() const { return std::ssize(at_); }
  const float* find(const std::string& label) const {  // [P]
    const auto at = at_.find(label);
    return at == at_.end() ? nullptr : at->second.data();
  }
  void add(const std::string& label, gatefold::View<const float, 1> z) {
    at_[label] = std::vector<float>(z.data(), z.data() + z.extent(0));
  }

  /// Replaces the file. Throws FormatError when it cannot be written.
  void write() const {
    std::vector<std::string> labels;
    gatefold::Tensor<float, 2> all({size(), width_});
    for (const auto& [label, z] : at_) {
      std::copy(z.begin(), z.end(), all.view()[std::ssize(labels)].data());
      labels.push_back(label);
    }
    gatefold::SafeTensorsWriter writer;
    writer.add("labels", all.view());
    writer.add_metadata(kOwner, owner_);
    writer.add_metadata(kTemplates, templates_);
    writer.add_metadata(kLabels, as_json(labels));
    try {
      writer.write(path_);
    } catch (const std::system_error& error) {
      throw gatefold::FormatError(std::string("--cache: ") + error.what());
    }
  }

 private:
  static constexpr const char *kOwner = "zero_shot.owner", *kTemplates = "zero_shot.templates",
                              *kLabels = "zero_shot.labels";

  static std::string as_json(const std::vector<std::string>& texts) {
    return nlohmann::json(texts).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }

  void read() {
    const auto foreign = [&](const std::string& why) {
      throw gatefold::FormatError("--cache " + path_.string() + ": is no cache of labels (" + why +
                                  ") and is left alone; name another file, or remove it");
    };
    std::optional<gatefold::SafeTensors> file;
    try {
      file.emplace(gatefold::MappedFile(path_));
      file->expect_checksum();
    } catch (const std::exception& error) {
      foreign(error.what());
    }
    const auto& facts = file->metadata();
    if (!facts.contains(kOwner) || !facts.contains(kTemplates) || !facts.contains(kLabels))
      foreign("it lacks its notes");
    if (facts.at(kOwner) != owner_ || facts.at(kTemplates) != templates_) return;
    const auto labels = nlohmann::json::parse(facts.at(kLabels), nullptr, false);
    const auto* tensor = file->find("labels");
    if (!labels.is_array() || !tensor || tensor->dtype != gatefold::Dtype::f32 ||
        tensor->shape != std::vector<Index>{std::ssize(labels), width_})
      return;  // ours, but of no use
    std::vector<float> z(static_cast<std::size_t>(width_));
    for (std::size_t i = 0; i < labels.size(); ++i) {
      gatefold::decode<float>(gatefold::Dtype::f32, tensor->bytes.subspan(i * 4 * z.size(), 4 * z.size()), z);
      double squares = 0;
      for (const float x : z) squares += double{x} * double{x};
      if (labels[i].is_string() && std::abs(squares - 1) < 1e-4) at_[labels[i].get<std::string>()] = z;
    }
  }

  std::filesystem::path path_;
  std::string owner_, templates_;
  Index width_;
  std::map<std::string, std::vector<float>> at_;
};

/// embed_labels of those that the cache does not hold; those it holds afterwards, except labels that are not UTF-8,
/// which its notes cannot name. // [L, P]
inline gatefold::Tensor<float, 2> embed_labels(const ClipModel& clip, std::span<const std::string> labels,
                                               std::span<const std::string> templates, LabelCache& cache,
                                               const EmbedOptions& how, gatefold::Context& ctx) {
  std::vector<std::string> missing;
  for (const auto& label : labels)
    if (!cache.find(label)) missing.push_back(label);
  const auto fresh = embed_labels(clip, missing, templates, how, ctx);
  bool changed = false;
  std::map<std::string, const float*> here;
  for (std::size_t i = 0; i < missing.size(); ++i) {
    const auto row = fresh.view()[static_cast<Index>(i)];
    here.emplace(missing[i], row.data());
    if (!gatefold::is_utf8(missing[i])) continue;
    cache.add(missing[i], row);
    changed = true;
  }
  gatefold::Tensor<float, 2> z({std::ssize(labels), clip.options.embedding});
  for (Index l = 0; l < z.extent(0); ++l) {
    const auto& label = labels[static_cast<std::size_t>(l)];
    const auto at = here.find(label);
    std::copy_n(at != here.end() ? at->second : cache.find(label), z.extent(1), z.view()[l].data());
  }
  if (changed) cache.write();
  return z;
}

}  // namespace zero_shot
