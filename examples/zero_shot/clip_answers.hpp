#pragma once
#include <nlohmann/json.hpp>
#include <numeric>
#include <ostream>

#include "zero_shot/candidate.hpp"
#include "zero_shot/clip_embed.hpp"
#include "zero_shot/terminal.hpp"

namespace zero_shot {

/// What is said of one photograph.
struct PhotoAnswer {
  std::string name;
  std::string fault;              ///< Why it cannot be read; then there are no labels.
  std::vector<Candidate> ranked;  ///< Best first.
};

/// All that is said, on whatever it is then shown.
struct ClipAnswers {
  std::vector<std::string> labels, templates;
  std::vector<PhotoAnswer> photos{};
  ClipRouting routing{};

  Index faults() const {
    return std::count_if(photos.begin(), photos.end(), [](const PhotoAnswer& photo) { return !photo.fault.empty(); });
  }
};

/// Fills in the photos. z_labels // [L, P]
inline void answer(ClipAnswers& answers, const PhotoEmbeddings& photos, std::span<const std::filesystem::path> names,
                   gatefold::Rows<const float> z_labels, double temperature) {
  std::vector<Index> choices(static_cast<std::size_t>(z_labels.extent(0)));
  std::iota(choices.begin(), choices.end(), Index{0});
  std::vector<double> cosines(choices.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    PhotoAnswer photo{names[i].string(), photos.faults[i], {}};
    for (const Index l : choices)
      cosines[static_cast<std::size_t>(l)] = cosine(photos.z.view()[static_cast<Index>(i)], z_labels[l]);
    if (photo.fault.empty()) photo.ranked = rank(choices, cosines, temperature);
    answers.photos.push_back(std::move(photo));
  }
}

/// The blocks of a tower that are mixtures, in the order they run.
inline std::vector<Index> sparse_blocks(const gatefold::ClipTowerOptions& tower) {
  auto blocks = tower.mixture.placement.layers;
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

/// For programs. What is not a number is null, and bytes that are not UTF-8 become U+FFFD.
inline std::string to_json(const ClipAnswers& answers, const ClipModel& clip) {
  using Json = nlohmann::ordered_json;
  Json json;
  json["model"] = {{"kind", "clip"},
                   {"identity", clip.identity},
                   {"format", clip.format},
                   {"image_size", clip.options.image_size},
                   {"embedding", clip.options.embedding},
                   {"temperature", clip.temperature}};
  json["templates"] = answers.templates;
  json["pictures"] = Json::array();
  for (const PhotoAnswer& photo : answers.photos) {
    Json entry{{"name", photo.name}};
    if (!photo.fault.empty()) entry["fault"] = photo.fault;
    entry["labels"] = Json::array();
    for (const Candidate& candidate : photo.ranked)
      entry["labels"].push_back(Json{{"label", answers.labels[static_cast<std::size_t>(candidate.label)]},
                                     {"probability", candidate.probability},
                                     {"cosine", candidate.cosine}});
    json["pictures"].push_back(std::move(entry));
  }
  const auto add_routing = [&](const char* name, const gatefold::RoutingReport& report,
                               const gatefold::ClipTowerOptions& tower) {
    const auto blocks = sparse_blocks(tower);
    Json layers = Json::array();
    for (std::size_t l = 0; l < report.layers().size(); ++l) {
      const auto usage = report.layers()[l].total();
      layers.push_back(Json{{"block", blocks.at(l)},
                            {"tokens", usage.tokens},
                            {"requests", usage.requests},
                            {"effective_experts", usage.effective_experts()}});
    }
    json["experts"][name] = std::move(layers);
  };
  if (clip.has_mixtures()) {
    add_routing("image", answers.routing.images, clip.options.vision);
    add_routing("text", answers.routing.texts, clip.options.text);
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

struct ClipPrintOptions {
  enum class Style { plain, colour };
  Style style = Style::plain;
  Index top = 5;  ///< Labels of each photograph.
};

namespace detail {

inline std::string right_aligned(const std::string& text, Index width) {
  return std::string(static_cast<std::size_t>(std::max<Index>(0, width - columns(text))), ' ') + text;
}

inline void print_shares(std::ostream& out, const char* what, const gatefold::RoutingReport& report,
                         const gatefold::ClipTowerOptions& tower) {
  if (report.layers().empty()) return;
  const auto blocks = sparse_blocks(tower);
  out << "\nShare of the requests for each expert, " << what << ", and effective experts:\n";
  for (std::size_t l = 0; l < report.layers().size(); ++l) {
    const auto usage = report.layers()[l].total();
    const double all = std::accumulate(usage.requests.begin(), usage.requests.end(), 0.0);
    out << "  block" << right_aligned(std::to_string(blocks.at(l) + 1), 3) << " ";
    for (const double requests : usage.requests) out << right_aligned(percent(requests / all), 9);
    std::array<char, 32> effective{};
    std::snprintf(effective.data(), effective.size(), "%8.2f", usage.effective_experts());
    out << effective.data() << "\n";
  }
}

}  // namespace detail

/// The answers for people, in 80 columns.
inline void print(std::ostream& out, const ClipAnswers& answers, const ClipModel& clip,
                  const ClipPrintOptions& options) {
  const bool colour = options.style == ClipPrintOptions::Style::colour;
  const char *const bold = colour ? "\033[1m" : "", *const dim = colour ? "\033[2m" : "",
                    *const bad = colour ? "\033[31m" : "", *const off = colour ? "\033[0m" : "";
  constexpr Index kWidth = 80, kNumber = 9;
  for (const PhotoAnswer& photo : answers.photos) {
    out << bold << printable(photo.name) << off << "\n";
    if (!photo.fault.empty()) {
      out << bad << "  cannot be read" << off << "\n\n";
      continue;
    }
    const auto shown =
        std::span(photo.ranked)
            .first(std::min(photo.ranked.size(), static_cast<std::size_t>(std::max<Index>(options.top, 1))));
    const auto label_of = [&](const Candidate& candidate) {
      return printable(answers.labels[static_cast<std::size_t>(candidate.label)]);
    };
    Index width = 12;
    for (const Candidate& candidate : shown) width = std::max(width, columns(label_of(candidate)));
    width = std::min<Index>(width, 42);
    const Index bars = kWidth - 2 - width - 2 - 1 - kNumber;
    for (const Candidate& candidate : shown) {
      const bool best = &candidate == &shown.front();
      out << "  " << (best ? bold : "") << in_columns(label_of(candidate), width) << (best ? off : "") << "  "
          << in_columns(bar(candidate.probability, bars), bars) << " "
          << detail::right_aligned(percent(candidate.probability), kNumber) << "\n";
    }
    double rest = 0;
    for (const Candidate& candidate : std::span(photo.ranked).subspan(shown.size())) rest += candidate.probability;
    if (const auto hidden = photo.ranked.size() - shown.size(); hidden > 0)
      out << dim << "  " << in_columns(std::to_string(hidden) + (hidden == 1 ? " other" : " others"), width + 2 + bars)
          << " " << detail::right_aligned(percent(rest), kNumber) << off << "\n";
    out << "\n";
  }
  const auto read = std::ssize(answers.photos) - answers.faults();
  out << dim << read << (read == 1 ? " photograph, " : " photographs, ") << answers.labels.size()
      << (answers.labels.size() == 1 ? " label, " : " labels, ") << answers.templates.size()
      << (answers.templates.size() == 1 ? " template\n" : " templates\n");
  if (clip.has_mixtures()) {
    detail::print_shares(out, "patches", answers.routing.images, clip.options.vision);
    detail::print_shares(out, "words", answers.routing.texts, clip.options.text);
    if (answers.routing.texts.layers().empty() && !clip.options.text.mixture.placement.layers.empty())
      out << "\n(No shares for words: what the labels are was in the cache.)\n";
  }
  out << off;
}

}  // namespace zero_shot
