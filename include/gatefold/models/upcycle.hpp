#pragma once
#include <span>

#include "gatefold/models/clip.hpp"

namespace gatefold {

struct UpcycleOptions {
  Index num_experts = 4, num_selected = 2;         // E, K
  std::optional<Placement> vision = std::nullopt,  ///< Which blocks; nothing: all.
      text = std::nullopt;
  double balance = 0.01;  ///< See ClipMixture.
  BalanceOver balance_over = BalanceOver::block;
};

/// Whether models that are made into one must be the same but for the nets that become experts.
enum class OtherParameters { must_agree, may_differ };

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
                     .balance = how.balance,
                     .balance_over = how.balance_over};
  tower.balance_over = how.balance_over;
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

/// fn(mixture, net of the dense tower in its place) for every mixture.
template <Real T, class Fn>
void for_each_mixture(ClipTower<T>& tower, const ClipTower<T>& dense, Fn&& fn) {
  for (std::size_t i = 0; i < tower.encoder.blocks.size(); ++i)
    std::visit(
        [&](auto& net) {
          using Net = std::remove_cvref_t<decltype(net)>;
          if (auto* mixture = std::get_if<1>(&net.layer))
            fn(*mixture, std::get<0>(std::get<Net>(dense.encoder.blocks[i].ffn.inner.layer).layer));
        },
        tower.encoder.blocks[i].ffn.inner.layer);
}

/// Throws OptionError unless model e is made like the first and, where its nets do not become experts, has the same
/// parameters if they must agree.
template <Real T>
void expect_alike(const Clip<T>& first, const Clip<T>& other, Index e, const UpcycleOptions& how,
                  OtherParameters others) {
  const std::string who = "upcycle_from: model " + std::to_string(e);
  expect_option(other.options == first.options, who +
                                                    " is made with other options than model 0: sizes, activation, "
                                                    "heads, epsilon or how it is read off; expected the same");
  if (others == OtherParameters::may_differ) return;
  const auto becomes_expert = [&](std::string_view path) {
    const auto in = [&](std::string_view blocks, const std::optional<Placement>& placement) {
      const std::size_t net = path.find(".ffn.inner.");
      if (!path.starts_with(blocks) || net == std::string_view::npos) return false;
      return !placement ||
             placement->is_sparse(std::stoll(std::string(path.substr(blocks.size(), net - blocks.size()))));
    };
    return in("vision.encoder.blocks.", how.vision) || in("text.encoder.blocks.", how.text);
  };
  for_each_param(
      [&](std::string_view path, const auto& a, const auto& b) {
        expect_option(becomes_expert(path) || a == b,
                      who + " differs from model 0 in " + std::string(path) +
                          ", which no expert keeps; expected models that were tuned in the nets of the chosen blocks "
                          "only, or OtherParameters::may_differ to take model 0's");
      },
      first, other);
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

/// Several dense CLIPs of one shape as one mixture (diversified multiplet upcycling: CLIP-MoE, arXiv 2409.19291,
/// section 3.2): expert e of a chosen block is its net in model e, all else is model 0's, the routers are new, as
/// upcycle makes them. Throws OptionError for another number of models than of experts, for models of other options
/// and, where they must agree, for a parameter that differs elsewhere.
template <Real T>
Clip<T> upcycle_from(std::type_identity_t<std::span<const Clip<T>>> models, const UpcycleOptions& how, Rng& rng,
                     OtherParameters others = OtherParameters::must_agree) {
  expect_option(!models.empty() && std::ssize(models) == how.num_experts, "upcycle_from", "num_experts",
                how.num_experts, "as many as there are models, " + std::to_string(models.size()));
  for (std::size_t e = 1; e < models.size(); ++e)
    detail::expect_alike(models[0], models[e], static_cast<Index>(e), how, others);
  auto moe = upcycle(models[0], how, rng);
  for (std::size_t e = 1; e < models.size(); ++e) {
    const auto take = [&](auto& mixture, const auto& net) { mixture.experts[e] = net; };
    detail::for_each_mixture(moe.vision.tower, models[e].vision.tower, take);
    detail::for_each_mixture(moe.text.tower, models[e].text.tower, take);
  }
  return moe;
}

}  // namespace gatefold
