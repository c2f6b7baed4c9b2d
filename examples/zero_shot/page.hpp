#pragma once
#include <iostream>
#include <map>

#include "gatefold/image/encode.hpp"
#include "gatefold/io/atomic_file.hpp"
#include "zero_shot/html.hpp"
#include "zero_shot/page_style.hpp"
#include "zero_shot/reading.hpp"
#include "zero_shot/terminal.hpp"

namespace zero_shot {

/// What a page says of the model that made it. All but the card is HTML.
struct PageModel {
  std::string lead;         ///< Begins the page: what this is.
  std::string remark = "";  ///< What is to be said before the pictures, if anything.
  std::string scope = "";   ///< What the model knows; ends the explanation of the percentages.
  std::string explanation;  ///< More <dt> and <dd>.
  std::string source;       ///< Who made this kind of model.
  Index image_size, patch;
  std::vector<std::pair<std::string, std::string>> card{};  ///< Name and value, as plain text.
};

/// Writes one HTML page that needs nothing but itself.
class Page {
 public:
  Page(const Reading& reading, PageModel model, Index labels_of_each_picture)
      : reading_(reading), model_(std::move(model)), top_(labels_of_each_picture) {}

  std::string html() {
    html_ =
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\"><title>" +
        title() + "</title><style>" + kPageStyle + "</style></head><body" +
        (model_.image_size >= kPhoto ? " class=\"photos\"" : "") + ">\n" + kHatch + "<main>\n";
    header();
    legend();
    for (const Picture& picture : reading_.pictures) show(picture);
    if (!reading_.layers.empty()) {
      html_ +=
          "<h2>Who does what</h2>\n<p>Each sparse block has experts of its own: number 3 of one block has nothing to "
          "do with number 3 of the next. The percentages say which share of all patches (left, plain) and of all words "
          "(right, striped) went to an expert; beside them are the patches and words that it took.</p>\n";
      for (std::size_t l = 0; l < reading_.layers.size(); ++l) show_layer(l);
      all_labels();
    }
    explanation();
    card();
    html_ += "</main><script>" + std::string(kPageScript) + "</script></body></html>\n";
    return std::move(html_);
  }

 private:
  static constexpr const char* kHatch =
      "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs><pattern id=\"hatch\" "
      "width=\"1.5\" height=\"1.5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect "
      "width=\".38\" "
      "height=\"1.5\" fill=\"#000\"/></pattern></defs></svg>\n";
  static constexpr Index kColours = 8;
  static constexpr Index kPhoto = 150;       ///< From here on pixels are no longer to be seen one by one.
  static constexpr Index kSquare = 6;        ///< Of a patch in a map, whose numbers are 3 high.
  static constexpr Index kMostNumbers = 10;  ///< In a row; of more, only the colours can be told apart.

  static std::string number(double value, int digits) {
    std::array<char, 40> text{};
    std::snprintf(text.data(), text.size(), "%.*f", digits, value);
    return text.data();
  }
  static std::string whole_percent(double share) { return number(100 * share, 0) + "&nbsp;%"; }
  static std::string style_of(Index expert) { return "e" + std::to_string(expert % kColours); }
  static std::string key(std::size_t layer, Index expert) {
    return std::to_string(layer) + "-" + std::to_string(expert);
  }
  const Label& label_of(Index i) const { return reading_.labels[static_cast<std::size_t>(i)]; }

  std::string title() const { return reading_.layers.empty() ? "What the model sees" : "What the experts see"; }
  Index patches_across() const { return model_.image_size / model_.patch; }

  /// Whether training turned tokens away.
  bool had_seats() const {
    return std::any_of(reading_.layers.begin(), reading_.layers.end(), [](const LayerUsage& layer) {
      return layer.modalities[0].requests_trained + layer.modalities[1].requests_trained > 0;
    });
  }
  /// Whether patches and words go through the same layers.
  bool one_tower() const {
    return std::any_of(reading_.layers.begin(), reading_.layers.end(), [](const LayerUsage& layer) {
      return layer.modalities[0].tokens > 0 && layer.modalities[1].tokens > 0;
    });
  }

