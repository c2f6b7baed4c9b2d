#include "zero_shot/page.hpp"

#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "gatefold/image/encode.hpp"
#include "gatefold/io/atomic_file.hpp"
#include "gatefold/io/json_file.hpp"
#include "gatefold/version.hpp"
#include "program.hpp"
#include "zero_shot/html.hpp"
#include "zero_shot/page_experts.hpp"
#include "zero_shot/page_parts.hpp"
#include "zero_shot/page_style.hpp"
#include "zero_shot/terminal.hpp"

namespace zero_shot {

std::string common_folder(const std::vector<std::string>& names) {
  std::string common = names.empty() ? "" : names.front();
  for (const std::string& name : names) {
    common.resize(std::min(common.size(), name.rfind('/') + 1));
    while (!name.starts_with(common)) common.resize(common.rfind('/', common.size() - 2) + 1);
  }
  return common;
}

namespace {

class Page {
 public:
  Page(Reading reading, PageModel model, Index labels_of_each_picture)
      : reading_(std::move(reading)), model_(std::move(model)), top_(labels_of_each_picture) {
    std::vector<std::string> names;
    for (const Picture& picture : reading_.pictures) names.push_back(picture.name);
    const auto folder = common_folder(names).size();
    for (Picture& picture : reading_.pictures) picture.name.erase(0, folder);
    const auto surety = [](const Picture& picture) {
      return picture.right() ? picture.ranked.front().probability : picture.expected ? -1 : 2;
    };
    std::stable_sort(reading_.pictures.begin(), reading_.pictures.end(),
                     [&](const Picture& a, const Picture& b) { return surety(a) > surety(b); });
  }

  std::string html() {
    html_ =
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\"><title>" +
        title() + "</title><meta name=\"description\" content=\"" + description() + "\"><link rel=\"icon\" href=\"" +
        icon() + "\"><style>" + kPageStyle + "</style></head><body" +
        (model_.image_size >= kPhoto ? " class=\"photos\"" : "") + ">\n" + kHatch + "<main>\n";
    header();
    legend();
    const auto rest = std::max(reading_.pictures.size(), kShownOnPhones) - kShownOnPhones;
    for (std::size_t i = 0; i < reading_.pictures.size(); ++i) {
      if (i == kShownOnPhones)
        html_ += "<details class=\"fold\" open><summary>" + std::to_string(rest) + " more picture" +
                 (rest == 1 ? "" : "s") + "</summary>\n";
      show(reading_.pictures[i]);
    }
    if (rest > 0) html_ += "</details>\n";
    if (!reading_.layers.empty()) html_ += experts_section(reading_, model_.patch);
    explanation();
    card();
    html_ += "<footer>Made by zero_shot, an example of gatefold " GATEFOLD_VERSION_STRING
             ": mixtures of experts for C++, header-only.</footer>\n</main><script>" +
             std::string(kPageScript) + "</script></body></html>\n";
    return std::move(html_);
  }

 private:
  static constexpr std::size_t kShownOnPhones = 4;  ///< Pictures; the others begin folded there.
  static constexpr const char* kHatch =
      "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs><pattern id=\"hatch\" "
      "width=\"1.5\" height=\"1.5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect "
      "width=\".38\" "
      "height=\"1.5\" fill=\"#000\"/></pattern></defs></svg>\n";
  static constexpr Index kPhoto = 150;       ///< From here on pixels are no longer to be seen one by one.
  static constexpr Index kSquare = 6;        ///< Of a patch in a map, whose numbers are 3 high.
  static constexpr Index kMostNumbers = 10;  ///< In a row; of more, only the colours can be told apart.

  const Label& label_of(Index i) const { return reading_.labels[static_cast<std::size_t>(i)]; }

