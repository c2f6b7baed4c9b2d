#include "zero_shot/expert_words.hpp"

namespace zero_shot {

namespace detail {

const char* colour_name(const std::array<double, 3>& rgb) {
  const auto [r, g, b] = rgb;
  const double top = std::max({r, g, b}), chroma = top - std::min({r, g, b});
  if (chroma < 36) return top < 70 ? "dark" : top > 200 ? "white" : "grey";
  const double hue = top == r   ? std::fmod((g - b) / chroma + 6, 6.0)
                     : top == g ? (b - r) / chroma + 2
                                : (r - g) / chroma + 4;
  constexpr std::array<std::pair<double, const char*>, 8> kHues{{{0.3, "red"},
                                                                 {0.75, "orange"},
                                                                 {1.3, "yellow"},
                                                                 {2.6, "green"},
                                                                 {3.3, "cyan"},
                                                                 {4.3, "blue"},
                                                                 {5.0, "purple"},
                                                                 {5.7, "pink"}}};
  for (const auto& [until, name] : kHues)
    if (hue < until) return hue >= 0.3 && hue < 0.75 && top < 150 ? "brown" : name;
  return "red";
}

std::vector<PatchLook> looks_of(const gatefold::Image& image, Index patch) {
  const Index across = image.width / patch;
  std::vector<PatchLook> looks;
  for (Index t = 0; t < across * across; ++t) {
    const Index left = t % across * patch, top = t / across * patch;
    std::array<double, 3> mean{};
    double sum = 0, squares = 0;
    for (Index y = top; y < top + patch; ++y)
      for (Index x = left; x < left + patch; ++x) {
        double grey = 0;
        for (Index c = 0; c < 3; ++c) {
          const double value = image.rgb[static_cast<std::size_t>((y * image.width + x) * 3 + c)];
          mean[static_cast<std::size_t>(c)] += value, grey += value / 3;
        }
        sum += grey, squares += grey * grey;
      }
    const auto pixels = static_cast<double>(patch * patch);
    for (double& value : mean) value /= pixels;
    const double deviation = std::sqrt(std::max(0.0, squares / pixels - sum / pixels * (sum / pixels)));
    const Index row = t / across, column = t % across;
    looks.push_back({.plain = deviation<8, .edge = deviation> 24,
                     .rim = row == 0 || column == 0 || row == across - 1 || column == across - 1,
                     .colour = colour_name(mean)});
  }
  return looks;
}

}  // namespace detail

std::vector<std::vector<PatchLook>> looks_of(const Reading& reading, Index patch) {
  std::vector<std::vector<PatchLook>> looks;
  for (const Picture& picture : reading.pictures) looks.push_back(detail::looks_of(picture.image, patch));
  return looks;
}

std::string what_it_takes(const Reading& reading, const std::vector<std::vector<PatchLook>>& looks, std::size_t layer,
                          Index expert) {
  constexpr double kFewest = 12, kMost = 0.55, kLift = 1.3;
  struct Share {
    double own = 0, all = 0;
  };
  Share plain, edge, rim, middle;
  std::vector<std::pair<std::string, Share>> colours;
  double own = 0, all = 0;
  for (std::size_t i = 0; i < looks.size(); ++i) {
    const auto& routes = reading.pictures[i].routes[layer];
    for (std::size_t t = 0; t < std::min(routes.size(), looks[i].size()); ++t) {
      const PatchLook& look = looks[i][t];
      const bool mine = routes[t].expert == expert;
      all += 1, own += mine;
      const auto add = [mine](Share& share) { share.all += 1, share.own += mine; };
      if (look.plain) add(plain);
      if (look.edge) add(edge);
      add(look.rim ? rim : middle);
      auto at = std::find_if(colours.begin(), colours.end(), [&](const auto& c) { return c.first == look.colour; });
      if (at == colours.end()) at = colours.insert(at, {look.colour, Share{}});
      add(at->second);
    }
  }
  if (own < kFewest) return "";
  const auto stands_out = [&](const Share& share, double most) {
    return share.own / own >= most && share.own / own >= kLift * share.all / all;
  };
  std::string words;
  if (stands_out(edge, kMost))
    words = "edges";
  else if (stands_out(plain, kMost))
    words = "plain areas";
  if (stands_out(rim, kMost))
    words += words.empty() ? "the rim of the picture" : " at the rim";
  else if (stands_out(middle, kMost))
    words += words.empty() ? "the middle of the picture" : " in the middle";
  std::string colour;
  for (const auto& [name, share] : colours)
    if (stands_out(share, 0.4)) colour += (colour.empty() ? "" : " and ") + name;
  if (!colour.empty()) words += words.empty() ? colour + " patches" : ", mostly " + colour;
  return words;
}

}  // namespace zero_shot