  void tile(const std::string& value, const std::string& meaning) {
    html_ += "<div class=\"tile\"><b>" + value + "</b><span>" + meaning + "</span></div>";
  }

  /// Mean over the sparse layers that saw any token of the modality.
  template <class Quantity>
  double mean(std::size_t modality, const Quantity& quantity) const {
    double sum = 0, layers = 0;
    for (const LayerUsage& layer : reading_.layers) {
      if (layer.modalities[modality].tokens == 0) continue;
      sum += quantity(layer.modalities[modality]), layers += 1;
    }
    return layers > 0 ? sum / layers : 0;
  }

  void header() {
    html_ += "<header><h1>" + title() + "</h1>\n<p class=\"lead\">" + model_.lead + "</p>\n<div class=\"tiles\">";
    const Score s = score(reading_);
    const auto of = [](Index part, Index all) {
      return std::to_string(part) + " <small>of " + std::to_string(all) + "</small>";
    };
    if (s.known > 0) {
      tile(of(s.right, s.known), "pictures named right; guessing would get " + number(s.by_chance, 1));
      if (s.never_seen > 0)
        tile(of(s.never_seen_right, s.never_seen), "right where training never saw or read the combination");
    } else {
      tile(std::to_string(reading_.pictures.size()), reading_.pictures.size() == 1 ? "picture" : "pictures");
      tile(std::to_string(reading_.labels.size()), "labels to choose among");
    }
    if (!reading_.layers.empty()) {
      const auto effective = [](const Usage& usage) { return usage.effective_experts(); };
      const auto of_experts = " <small>of " + std::to_string(reading_.layers[0].num_experts) + "</small>";
      tile(number(mean(gatefold::kImage, effective), 1) + of_experts, "experts share the patches (effective number)");
      tile(number(mean(gatefold::kText, effective), 1) + of_experts, "experts share the words");
    }
    html_ += "</div></header>\n";
  }

  void legend() {
    html_ += "<h2>Pictures</h2>\n" + model_.remark;
    if (reading_.layers.empty()) return;
    html_ += std::string("<p>Bars: how likely each label is. Squares: which expert took which patch; words below") +
             (one_tower() ? ": the same for the best label" : " the pictures: the same for the labels") +
             ". Tap a number to see only what that expert took.</p>\n<div class=\"legend" +
             (reading_.layers.size() > 4 ? " many" : "") + "\">";
    for (std::size_t l = 0; l < reading_.layers.size(); ++l) {
      html_ += "<span><em>" + reading_.layers[l].title + "</em>";
      for (Index e = 0; e < reading_.layers[l].num_experts; ++e) html_ += button(l, e);
      html_ += "</span>";
    }
    if (had_seats()) html_ += "<span><i class=\"hatchbox\"></i>&nbsp;no seat in training</span>";
    html_ += "</div>\n";
  }

  static std::string button(std::size_t layer, Index expert) {
    return "<button class=\"x " + style_of(expert) + "\" data-k=\"" + key(layer, expert) +
           "\" aria-pressed=\"false\" title=\"show only expert " + std::to_string(expert) + "\">" +
           std::to_string(expert) + "</button>";
  }

  void show(const Picture& picture) {
    const std::string uri = gatefold::png_data_uri(picture.image);
    const auto maps =
        std::count_if(picture.routes.begin(), picture.routes.end(), [](const auto& r) { return !r.empty(); });
    html_ += "<article class=\"picture\"" + (maps > 0 ? " style=\"--p:url(" + uri + ")\"" : "") + "><h3>";
    if (picture.expected)
      html_ += picture.right() ? "<span class=\"tick\" title=\"right\">✓</span> "
                               : "<span class=\"cross\" title=\"wrong\">✗</span> ";
    html_ += escape_html(picture.name) + "</h3><img class=\"main\" alt=\"" + escape_html(picture.name) + "\" src=\"" +
             uri + "\"><div>";
    Index hidden = 0;
    for (std::size_t i = 0; i < picture.ranked.size(); ++i) {
      const Candidate& candidate = picture.ranked[i];
      if (static_cast<Index>(i) < top_ || candidate.label == picture.expected)
        show(candidate, picture, i == 0);
      else
        ++hidden;
    }
    if (hidden > 0)
      html_ += "<div class=\"small soft\">and " + std::to_string(hidden) + " less likely label" +
               (hidden == 1 ? "" : "s") + "</div>";
    html_ += "</div>";
    if (maps > 0 && !picture.ranked.empty()) {
      html_ += std::string("<div class=\"maps") + (maps > 3 ? " many" : "") + "\">";
      for (std::size_t l = 0; l < picture.routes.size(); ++l)
        if (!picture.routes[l].empty()) show_map(picture, l);
      html_ += "</div>";
    }
    html_ += "</article>\n";
  }

