#include "zero_shot/print.hpp"

namespace zero_shot {
namespace {

const char* mark_of(wardrobe::Seen seen) {
  return seen == wardrobe::Seen::yes ? "seen" : seen == wardrobe::Seen::no ? "never seen" : "-";
}

/// Escape sequences, or nothing.
struct Ink {
  const char *bold, *dim, *good, *bad, *off;
};
Ink ink(const Terminal& terminal) {
  if (!terminal.colour) return {"", "", "", "", ""};
  return {"\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m"};
}

std::string counted(Index n, const std::string& one) { return std::to_string(n) + " " + one + (n == 1 ? "" : "s"); }

void print_picture(std::ostream& out, const Picture& picture, const Reading& reading, const PrintOptions& o) {
  const Ink with = ink(o.terminal);
  const auto label_of = [&](Index i) -> const Label& { return reading.labels[static_cast<std::size_t>(i)]; };
  const std::string choice =
      "  " + std::to_string(picture.ranked.size()) + (picture.ranked.size() == 1 ? " label" : " labels");
  out << with.bold;
  if (picture.expected) {
    out << (picture.right() ? with.good : with.bad) << (picture.right() ? "✓ " : "✗ ") << with.off << with.bold;
  }
  const Index left = o.terminal.width - columns(choice) - (picture.expected ? 2 : 0);
  out << in_columns(printable(picture.name), left) << with.off << with.dim << choice << with.off << "\n";

  std::vector<Candidate> shown;
  double rest = 0, hidden = 0;
  for (std::size_t i = 0; i < picture.ranked.size(); ++i) {
    const Candidate& candidate = picture.ranked[i];
    if (static_cast<Index>(i) < o.top || candidate.label == picture.expected) {
      shown.push_back(candidate);
    } else {
      hidden += 1;
      if (!std::isnan(candidate.probability)) rest += candidate.probability;
    }
  }
  Index width = 12;
  for (const Candidate& candidate : shown) width = std::max(width, columns(printable(label_of(candidate.label).text)));
  width = std::min(width, std::max<Index>(12, o.terminal.width - 38));
  const Index bars =
      o.terminal.width - 2 - width - 2 - 1 - 9 - 2 - 10;  // margin, label, gap, gap, percentage, gap, mark
  for (const Candidate& candidate : shown) {
    const Label& label = label_of(candidate.label);
    const bool best = &candidate == &shown.front();
    const std::string number = percent(candidate.probability);
    const char* margin = candidate.label == picture.expected ? "→ " : "  ";
    out << margin << (best ? with.bold : "") << in_columns(printable(label.text), width) << (best ? with.off : "")
        << "  " << in_columns(bar(candidate.probability, bars), bars) << " "
        << std::string(static_cast<std::size_t>(std::max<Index>(0, 9 - columns(number))), ' ') << number << "  "
        << with.dim << mark_of(*label.seen) << with.off << "\n";
  }
  if (hidden > 0) {
    const std::string number = percent(rest);
    out << with.dim << "  " << in_columns(counted(static_cast<Index>(hidden), "other"), width + 2 + bars) << " "
        << std::string(static_cast<std::size_t>(std::max<Index>(0, 9 - columns(number))), ' ') << number << with.off
        << "\n";
  }
  out << "\n";
}

}  // namespace

void print(std::ostream& out, const Reading& reading, const PrintOptions& options) {
  const auto with = ink(options.terminal);
  auto unread = reading.unread.begin();
  for (std::size_t i = 0; i <= reading.pictures.size(); ++i) {
    for (; unread != reading.unread.end() && unread->before == i; ++unread)
      out << with.bold << in_columns(printable(unread->name), options.terminal.width) << with.off << "\n"
          << with.bad << "  cannot be read" << with.off << "\n\n";
    if (i < reading.pictures.size()) print_picture(out, reading.pictures[i], reading, options);
  }
  bool seen = false, never = false, neither = false, cut = false;
  for (const Label& label : reading.labels) {
    seen = seen || label.seen == wardrobe::Seen::yes;
    never = never || label.seen == wardrobe::Seen::no;
    cut = cut || label.cut;
    neither = neither || label.seen == wardrobe::Seen::not_a_combination;
  }
  const Score s = score(reading);
  const auto say = [&](const std::string& text) { out << wrapped(text, options.terminal.width) << "\n"; };
  if (s.known > 0) {
    std::array<char, 16> chance{};
    std::snprintf(chance.data(), chance.size(), "%.1f", s.by_chance);
    out << with.bold;
    say(std::to_string(s.right) + " of " + std::to_string(s.known) +
        " pictures are named right (guessing: " + chance.data() + ")" +
        (s.never_seen > 0 ? ", " + std::to_string(s.never_seen_right) + " of " + std::to_string(s.never_seen) +
                                " where training never saw the combination."
                          : "."));
    out << with.off << "\n";
  }
  out << with.dim;
  const auto explain = [&](const std::string& mark, const std::string& text) {
    constexpr Index kMark = 12;
    auto lines = wrapped(text, options.terminal.width, kMark);
    out << in_columns(mark, kMark) << lines.substr(kMark) << "\n";
  };
  if (s.known > 0) explain("→", "the right label");
  if (seen) explain("seen", "training had pictures and captions of this combination");
  if (never) explain("never seen", "training had neither; the model puts it together from its parts");
  if (neither) explain("-", "is no combination of the wardrobe world (thing, colour, pattern)");
  if (cut) say("Some labels are longer than the model reads; it does not see how they end.");
  out << with.off;
  if (reading.layers.empty()) return;
  std::array<double, 2> success{}, experts{}, layers{};
  for (const LayerUsage& layer : reading.layers)
    for (std::size_t m = 0; m < 2; ++m) {
      if (layer.modalities[m].tokens == 0) continue;
      success[m] += layer.modalities[m].success_trained(), experts[m] += layer.modalities[m].effective_experts();
      layers[m] += 1;
    }
  std::array<char, 200> line{};
  std::snprintf(line.data(), line.size(),
                "Effective experts: %.1f for patches, %.1f for words. With the seats of training %.0f\u00a0%% of the "
                "patches and %.0f\u00a0%% of the words would have been served; here all are.",
                experts[0] / layers[0], experts[1] / layers[1], 100 * success[0] / layers[0],
                100 * success[1] / layers[1]);
  out << "\n";
  say(line.data());
}

}  // namespace zero_shot