  std::string title() const { return reading_.layers.empty() ? "What the model sees" : "What the experts see"; }
  std::string description() const {
    const auto pictures = std::ssize(reading_.pictures);
    return std::to_string(pictures) + (pictures == 1 ? " picture" : " pictures") +
           " and what a small piece of C++ says " + (pictures == 1 ? "it shows" : "they show") +
           (reading_.layers.empty() ? "." : ", with the expert that took each patch and each word.");
  }
  /// Four squares in the colours of four experts.
  static std::string icon() {
    constexpr std::array<std::array<std::uint8_t, 3>, 4> kColours{
        {{0x00, 0x72, 0xb2}, {0xe6, 0x9f, 0x00}, {0x00, 0x9e, 0x73}, {0xcc, 0x79, 0xa7}}};
    constexpr Index kSide = 16;
    auto image = gatefold::Image::of_size({kSide, kSide});
    for (Index i = 0; i < kSide * kSide; ++i)
      std::copy_n(kColours[static_cast<std::size_t>(i / (kSide * kSide / 2) * 2 + i % kSide / (kSide / 2))].begin(), 3,
                  image.rgb.begin() + 3 * i);
    return gatefold::png_data_uri(image);
  }
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

  std::string size_in_words() const {
    return std::to_string(model_.image_size) + " x " + std::to_string(model_.image_size);
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
      tile(of(s.right, s.known), "pictures named right; guessing would get " + part::number(s.by_chance, 1));
      if (s.never_seen > 0)
        tile(of(s.never_seen_right, s.never_seen), "right where training never saw or read the combination");
    } else {
      tile(std::to_string(reading_.pictures.size()), reading_.pictures.size() == 1 ? "picture" : "pictures");
      tile(std::to_string(reading_.labels.size()), "labels to choose among");
    }
    if (!reading_.layers.empty()) {
      const auto effective = [](const Usage& usage) { return usage.effective_experts(); };
      const auto of_experts = " <small>of " + std::to_string(reading_.layers[0].num_experts) + "</small>";
      tile(part::number(mean(gatefold::kImage, effective), 1) + of_experts,
           "experts busy with patches: all of them if they take equal shares, 1 if one takes everything");
      tile(part::number(mean(gatefold::kText, effective), 1) + of_experts,
           "experts busy with words, counted in the same way");
    }
    html_ += "</div></header>\n";
  }

  void legend() {
    html_ += "<h2>Pictures</h2>\n" + model_.remark;
    if (reading_.layers.empty()) return;
    html_ += std::string("<p>Bars: how likely each label is. Squares: which expert took which patch; words below") +
             (one_tower() ? ": the same for the best label" : " the pictures: the same for the labels") +
             ". <span class=\"tap\">Tap a number to see only what that expert took.</span></p>\n<div class=\"legend" +
             (reading_.layers.size() > 4 ? " many" : "") + "\">";
    for (std::size_t l = 0; l < reading_.layers.size(); ++l) {
      html_ += "<span><em>" + reading_.layers[l].title + "</em>";
      for (Index e = 0; e < reading_.layers[l].num_experts; ++e) html_ += part::button(reading_.layers[l], l, e);
      html_ += "</span>";
    }
    if (had_seats()) html_ += "<span><i class=\"hatchbox\"></i>&nbsp;no seat in training</span>";
    html_ += "</div>\n";
  }

