#include "zero_shot/page_experts.hpp"

#include <algorithm>
#include <map>
#include <vector>

#include "gatefold/image/encode.hpp"
#include "zero_shot/expert_words.hpp"
#include "zero_shot/page_parts.hpp"

namespace zero_shot {
namespace {

class ExpertsSection {
 public:
  ExpertsSection(const Reading& reading, Index patch)
      : reading_(reading), patch_(patch), looks_(looks_of(reading, patch)) {}

  std::string html() const {
    std::string html =
        "<h2>Who does what</h2>\n<p>Each sparse block has experts of its own: number 3 of one block has nothing to "
        "do with number 3 of the next. The percentages say which share of all patches (left, plain) and of all words "
        "(right, striped) went to an expert; beside them is what most of its patches have in common, where they have, "
        "and patches and words that it took.</p>\n"
        "<details class=\"fold\" open><summary>What each expert takes</summary>\n";
    for (std::size_t l = 0; l < reading_.layers.size(); ++l) html += layer(l);
    return html + all_labels() + "</details>\n";
  }

 private:
  std::string layer(std::size_t l) const {
    const LayerUsage& layer = reading_.layers[l];
    std::string html = "<section class=\"layer\"><h3>" + layer.title + "</h3><div class=\"stats\">";
    for (const std::size_t m : {gatefold::kImage, gatefold::kText}) {
      const Usage& usage = layer.modalities[m];
      if (usage.tokens == 0) continue;
      html += std::string("<div><b>") + (m == gatefold::kImage ? "Patches" : "Words") +
              "</b>: " + part::number(usage.tokens, 0) + ", spread as widely as over " +
              part::number(usage.effective_experts(), 1) + " experts with equal shares";
      if (usage.requests_trained > 0)
        html +=
            "; with the seats of training " + part::whole_percent(usage.success_trained()) + " would have been served";
      html += "</div>";
    }
    html +=
        "</div><div class=\"head\"><span></span><div class=\"mirror\"><span></span><span class=\"left\">patches "
        "&nbsp;</span><span>&nbsp; words</span><span></span></div><span>what it took, where it was surest</span></div>";
    for (Index e = 0; e < layer.num_experts; ++e) html += expert(l, e);
    return html + "</section>\n";
  }

  std::string expert(std::size_t l, Index e) const {
    const LayerUsage& layer = reading_.layers[l];
    const double image = layer.modalities[gatefold::kImage].share(e), text = layer.modalities[gatefold::kText].share(e);
    double most = 0;  // the longest bar of the block is full
    for (Index other = 0; other < layer.num_experts; ++other)
      for (const Usage& usage : layer.modalities) most = std::max(most, usage.share(other));
    const double scale = most > 0 ? 100 / most : 0;
    const std::string takes = what_it_takes(reading_, looks_, l, e);
    return "<div class=\"expert " + part::colour(l, e) + "\">" + part::button(layer, l, e) +
           "<div class=\"mirror\"><span>" + part::whole_percent(image) +
           "</span><div><i style=\"width:" + part::number(scale * image, 1) +
           "%\"></i></div><div><i style=\"width:" + part::number(scale * text, 1) + "%\"></i></div><span>" +
           part::whole_percent(text) + "</span></div><div class=\"took\">" +
           (takes.empty() ? "" : "<div class=\"takes\">" + takes + "</div>") + surest_patches(l, e) +
           usual_words(l, e) + "</div></div>";
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
    std::map<std::size_t, int> taken;
    std::string html;
    std::size_t shown = 0;
    for (const Patch& patch : patches) {
      if (shown == kMost || taken[patch.picture]++ >= kOfOnePicture) continue;
      ++shown;
      const Picture& picture = reading_.pictures[patch.picture];
      const Index across = picture.image.width / patch_, at = static_cast<Index>(patch.at);
      const Index left = at % across * patch_, top = at / across * patch_;
      auto cut = gatefold::Image::of_size({patch_, patch_});
      for (Index y = 0; y < patch_; ++y)
        std::copy_n(picture.image.rgb.begin() + ((top + y) * picture.image.width + left) * 3, patch_ * 3,
                    cut.rgb.begin() + y * patch_ * 3);
      const std::string title = escape_html(picture.name) + ", " + part::number(100 * patch.gate, 0) + " % sure";
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
      html += "<span class=\"chip " + part::colour(layer, expert) + "\">" + part::shown_word(ranked[i].second) +
              "<sup>×" + std::to_string(-ranked[i].first) + "</sup></span>";
    if (ranked.size() > kMost)
      html += "<span class=\"small soft\">+" + std::to_string(ranked.size() - kMost) + "</span>";
    return html.empty() ? "" : "<div class=\"words\">" + html + "</div>";
  }

  std::string all_labels() const {
    std::string html = "<details class=\"box\"><summary>All " + std::to_string(reading_.labels.size()) +
                       " labels, word by word</summary><div class=\"lines\">";
    for (const Label& label : reading_.labels) {
      html += "<div><div class=\"small\" style=\"margin-top:10px\">" + escape_html(label.text) +
              part::badge(label.seen) + "</div>";
      for (std::size_t l = 0; l < label.routes.size(); ++l)
        if (!label.routes[l].empty()) html += part::words(label, l);
      html += "</div>";
    }
    return html + "</div></details>\n";
  }

  const Reading& reading_;
  Index patch_;
  std::vector<std::vector<PatchLook>> looks_;
};

}  // namespace

std::string experts_section(const Reading& reading, Index patch) { return ExpertsSection(reading, patch).html(); }

}  // namespace zero_shot
