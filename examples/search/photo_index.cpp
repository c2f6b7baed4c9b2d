#include "search/photo_index.hpp"

namespace search {

namespace detail {
namespace {

/// The index while it is made: photographs come in any order and stand in that of their places.
class GrowingIndex {
 public:
  GrowingIndex(PhotoIndex facts, std::size_t places, Index width)
      : facts_(std::move(facts)), entries_(places), z_({static_cast<Index>(places), width}) {}

  void put(std::size_t place, Entry entry, gatefold::View<const float, 1> row) {
    entries_[place] = std::move(entry);
    std::copy_n(row.data(), z_.extent(1), z_.view()[static_cast<Index>(place)].data());
  }
  void remove(std::size_t place) { entries_[place].reset(); }
  /// What is there so far.
  PhotoIndex index() const {
    PhotoIndex index = facts_;
    std::vector<Index> rows;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (!entries_[i]) continue;
      index.entries.push_back(*entries_[i]);
      rows.push_back(static_cast<Index>(i));
    }
    index.z = gatefold::Tensor<float, 2>({std::ssize(rows), z_.extent(1)});
    for (std::size_t i = 0; i < rows.size(); ++i)
      std::copy_n(z_.view()[rows[i]].data(), z_.extent(1), index.z.view()[static_cast<Index>(i)].data());
    return index;
  }

 private:
  PhotoIndex facts_;
  std::vector<std::optional<Entry>> entries_;  // [N]
  gatefold::Tensor<float, 2> z_;               // [N, P]
};

/// One run over a folder.
class FolderRun {
 public:
  FolderRun(const PhotoIndex& facts, const zero_shot::ClipModel& clip, const PhotoIndex* old,
            const zero_shot::EmbedOptions& how)
      : folder_(facts.folder),
        clip_(clip),
        how_(how),
        known_(old),
        found_(zero_shot::find_photos(std::array{facts.folder}, update_.left)),
        names_(names_of(found_, facts.folder)),
        others_(known_.without(names_)),
        growing_(facts, found_.size() + others_.size(), clip.options.embedding) {
    how_.progress_from = std::numeric_limits<Index>::max();  // of a batch; there is one line for all
    for (std::size_t i = 0; i < others_.size(); ++i)
      growing_.put(found_.size() + i, known_.entry(others_[i]), known_.row(others_[i]));
    for (std::size_t i = 0; i < found_.size(); ++i) {
      const auto at = known_.find(names_[i]);
      if (at) growing_.put(i, known_.entry(*at), known_.row(*at));
      try {
        const bool same = zero_shot::facts_of(found_[i]) == (at ? known_.entry(*at).facts : zero_shot::FileFacts());
        same ? void(++update_.kept) : unread_.push_back(i);
      } catch (const std::system_error& error) {  // it went after it had been listed, or its folder is closed
        refuse(i, error.what(), is_absence(error));
      }
    }
  }

  /// Photographs that have to be read, and those of them that have been.
  Index unread() const { return std::ssize(unread_); }
  Index read() const { return read_; }
  PhotoIndex index() const { return growing_.index(); }

  void read_batch(gatefold::Context& ctx) {
    const Index batch = std::min(std::max<Index>(how_.batch, 1), unread() - read_);
    const auto here = std::span(unread_).subspan(static_cast<std::size_t>(read_), static_cast<std::size_t>(batch));
    // Summed before they are embedded: who writes into one between the two changes its facts, and then its sum tells.
    std::vector<zero_shot::SummedFile> files(here.size());
    std::vector<std::string> faults(here.size());
    std::vector<std::uint8_t> absent(here.size());
    ctx.parallel_for(batch, [&](Index begin, Index end, Index) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) try {
          files[i] = zero_shot::sum_file(found_[here[i]]);
        } catch (const std::system_error& error) {
          faults[i] = error.what();
          absent[i] = is_absence(error);
        }
    });
    std::vector<fs::path> fresh;
    std::vector<std::size_t> position;
    for (std::size_t i = 0; i < here.size(); ++i) {
      if (!faults[i].empty()) {
        refuse(here[i], faults[i], absent[i]);
      } else if (const auto at = known_.find_content(files[i])) {
        growing_.put(here[i], {names_[here[i]], files[i].facts, files[i].sum}, known_.row(*at));
        ++update_.kept;
      } else {
        fresh.push_back(found_[here[i]]);
        position.push_back(i);
      }
    }
    const auto embedded = zero_shot::embed_photos(clip_, fresh, how_, ctx);
    for (std::size_t f = 0; f < fresh.size(); ++f) {
      const auto i = position[f];
      const auto row = embedded.z.view()[static_cast<Index>(f)];
      if (!embedded.faults[f].empty()) {
        refuse(here[i], embedded.faults[f]);
      } else if (!zero_shot::is_unit(row)) {
        const std::string why = "the model makes no number of it; are its weights damaged?";
        if (++no_numbers_ >= kMostWithoutNumber && update_.embedded == 0)
          throw gatefold::FormatError(fresh[f].string() + ": " + why + " It makes none of any other photograph either");
        refuse(here[i], fresh[f].string() + ": " + why);
      } else {
        growing_.put(here[i], {names_[here[i]], files[i].facts, files[i].sum}, row);
        ++update_.embedded;
      }
    }
    read_ += batch;
  }