  static std::string badge(std::optional<wardrobe::Seen> seen) {
    if (!seen) return "";
    if (seen == wardrobe::Seen::no) return "<span class=\"badge never\">never seen</span>";
    return seen == wardrobe::Seen::yes ? "<span class=\"badge\">seen</span>"
                                       : "<span class=\"badge\">outside the world</span>";
  }

  void show(const Candidate& candidate, const Picture& picture, bool best) {
    const bool right = candidate.label == picture.expected;
    const double share = std::isnan(candidate.probability) ? 0 : candidate.probability;
    html_ += std::string("<div class=\"row") + (best ? " best" : "") + (right ? " rightone" : "") +
             "\"><div class=\"text\"><span>" + escape_html(label_of(candidate.label).text) +
             badge(label_of(candidate.label).seen) + (right ? "<span class=\"badge ok\">right answer</span>" : "") +
             "</span><span class=\"num\">" + escape_html(percent(candidate.probability)) +
             "</span></div><div class=\"track\"><i style=\"width:" + number(100 * share, 1) + "%\"></i></div></div>";
  }

  void show_map(const Picture& picture, std::size_t layer) {
    const Index across = patches_across();
    const auto side = std::to_string(across * kSquare), edge = std::to_string(kSquare);
    html_ += "<figure><figcaption>" + reading_.layers[layer].title +
             "</figcaption><div class=\"map\"><i></i><svg viewBox=\"0 0 " + side + " " + side +
             "\" role=\"img\" aria-label=\"experts of the patches\">";
    for (std::size_t t = 0; t < picture.routes[layer].size(); ++t) {
      const Route& route = picture.routes[layer][t];
      const Index left = static_cast<Index>(t) % across * kSquare, top = static_cast<Index>(t) / across * kSquare;
      const std::string at = "\" x=\"" + std::to_string(left) + "\" y=\"" + std::to_string(top) + "\" width=\"" + edge +
                             "\" height=\"" + edge + "\"/>";
      html_ += open_token("g", layer, route, "") + "<title>" + describe(route) + "</title><rect class=\"f" + at;
      if (route.dropped_trained) html_ += "<rect class=\"h" + at;
      if (across <= kMostNumbers)
        html_ += "<text x=\"" + std::to_string(left + kSquare / 2) + "\" y=\"" + std::to_string(top + kSquare / 2) +
                 "\">" + std::to_string(route.expert) + "</text>";
      html_ += "</g>";
    }
    html_ += "</svg></div>";
    const Label& best = label_of(picture.ranked.front().label);
    if (!best.routes[layer].empty()) html_ += words(best, layer);
    html_ += "</figure>";
  }

  static std::string describe(const Route& route) {
    return "expert " + std::to_string(route.expert) + ", " + number(100 * route.gate, 0) + " % sure" +
           (route.dropped_trained ? "; would have had no seat in training" : "");
  }

  /// «<tag class="c k0-3 e3 more">»
  static std::string open_token(const char* tag, std::size_t layer, const Route& route, const std::string& more) {
    return std::string("<") + tag + " class=\"c k" + key(layer, route.expert) + " " + style_of(route.expert) + more +
           "\"";
  }

