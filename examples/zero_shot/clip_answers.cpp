#include "zero_shot/clip_answers.hpp"

#include <numeric>

namespace zero_shot {

PhotoAnswer answer(ClipAnswers& answers, const std::filesystem::path& photo, const std::string& fault,
                   gatefold::View<const float, 1> z, gatefold::Rows<const float> z_labels, double temperature) {
  if (!fault.empty()) {
    answers.unread.push_back({photo, fault, {}});
    return answers.unread.back();
  }
  ++answers.answered;
  std::vector<Index> choices(static_cast<std::size_t>(z_labels.extent(0)));
  std::iota(choices.begin(), choices.end(), Index{0});
  std::vector<double> cosines(choices.size());
  for (const Index l : choices) cosines[static_cast<std::size_t>(l)] = cosine(z, z_labels[l]);
  auto ranked = rank(choices, cosines, temperature);
  std::erase_if(ranked, [&](const Candidate& c) {
    return (answers.scores == Scores::one_of_all ? c.probability : c.cosine) < answers.threshold;
  });
  return {photo, "", std::move(ranked)};
}

std::vector<Index> sparse_blocks(const gatefold::ClipTowerOptions& tower) {
  auto blocks = tower.mixture.placement.layers;
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

Json json_of(const PhotoAnswer& photo, const ClipAnswers& answers, Index top) {
  Json entry{{"name", photo.path.string()}};
  if (!photo.fault.empty()) entry["fault"] = photo.fault;
  entry["labels"] = Json::array();
  for (const Candidate& candidate : photo.ranked) {
    if (std::ssize(entry["labels"]) >= top) break;
    Json label{{"label", answers.labels[static_cast<std::size_t>(candidate.label)]}};
    if (answers.scores == Scores::one_of_all) label["probability"] = candidate.probability;
    label["cosine"] = candidate.cosine;
    if (!answers.cut.empty()) label["cut"] = bool{answers.cut[static_cast<std::size_t>(candidate.label)]};
    entry["labels"].push_back(std::move(label));
  }
  return entry;
}

Json json_of(const ClipModel& clip) {
  return {{"kind", "clip"},
          {"identity", clip.identity},
          {"format", clip.format},
          {"image_size", clip.options.image_size},
          {"embedding", clip.options.embedding},
          {"temperature", clip.temperature}};
}

Json json_of(const ClipRouting& routing, const ClipModel& clip) {
  Json experts;
  const auto add = [&](const char* name, const gatefold::RoutingReport& report,
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
    experts[name] = std::move(layers);
  };
  add("image", routing.images, clip.options.vision);
  add("text", routing.texts, clip.options.text);
  return experts;
}

namespace {

std::string right_aligned(const std::string& text, Index width) {
  return std::string(static_cast<std::size_t>(std::max<Index>(0, width - columns(text))), ' ') + text;
}

std::string decimal(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4f", value);
  return std::isnan(value) ? "no number" : text.data();
}

void print_shares(std::ostream& out, const char* what, const gatefold::RoutingReport& report,
                  const gatefold::ClipTowerOptions& tower, Index width) {
  if (report.layers().empty()) return;
  const auto blocks = sparse_blocks(tower);
  out << "\n"
      << wrapped(std::string("Share of the requests for each expert, ") + what + ", and effective experts:", width)
      << "\n";
  for (std::size_t l = 0; l < report.layers().size(); ++l) {
    const auto usage = report.layers()[l].total();
    const double all = std::accumulate(usage.requests.begin(), usage.requests.end(), 0.0);
    out << "  block" << right_aligned(std::to_string(blocks.at(l) + 1), 3) << " ";
    constexpr Index kHead = 11, kShare = 9;
    Index used = kHead;
    const auto add = [&](const std::string& text) {
      if (used + kShare > width) out << "\n" << std::string(kHead, ' '), used = kHead;
      out << right_aligned(text, kShare);
      used += kShare;
    };
    for (const double requests : usage.requests) add(percent(requests / all));
    std::array<char, 32> effective{};
    std::snprintf(effective.data(), effective.size(), "%.2f", usage.effective_experts());
    add(effective.data());
    out << "\n";
  }
}

struct ClipInk {
  const char *bold = "", *dim = "", *bad = "", *off = "";
  explicit ClipInk(const Terminal& terminal) {
    if (terminal.colour) bold = "\033[1m", dim = "\033[2m", bad = "\033[31m", off = "\033[0m";
  }
};

}  // namespace

void print(std::ostream& out, const PhotoAnswer& photo, const ClipAnswers& answers, const ClipPrintOptions& options) {
  const ClipInk with(options.terminal);
  constexpr Index kNumber = 9;
  out << with.bold << printable(photo.path.string()) << with.off << "\n";
  if (!photo.fault.empty()) {
    out << with.bad << "  cannot be read" << with.off << "\n\n";
    return;
  }
  const auto shown =
      std::span(photo.ranked)
          .first(std::min(photo.ranked.size(), static_cast<std::size_t>(std::max<Index>(options.top, 1))));
  const auto label_of = [&](const Candidate& candidate) {
    return printable(answers.labels[static_cast<std::size_t>(candidate.label)]);
  };
  Index width = 12;
  for (const Candidate& candidate : shown) width = std::max(width, columns(label_of(candidate)));
  width = std::min(width, std::max<Index>(12, options.terminal.width - 38));
  const Index bars = options.terminal.width - 2 - width - 2 - 1 - kNumber;
  const bool one = answers.scores == Scores::one_of_all;
  for (const Candidate& candidate : shown) {
    const bool best = &candidate == &shown.front();
    const double share = one ? candidate.probability : candidate.cosine;
    out << "  " << (best ? with.bold : "") << in_columns(label_of(candidate), width) << (best ? with.off : "") << "  "
        << in_columns(bar(share, bars), bars) << " " << right_aligned(one ? percent(share) : decimal(share), kNumber)
        << "\n";
  }
  double rest = 0;
  for (const Candidate& candidate : std::span(photo.ranked).subspan(shown.size())) rest += candidate.probability;
  if (photo.ranked.empty()) out << with.dim << "  no label reaches " << decimal(answers.threshold) << with.off << "\n";
  if (const auto hidden = photo.ranked.size() - shown.size(); hidden > 0)
    out << with.dim << "  "
        << in_columns(std::to_string(hidden) + (hidden == 1 ? " other" : " others"), width + 2 + bars) << " "
        << right_aligned(one ? percent(rest) : "", kNumber) << with.off << "\n";
  out << "\n";
}

void print_summary(std::ostream& out, const ClipAnswers& answers, const ClipModel& clip,
                   const ClipPrintOptions& options) {
  const ClipInk with(options.terminal);
  out << with.dim << answers.answered << (answers.answered == 1 ? " photograph, " : " photographs, ")
      << answers.labels.size() << (answers.labels.size() == 1 ? " label, " : " labels, ") << answers.templates.size()
      << (answers.templates.size() == 1 ? " template\n" : " templates\n");
  if (clip.has_mixtures()) {
    print_shares(out, "patches", answers.routing.images, clip.options.vision, options.terminal.width);
    print_shares(out, "words", answers.routing.texts, clip.options.text, options.terminal.width);
    if (answers.routing.texts.layers().empty() && !clip.options.text.mixture.placement.layers.empty())
      out << "\n"
          << wrapped("(No shares for words: what the labels are was in the cache.)", options.terminal.width) << "\n";
  }
  out << with.off;
}

}  // namespace zero_shot
