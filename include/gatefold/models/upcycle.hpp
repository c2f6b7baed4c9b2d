#pragma once
#include "gatefold/models/clip.hpp"

namespace gatefold {

struct UpcycleOptions {
  Index num_experts = 4, num_selected = 2;         // E, K
  std::optional<Placement> vision = std::nullopt,  ///< Which blocks; nothing: all.
      text = std::nullopt;
  double balance = 0.01;  ///< See ClipMixture.
};

namespace detail {
template <Real T>
void upcycle_tower(ClipTower<T>& tower, ClipTowerOptions& options, const std::optional<Placement>& placement,
                   const UpcycleOptions& how) {
  expect_option(how.num_selected >= 2,
                "upcycle: num_selected is " + std::to_string(how.num_selected) +
                    ", expected 2 or more: renormalised, the gate of a single expert is 1 whatever the router says");
  expect_rate("upcycle", "balance", how.balance);
  expect_option(options.mixture.placement.layers.empty(),
                "upcycle: the model has mixtures already, expected a dense one");
  options.mixture = {.placement = placement ? *placement : Placement::last(options.num_layers, options.num_layers),
                     .num_experts = how.num_experts,
                     .num_selected = how.num_selected,
                     .balance = how.balance};
  for (const Index layer : options.mixture.placement.layers) {
    expect_option(0 <= layer && layer < options.num_layers, "upcycle: block " + std::to_string(layer) +
                                                                " does not exist, expected 0.." +
                                                                std::to_string(options.num_layers - 1));
    auto& ffn = tower.encoder.blocks[static_cast<std::size_t>(layer)].ffn.inner;
    std::visit(
        [&](auto& net) {
          using Net = std::remove_cvref_t<decltype(net)>;
          auto mixture = ClipTower<T>::make_mixture(options, std::get<0>(net.layer));
          net = Net(std::move(mixture));
        },
        ffn.layer);
  }
}
}  // namespace detail

/// A dense CLIP as a mixture of experts: every feed-forward net of the chosen blocks is copied into all experts of a
/// mixture, with a new router (uniform within 1 / sqrt(D), as PyTorch makes linear layers). The gates of the selected
/// experts sum to 1, so the embeddings stay as they were, but for rounding; training then tells the experts apart
/// (Komatsuzaki et al. 2023, arXiv 2212.05055; CLIP-MoE, arXiv 2409.19291, baseline). Throws OptionError.
template <Real T>
Clip<T> upcycle(Clip<T> model, const UpcycleOptions& how, Rng& rng) {
  auto& options = model.options;
  detail::upcycle_tower(model.vision.tower, options.vision, how.vision, how);
  detail::upcycle_tower(model.text.tower, options.text, how.text, how);
  const auto draw = [&](ClipTower<T>& tower, Index width) {
    const double limit = 1 / std::sqrt(static_cast<double>(width));
    for (auto& block : tower.encoder.blocks)
      std::visit(
          [&](auto& net) {
            if (auto* mixture = std::get_if<1>(&net.layer))
              for (T& v : mixture->router.weight.flat()) v = T(rng.uniform(-limit, limit));
          },
          block.ffn.inner.layer);
  };
  draw(model.vision.tower, options.vision.width);
  draw(model.text.tower, options.text.width);
  return model;
}

}  // namespace gatefold