  /// A word as it is shown: the marks by signs that no label contains as a word.
  static std::string shown_word(const std::string& word) {
    return word == "<end>" ? "■" : word == "<start>" ? "□" : escape_html(word);
  }

  std::string words(const Label& label, std::size_t layer) const {
    std::string html = "<div class=\"words\">";
    for (std::size_t w = 0; w < label.words.size(); ++w) {
      const Route& route = label.routes[layer][w];
      html += open_token("span", layer, route, std::string(" chip") + (route.dropped_trained ? " d" : "")) +
              " title=\"" + describe(route) + "\">" + shown_word(label.words[w]) + "<sup>" +
              std::to_string(route.expert) + "</sup></span>";
    }
    return html + "</div>";
  }

  void show_layer(std::size_t l) {
    const LayerUsage& layer = reading_.layers[l];
    html_ += "<section class=\"layer\"><h3>" + layer.title + "</h3><div class=\"stats\">";
    for (const std::size_t m : {gatefold::kImage, gatefold::kText}) {
      const Usage& usage = layer.modalities[m];
      if (usage.tokens == 0) continue;
      html_ += std::string("<div><b>") + (m == gatefold::kImage ? "Patches" : "Words") +
               "</b>: " + number(usage.tokens, 0) + ", spread over " + number(usage.effective_experts(), 1) +
               " effective experts";
      if (usage.requests_trained > 0)
        html_ += "; with the seats of training " + whole_percent(usage.success_trained()) + " would have been served";
      html_ += "</div>";
    }
    html_ +=
        "</div><div class=\"head\"><span></span><div class=\"mirror\"><span></span><span "
        "style=\"text-align:right\">patches "
        "&nbsp;</span><span>&nbsp; words</span><span></span></div><span>what it took, where it was surest</span></div>";
    for (Index e = 0; e < layer.num_experts; ++e) show_expert(l, e);
    html_ += "</section>\n";
  }

  void show_expert(std::size_t l, Index e) {
    const LayerUsage& layer = reading_.layers[l];
    const double image = layer.modalities[gatefold::kImage].share(e), text = layer.modalities[gatefold::kText].share(e);
    double most = 0;  // the longest bar of the block is full
    for (Index other = 0; other < layer.num_experts; ++other)
      for (const Usage& usage : layer.modalities) most = std::max(most, usage.share(other));
    const double scale = most > 0 ? 100 / most : 0;
    html_ += "<div class=\"expert " + style_of(e) + "\">" + button(l, e) + "<div class=\"mirror\"><span>" +
             whole_percent(image) + "</span><div><i style=\"width:" + number(scale * image, 1) +
             "%\"></i></div><div><i style=\"width:" + number(scale * text, 1) + "%\"></i></div><span>" +
             whole_percent(text) + "</span></div><div class=\"took\">" + surest_patches(l, e) + usual_words(l, e) +
             "</div></div>";
  }

  std::string surest_patches(std::size_t layer, Index expert) const {
    constexpr std::size_t kMost = 10;
    constexpr int kOfOnePicture = 2;
    struct Patch {
      double gate;
      std::size_t picture, at;
    };
    std::vector<Patch> patches;
    for (std::size_t i = 0; i < reading_.pictures.size(); ++i) {
      const auto& routes = reading_.pictures[i].routes[layer];
      for (std::size_t t = 0; t < routes.size(); ++t)
        if (routes[t].expert == expert) patches.push_back({routes[t].gate, i, t});
    }
    std::stable_sort(patches.begin(), patches.end(), [](const Patch& a, const Patch& b) { return a.gate > b.gate; });
    const Index edge = model_.patch, across = patches_across();
    std::map<std::size_t, int> taken;
    std::string html;
    std::size_t shown = 0;
    for (const Patch& patch : patches) {
      if (shown == kMost || taken[patch.picture]++ >= kOfOnePicture) continue;
      ++shown;
      const Picture& picture = reading_.pictures[patch.picture];
      const Index at = static_cast<Index>(patch.at), left = at % across * edge, top = at / across * edge;
      auto cut = gatefold::Image::of_size({edge, edge});
      for (Index y = 0; y < edge; ++y)
        std::copy_n(picture.image.rgb.begin() + ((top + y) * picture.image.width + left) * 3, edge * 3,
                    cut.rgb.begin() + y * edge * 3);
      const std::string title = escape_html(picture.name) + ", " + number(100 * patch.gate, 0) + " % sure";
      html += "<img alt=\"\" title=\"" + title + "\" src=\"" + gatefold::png_data_uri(cut) + "\">";
    }
    return html.empty() ? "" : "<div class=\"patches\">" + html + "</div>";
  }