  void show(const Picture& picture) {
    const std::string uri = gatefold::png_data_uri(picture.image);
    const auto maps =
        std::count_if(picture.routes.begin(), picture.routes.end(), [](const auto& r) { return !r.empty(); });
    html_ += "<article class=\"picture\"" + (maps > 0 ? " style=\"--p:url(" + uri + ")\"" : "") + "><h3>";
    if (picture.expected)
      html_ += picture.right() ? "<span class=\"tick\" title=\"right\">✓</span> "
                               : "<span class=\"cross\" title=\"wrong\">✗</span> ";
    html_ += escape_html(picture.name) + "</h3><div class=\"seen\"><img class=\"main\" alt=\"the picture " +
             escape_html(picture.name) + "\" src=\"" + uri + "\">" +
             (&picture == &reading_.pictures.front() && model_.image_size < kPhoto
                  ? "<div class=\"small soft\">" + size_in_words() + " pixels are all that the model sees.</div>"
                  : "") +
             "</div><div>";
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

  void show(const Candidate& candidate, const Picture& picture, bool best) {
    const bool right = candidate.label == picture.expected;
    const double share = std::isnan(candidate.probability) ? 0 : candidate.probability;
    html_ +=
        std::string("<div class=\"row") + (best ? " best" : "") + (right ? " rightone" : "") +
        "\"><div class=\"text\"><span>" + escape_html(label_of(candidate.label).text) +
        part::badge(label_of(candidate.label).seen) + (right ? "<span class=\"badge ok\">right answer</span>" : "") +
        "</span><span class=\"num\">" + escape_html(percent(candidate.probability)) +
        "</span></div><div class=\"track\"><i style=\"width:" + part::number(100 * share, 1) + "%\"></i></div></div>";
  }

  void show_map(const Picture& picture, std::size_t layer) {
    const Index across = patches_across();
    const auto side = std::to_string(across * kSquare), edge = std::to_string(kSquare);
    html_ += "<figure><figcaption>" + reading_.layers[layer].title +
             "</figcaption><div class=\"map\"><i></i><svg viewBox=\"0 0 " + side + " " + side +
             "\" role=\"img\" aria-label=\"" + reading_.layers[layer].title + ": experts of the patches of " +
             escape_html(picture.name) + "\">";
    for (std::size_t t = 0; t < picture.routes[layer].size(); ++t) {
      const Route& route = picture.routes[layer][t];
      const Index left = static_cast<Index>(t) % across * kSquare, top = static_cast<Index>(t) / across * kSquare;
      const std::string at = "\" x=\"" + std::to_string(left) + "\" y=\"" + std::to_string(top) + "\" width=\"" + edge +
                             "\" height=\"" + edge + "\"/>";
      html_ +=
          part::open_token("g", layer, route, "") + "<title>" + part::describe(route) + "</title><rect class=\"f" + at;
      if (route.dropped_trained) html_ += "<rect class=\"h" + at;
      if (across <= kMostNumbers)
        html_ += "<text x=\"" + std::to_string(left + kSquare / 2) + "\" y=\"" + std::to_string(top + kSquare / 2) +
                 "\">" + std::to_string(route.expert) + "</text>";
      html_ += "</g>";
    }
    html_ += "</svg></div>";
    const Label& best = label_of(picture.ranked.front().label);
    if (!best.routes[layer].empty()) html_ += part::words(best, layer);
    html_ += "</figure>";
  }

  void explanation() {
    html_ +=
        "<h2>How to read this page</h2>\n<div class=\"box\"><dl>"
        "<dt>Percentages</dt><dd>If exactly one of the labels is right: how likely the model holds each of them to be. "
        "It compares direction with direction (the cosine of two vectors, times a learnt temperature of " +
        part::number(reading_.temperature, 1) + "), so it must choose even where no label fits. " + model_.scope +
        "</dd>" + model_.explanation;
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
      html_ += "<tr><td>" + escape_html(name) + "</td><td>" + card_value(value) + "</td></tr>";
    html_ += "</table></div>\n";
  }

  /// A number with separators, settings as a list that opens, anything else as it is.
  static std::string card_value(const std::string& value) {
    if (value.size() > 4 && value.find_first_not_of("0123456789") == std::string::npos) {
      std::string grouped = value;
      for (std::size_t at = value.size(); at > 3; at -= 3) grouped.insert(at - 3, ",");
      return grouped;
    }
    nlohmann::ordered_json settings;
    try {
      settings = gatefold::parse_json<nlohmann::ordered_json>(value, "settings");
    } catch (const gatefold::FormatError&) {  // of a hostile model, which need not be explained
    }
    if (!settings.is_object()) return escape_html(value);
    std::string html = "<details><summary>" + std::to_string(settings.size()) + " settings</summary>";
    for (const auto& [name, setting] : settings.items())
      html += "<div class=\"small\">" + escape_html(name) + ": " +
              escape_html(setting.is_string() ? setting.get<std::string>() : setting.dump()) + "</div>";
    return html + "</details>";
  }

  Reading reading_;
  PageModel model_;
  Index top_;
  std::string html_;
};

}  // namespace

std::string page_html(Reading reading, PageModel model, Index labels_of_each_picture) {
  return Page(std::move(reading), std::move(model), labels_of_each_picture).html();
}

void write_page(const std::string& html, const std::filesystem::path& path) {
  try {
    gatefold::write_file(path, html);
  } catch (const std::system_error& e) {
    throw gatefold::FormatError(std::string("the report cannot be written: ") + e.what() +
                                "; name a file in a folder that exists and is yours: --report FOLDER/report.html");
  }
  std::cerr << gatefold::message("The report is in " + path.string() + "; any browser shows it.");
}

}  // namespace zero_shot
