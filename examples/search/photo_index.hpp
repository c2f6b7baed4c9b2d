#pragma once
#include <unordered_map>
#include <unordered_set>

#include "search/index_file.hpp"
#include "zero_shot/clip_embed.hpp"
#include "zero_shot/clip_photos.hpp"
#include "zero_shot/saving.hpp"

namespace search {

/// What a run of `search index` did.
struct Update {
  PhotoIndex index;
  Index kept = 0, embedded = 0, gone = 0;
  Index not_seen = 0;  ///< In folders that cannot be opened; they stay in the index.
  zero_shot::LeftOut left{};
  bool stopped = false;               ///< Before the end; what was done is in the index.
  std::vector<std::string> faults{};  ///< Of photographs that cannot be read.
};

namespace detail {

/// The photographs of an index by name and by content. Only embeddings are of use, which are rows of length 1.
class KnownPhotos {
 public:
  explicit KnownPhotos(const PhotoIndex* index) : index_(index) {
    for (std::size_t i = 0; index && i < index->entries.size(); ++i) {
      if (!zero_shot::is_unit(row(i))) continue;
      const Entry& entry = index->entries[i];
      by_name_.emplace(entry.name, i);
      by_content_.emplace(entry.content, i);
    }
  }

  /// Where the same bytes stand, whatever their name and times: of one that was moved, copied or touched.
  std::optional<std::size_t> find_content(const zero_shot::SummedFile& file) const {
    const auto at = by_content_.find(file.sum);
    if (at == by_content_.end() || entry(at->second).facts.size != file.facts.size) return std::nullopt;
    return at->second;
  }
  std::optional<std::size_t> find(const std::string& name) const {
    const auto at = by_name_.find(name);
    return at == by_name_.end() ? std::nullopt : std::optional(at->second);
  }
  /// Those without one of these names, in their order.
  std::vector<std::size_t> without(std::span<const std::string> names) const {
    const std::unordered_set<std::string_view> without(names.begin(), names.end());
    std::vector<std::size_t> rest;
    for (const auto& [name, i] : by_name_)
      if (!without.contains(name)) rest.push_back(i);
    std::sort(rest.begin(), rest.end());
    return rest;
  }
  const Entry& entry(std::size_t i) const { return index_->entries[i]; }
  gatefold::View<const float, 1> row(std::size_t i) const { return index_->z.view()[static_cast<Index>(i)]; }

 private:
  const PhotoIndex* index_;
  std::unordered_map<std::string_view, std::size_t> by_name_;
  std::unordered_map<std::uint64_t, std::size_t> by_content_;
};

}  // namespace detail

/// The index of a folder as it is now, taking over from `old` what has not changed: a photograph with the same facts is
/// not even opened, one with the same bytes is not embedded again. `save` is given the index as it is so far, now and
/// then. Until a run has come to its end, also when it is stopped, nothing of `old` that may still be of use is left
/// out, so that the next run goes on where this one was. Throws FormatError.
Update update_index(const fs::path& folder, const zero_shot::ClipModel& clip, const std::optional<PhotoIndex>& old,
                    const zero_shot::EmbedOptions& how, gatefold::Context& ctx,
                    const zero_shot::SaveOptions& saving = {}, const std::function<void(const PhotoIndex&)>& save = {});

struct Hit {
  std::size_t photo = 0;
  double cosine = 0;
};

/// The photographs nearest to a text, best first. z // [P] of length 1
std::vector<Hit> best(const PhotoIndex& index, gatefold::View<const float, 1> z, Index top);

}  // namespace search
