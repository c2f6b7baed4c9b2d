#include "wardrobe/routing_table.hpp"

#include "wardrobe/scene.hpp"

namespace wardrobe {

std::array<MeanUsage, 2> mean_usage(const gatefold::RoutingReport& report) {
  std::array<MeanUsage, 2> mean;
  for (std::size_t m = 0; m < 2; ++m) {
    double layers = 0;
    MeanUsage sum{0, 0};
    for (const auto& layer : report.layers()) {
      if (m >= layer.modalities.size()) continue;
      sum.success += layer.modalities[m].success_rate();
      sum.experts += layer.modalities[m].effective_experts();
      layers += 1;
    }
    if (layers > 0) mean[m] = {sum.success / layers, sum.experts / layers};
  }
  return mean;
}

std::string routing_table(const gatefold::RoutingReport& report) {
  static constexpr std::array<const char*, 2> kNames = {"image", "text"};
  std::string text;
  char cell[64];
  for (std::size_t l = 0; l < report.layers().size(); ++l) {
    const auto& layer = report.layers()[l];
    text += "\n| sparse layer " + std::to_string(l) + " | tokens | success % | effective experts | confidence |";
    for (Index e = 0; e < layer.num_experts; ++e) text += " expert " + std::to_string(e) + " |";
    text += "\n|---|---|---|---|---|";
    for (Index e = 0; e < layer.num_experts; ++e) text += "---|";
    for (std::size_t m = 0; m < layer.modalities.size() && m < kNames.size(); ++m) {
      const auto& usage = layer.modalities[m];
      std::snprintf(cell, sizeof cell, "\n| %s | %.0f | %.1f | %.2f | %.2f |", kNames[m], usage.tokens,
                    100 * usage.success_rate(), usage.effective_experts(), usage.mean_confidence());
      text += cell;
      for (const double seated : usage.seated) {
        std::snprintf(cell, sizeof cell, " %.0f |", seated);
        text += cell;
      }
    }
    for (const auto& loss : layer.losses) {
      std::snprintf(cell, sizeof cell, "\n%s %.5f  ", loss.name.c_str(), loss.mean());
      text += cell;
    }
    text += "\n";
  }
  return text;
}

}  // namespace wardrobe