  std::string usual_words(std::size_t layer, Index expert) const {
    constexpr std::size_t kMost = 8;
    std::map<std::string, int> counts;
    for (const Label& label : reading_.labels)
      for (std::size_t w = 0; w < label.routes[layer].size(); ++w)
        if (label.routes[layer][w].expert == expert) ++counts[label.words[w]];
    std::vector<std::pair<int, std::string>> ranked;
    for (const auto& [word, count] : counts) ranked.emplace_back(-count, word);
    std::sort(ranked.begin(), ranked.end());
    std::string html;
    for (std::size_t i = 0; i < std::min(kMost, ranked.size()); ++i)
      html += "<span class=\"chip " + style_of(expert) + "\">" + shown_word(ranked[i].second) + "<sup>×" +
              std::to_string(-ranked[i].first) + "</sup></span>";
    if (ranked.size() > kMost)
      html += "<span class=\"small soft\">+" + std::to_string(ranked.size() - kMost) + "</span>";
    return html.empty() ? "" : "<div class=\"words\">" + html + "</div>";
  }

  void all_labels() {
    html_ += "<details class=\"box\"><summary>All " + std::to_string(reading_.labels.size()) +
             " labels, word by word</summary><div class=\"lines\">";
    for (const Label& label : reading_.labels) {
      html_ += "<div><div class=\"small\" style=\"margin-top:10px\">" + escape_html(label.text) + badge(label.seen) +
               "</div>";
      for (std::size_t l = 0; l < label.routes.size(); ++l)
        if (!label.routes[l].empty()) html_ += words(label, l);
      html_ += "</div>";
    }
    html_ += "</div></details>\n";
  }

  void explanation() {
    html_ +=
        "<h2>How to read this page</h2>\n<div class=\"box\"><dl>"
        "<dt>Percentages</dt><dd>If exactly one of the labels is right: how likely the model holds each of them to be. "
        "It compares direction with direction (the cosine of two vectors, times a learnt temperature of " +
        number(reading_.temperature, 1) + "), so it must choose even where no label fits. " + model_.scope + "</dd>" +
        model_.explanation;
    if (!reading_.layers.empty())
      html_ +=
          "<dt>Effective experts</dt><dd>How evenly the work is shared: 1 when everything goes to one expert, the "
          "number of experts when all do the same (the exponential of the entropy of the mean routing "
          "probability).</dd>";
    html_ += "</dl><p class=\"small soft\">" + model_.source + "</p></div>\n";
  }

  void card() {
    html_ += "<h2>Model card</h2>\n<div class=\"box\"><table>";
    for (const auto& [name, value] : model_.card)
      html_ += "<tr><td>" + escape_html(name) + "</td><td>" + escape_html(value) + "</td></tr>";
    html_ += "</table></div>\n";
  }

  const Reading& reading_;
  PageModel model_;
  Index top_;
  std::string html_;
};

/// Writes the page so that a reader never sees half of it. Throws FormatError that says what to do.
inline void write_page(const std::string& html, const std::filesystem::path& path) {
  try {
    gatefold::AtomicFile file(path);
    file.write(std::as_bytes(std::span(html)));
    file.commit();
  } catch (const std::system_error& e) {
    throw gatefold::FormatError(std::string("the report cannot be written: ") + e.what() +
                                "; name a file in a folder that exists and is yours: --report FOLDER/report.html");
  }
  std::cerr << "The report is in " << path.string() << "; any browser shows it.\n";
}

}  // namespace zero_shot
