#pragma once
#include <array>
#include <cstdio>
#include <string>

#include "zero_shot/html.hpp"
#include "zero_shot/reading.hpp"

/// The small pieces of HTML that the sections of a page share.
namespace zero_shot::part {

inline std::string number(double value, int digits) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}
inline std::string whole_percent(double share) { return number(100 * share, 0) + "&nbsp;%"; }

/// The colour of an expert. Neighbouring blocks have palettes of their own, since their experts have nothing to do with
/// each other.
inline std::string colour(std::size_t layer, Index expert) {
  constexpr Index kColours = 8;
  return (layer % 2 == 0 ? "e" : "f") + std::to_string(expert % kColours);
}
inline std::string key(std::size_t layer, Index expert) { return std::to_string(layer) + "-" + std::to_string(expert); }

inline std::string button(const LayerUsage& usage, std::size_t layer, Index expert) {
  return "<button class=\"x " + colour(layer, expert) + "\" data-k=\"" + key(layer, expert) +
         "\" aria-pressed=\"false\" aria-label=\"" + usage.title + ", expert " + std::to_string(expert) +
         "\" title=\"" + usage.title + ": show only expert " + std::to_string(expert) + "\">" + std::to_string(expert) +
         "</button>";
}

inline std::string badge(std::optional<wardrobe::Seen> seen) {
  if (!seen) return "";
  if (seen == wardrobe::Seen::no) return "<span class=\"badge never\">never seen</span>";
  return seen == wardrobe::Seen::yes ? "<span class=\"badge\">seen</span>"
                                     : "<span class=\"badge\">outside the world</span>";
}

inline std::string describe(const Route& route) {
  return "expert " + std::to_string(route.expert) + ", " + number(100 * route.gate, 0) + " % sure" +
         (route.dropped_trained ? "; would have had no seat in training" : "");
}

/// «<tag class="c k0-3 e3 more"»
inline std::string open_token(const char* tag, std::size_t layer, const Route& route, const std::string& more) {
  return std::string("<") + tag + " class=\"c k" + key(layer, route.expert) + " " + colour(layer, route.expert) + more +
         "\"";
}

/// A word as it is shown: the marks by signs that no label contains as a word.
inline std::string shown_word(const std::string& word) {
  return word == "<end>" ? "■" : word == "<start>" ? "□" : escape_html(word);
}

inline std::string words(const Label& label, std::size_t layer) {
  std::string html = "<div class=\"words\">";
  for (std::size_t w = 0; w < label.words.size(); ++w) {
    const Route& route = label.routes[layer][w];
    html += open_token("span", layer, route, std::string(" chip") + (route.dropped_trained ? " d" : "")) + " title=\"" +
            describe(route) + "\">" + shown_word(label.words[w]) + "<sup>" + std::to_string(route.expert) +
            "</sup></span>";
  }
  return html + "</div>";
}

}  // namespace zero_shot::part
