#include "zero_shot/clip_label_cache.hpp"

#include "gatefold/io/json_file.hpp"
#include "gatefold/io/safetensors_writer.hpp"

namespace zero_shot {

LabelCache::LabelCache(std::filesystem::path path, const ClipModel& clip, const std::vector<std::string>& templates)
    : path_(std::move(path)),
      owner_(clip.identity + " " + clip.format),
      templates_(as_json(templates)),
      sums_(clip.sums),
      width_(clip.options.embedding) {
  gatefold::expect_option(!clip.identity.empty(), "LabelCache: the model was opened without sums of its files");
  expect_writable(path_, "--cache");
  if (std::filesystem::exists(path_)) read();
}

const float* LabelCache::find(const std::string& label) const {
  const auto at = at_.find(label);
  return at == at_.end() ? nullptr : at->second.data();
}

void LabelCache::add(const std::string& label, gatefold::View<const float, 1> z) {
  if (!is_unit(z) || !gatefold::is_utf8(label)) return;
  at_[label] = std::vector<float>(z.data(), z.data() + z.extent(0));
  changed_ = true;
}

void LabelCache::write() {
  if (!changed_) return;
  const WriterLock lock(path_);
  if (std::filesystem::exists(path_)) read();
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
  writer.add_metadata(FileSums::kKey, sums_);
  try {
    writer.write(path_);
  } catch (const std::system_error& error) {
    throw gatefold::FormatError(std::string("--cache: ") + error.what());
  }
  changed_ = false;
}

std::string LabelCache::as_json(const std::vector<std::string>& texts) {
  return nlohmann::json(texts).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void LabelCache::read() {
  const auto foreign = [&](const std::string& why) {
    throw gatefold::FormatError("--cache " + path_.string() + ": is no cache of labels (" + why +
                                ") and is left alone; name another file, or remove it");
  };
  std::optional<gatefold::SafeTensors> file;
  try {
    file.emplace(gatefold::MappedFile(path_));
  } catch (const std::exception& error) {
    foreign(error.what());
  }
  const auto& facts = file->metadata();
  if (!facts.contains(kOwner) || !facts.contains(kTemplates) || !facts.contains(kLabels)) foreign("it lacks its notes");
  try {
    file->expect_checksum();
  } catch (const gatefold::FormatError&) {
    return;  // ours, but damaged: made anew
  }
  if (facts.at(kOwner) != owner_ || facts.at(kTemplates) != templates_) return;
  const auto sums = facts.find(FileSums::kKey);
  changed_ = changed_ || sums == facts.end() || sums->second != sums_;  // or they would be taken at each start
  const auto labels = gatefold::parse_json(facts.at(kLabels), path_.string());
  const auto* tensor = file->find("labels");
  if (!labels.is_array() || !tensor || tensor->dtype != gatefold::Dtype::f32 ||
      tensor->shape != std::vector<Index>{std::ssize(labels), width_})
    return;  // ours, but of no use
  std::vector<float> z(static_cast<std::size_t>(width_));
  for (std::size_t i = 0; i < labels.size(); ++i) {
    gatefold::decode<float>(gatefold::Dtype::f32, tensor->bytes.subspan(i * 4 * z.size(), 4 * z.size()), z);
    if (labels[i].is_string() && is_unit({z.data(), {width_}})) at_.emplace(labels[i].get<std::string>(), z);
  }
}

std::optional<gatefold::Tensor<float, 2>> embed_labels(const ClipModel& clip, std::span<const std::string> labels,
                                                       std::span<const std::string> templates, LabelCache& cache,
                                                       const EmbedOptions& how, gatefold::Context& ctx,
                                                       const SaveOptions& saving) {
  std::vector<std::string> missing;
  for (const auto& label : labels)
    if (!cache.find(label)) missing.push_back(label);
  gatefold::Tensor<float, 2> fresh({std::ssize(missing), clip.options.embedding});
  // As many labels as give some batches of texts.
  const Index at_once = std::max<Index>(1, 8 * std::max<Index>(how.batch, 1) / std::ssize(templates));
  auto quiet = how;
  quiet.progress_from = std::numeric_limits<Index>::max();
  gatefold::Progress progress(detail::progress_of(fresh.extent(0), "label", how));
  SaveClock clock(saving);
  for (Index first = 0; first < fresh.extent(0); first += at_once) {
    if (saving.stops()) return std::nullopt;
    const Index here = std::min(at_once, fresh.extent(0) - first);
    const auto z =
        embed_labels(clip, std::span(missing).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(here)),
                     templates, quiet, ctx);
    std::copy(z.flat().begin(), z.flat().end(), fresh.view()[first].data());
    for (Index l = first; l < first + here; ++l) cache.add(missing[static_cast<std::size_t>(l)], fresh.view()[l]);
    progress.update(first + here);
    clock.save_if_due([&] { cache.write(); });
  }
  std::map<std::string_view, const float*> here;
  for (std::size_t i = 0; i < missing.size(); ++i) here.emplace(missing[i], fresh.view()[static_cast<Index>(i)].data());
  gatefold::Tensor<float, 2> z({std::ssize(labels), clip.options.embedding});
  for (Index l = 0; l < z.extent(0); ++l) {
    const auto& label = labels[static_cast<std::size_t>(l)];
    const auto at = here.find(label);
    std::copy_n(at != here.end() ? at->second : cache.find(label), z.extent(1), z.view()[l].data());
  }
  return z;
}

}  // namespace zero_shot
