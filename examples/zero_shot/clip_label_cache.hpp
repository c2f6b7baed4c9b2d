#pragma once
#include <map>
#include <optional>

#include "zero_shot/clip_embed.hpp"
#include "zero_shot/saving.hpp"

namespace zero_shot {

/// Labels' embeddings in a file, for the next run: of one model, format and set of templates, and growing by what is
/// asked for. What it holds is checked before it is used; of another model, or damaged, it is put aside and replaced.
/// Programs that write one cache at the same time each add to what the others have written.
class LabelCache {
 public:
  /// `path` may be new. Throws FormatError when there is something else under it, which must not be overwritten, and
  /// when nothing can be written there; OptionError for a model that was opened without sums of its files.
  LabelCache(std::filesystem::path path, const ClipModel& clip, const std::vector<std::string>& templates);

  Index size() const { return std::ssize(at_); }
  const float* find(const std::string& label) const;  // [P]
  /// Only embeddings are kept: rows of length 1, of labels in UTF-8, which its notes can name.
  void add(const std::string& label, gatefold::View<const float, 1> z);

  /// Replaces the file by one that holds as well what others have added to it meanwhile; nothing when nothing was added
  /// here. Throws FormatError when it cannot be written.
  void write();

 private:
  static constexpr const char *kOwner = "zero_shot.owner", *kTemplates = "zero_shot.templates",
                              *kLabels = "zero_shot.labels";

  static std::string as_json(const std::vector<std::string>& texts);
  void read();

  std::filesystem::path path_;
  std::string owner_, templates_, sums_;
  Index width_;
  std::map<std::string, std::vector<float>> at_;
  bool changed_ = false;
};

/// embed_labels of those that the cache does not hold; those it holds afterwards. It is written now and then, and not
/// once more at the end, so that answers need not wait for it. Nothing when `saving` stops the work. // [L, P]
std::optional<gatefold::Tensor<float, 2>> embed_labels(const ClipModel& clip, std::span<const std::string> labels,
                                                       std::span<const std::string> templates, LabelCache& cache,
                                                       const EmbedOptions& how, gatefold::Context& ctx,
                                                       const SaveOptions& saving = {});

}  // namespace zero_shot