  /// The index as it shall stay.
  Update finish() {
    update_.stopped = read_ < unread();
    for (std::size_t i = 0; !update_.stopped && i < others_.size(); ++i) {
      if (may_be_there(known_.entry(others_[i]).name)) {
        ++update_.not_seen;
      } else {
        growing_.remove(found_.size() + i);
        ++update_.gone;
      }
    }
    update_.index = growing_.index();
    return std::move(update_);
  }

 private:
  static constexpr Index kMostWithoutNumber = 8;

  static std::vector<std::string> names_of(std::span<const fs::path> photos, const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& photo : photos) names.push_back(photo.lexically_relative(folder).generic_string());
    return names;
  }
  /// Of one that was not found: what is in a folder that cannot be opened is not gone.
  bool may_be_there(const std::string& name) const {
    std::error_code error;
    return !update_.left.closed.empty() && fs::status(folder_ / name, error).type() != fs::file_type::not_found;
  }
  static bool is_absence(const std::system_error& error) {
    return error.code() == std::errc::no_such_file_or_directory || error.code() == std::errc::not_a_directory;
  }
  /// What the index has of it stays while nobody can tell whether it still holds.
  void refuse(std::size_t place, const std::string& why, bool drop = true) {
    update_.faults.push_back(why);
    if (drop) growing_.remove(place);
  }

  Update update_;
  const fs::path folder_;
  const zero_shot::ClipModel& clip_;
  zero_shot::EmbedOptions how_;
  KnownPhotos known_;
  std::vector<fs::path> found_;
  std::vector<std::string> names_;
  std::vector<std::size_t> others_;  // known, but not found; they stand behind those that are
  std::vector<std::size_t> unread_;
  GrowingIndex growing_;
  Index read_ = 0, no_numbers_ = 0;
};

}  // namespace

}  // namespace detail

Update update_index(const fs::path& folder, const zero_shot::ClipModel& clip, const std::optional<PhotoIndex>& old,
                    const zero_shot::EmbedOptions& how, gatefold::Context& ctx, const zero_shot::SaveOptions& saving,
                    const std::function<void(const PhotoIndex&)>& save) {
  if (!fs::is_directory(folder)) throw gatefold::FormatError(folder.string() + ": expected a folder of photographs");
  gatefold::expect_option(!clip.identity.empty(), "update_index: the model was opened without sums of its files");
  PhotoIndex facts;
  facts.folder = fs::canonical(folder);
  facts.model = clip.identity, facts.format = clip.format, facts.sums = clip.sums;
  const bool fits =
      old && old->model == facts.model && old->format == facts.format && old->z.extent(1) == clip.options.embedding;
  detail::FolderRun run(facts, clip, fits ? &*old : nullptr, how);
  gatefold::Progress progress(zero_shot::detail::progress_of(run.unread(), "photo", how));
  zero_shot::SaveClock clock(saving);
  while (run.read() < run.unread() && !saving.stops()) {
    run.read_batch(ctx);
    progress.update(run.read());
    if (save && run.read() < run.unread()) clock.save_if_due([&] { save(run.index()); });
  }
  return run.finish();
}

std::vector<Hit> best(const PhotoIndex& index, gatefold::View<const float, 1> z, Index top) {
  std::vector<Hit> hits;
  for (std::size_t i = 0; i < index.entries.size(); ++i) {
    const double c = zero_shot::cosine(index.z.view()[static_cast<Index>(i)], z);
    if (!std::isnan(c)) hits.push_back({i, c});
  }
  std::stable_sort(hits.begin(), hits.end(), [](const Hit& a, const Hit& b) { return a.cosine > b.cosine; });
  hits.resize(std::min(hits.size(), static_cast<std::size_t>(top)));
  return hits;
}

}  // namespace search
