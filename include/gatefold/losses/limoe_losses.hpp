#pragma once
#include "gatefold/losses/aux_losses.hpp"
#include "gatefold/losses/entropy.hpp"
#include "gatefold/losses/importance.hpp"
#include "gatefold/losses/load.hpp"
#include "gatefold/losses/z_loss.hpp"

namespace gatefold {

/// LIMoE's auxiliary losses as one type, whichever of them are on.
using LimoeLosses = AuxLosses<Importance, Load, ZLoss, LocalEntropy, LocalEntropy, GlobalEntropy, GlobalEntropy>;

/// The default is LIMoE's set (Mustafa et al. 2022): coefficient * mean over importance, load, z, local entropy of text
/// and thresholded global entropy of both modalities. The paper found local entropy of images of no use. Load needs
/// router noise: in a pass without, the mean is over the other terms (5 of the default's, 2 of classic()'s), so that
/// they do not weigh less for a term that can say nothing. A term of a modality that a pass happens to lack does count.
struct LimoeLossOptions {
  double coefficient = 0.04;
  Index image_modality = 0;
  Index text_modality = 1;
  /// Soft minimum of experts that a modality should use, the exponential of the threshold tau; at most E.
  double min_image_experts = 20;
  double min_text_experts = 9;
  LossScope entropy_scope = LossScope::group;
  bool importance = true;
  bool load = true;
  bool z = true;
  bool local_image = false;
  bool local_text = true;
  bool global_image = true;
  bool global_text = true;

  /// Every term off: value 0.
  static LimoeLossOptions none() {
    return {.importance = false,
            .load = false,
            .z = false,
            .local_text = false,
            .global_image = false,
            .global_text = false};
  }
  /// What balanced sparse models before LIMoE: importance, load, z.
  static LimoeLossOptions classic() { return {.local_text = false, .global_image = false, .global_text = false}; }
};

/// Throws OptionError if the coefficient is negative or not finite, a soft minimum is below 1 or a modality is named
/// twice; that the minimum is at most E is checked, by the option's name, when the losses meet the router's scores.
inline LimoeLosses limoe_losses(const LimoeLossOptions& o = {}) {
  expect_rate("limoe_losses", "coefficient", o.coefficient);
  for (const auto& [option, minimum] :
       {std::pair("min_image_experts", o.min_image_experts), std::pair("min_text_experts", o.min_text_experts)})
    expect_option(minimum >= 1, "LimoeLossOptions", option, minimum, "at least 1");
  expect_option(o.image_modality != o.text_modality,
                "limoe_losses: image and text are both modality " + std::to_string(o.image_modality));
  const auto weight = [](bool on) { return on ? 1.0 : 0.0; };
  const auto local = [&](Index modality) { return LocalEntropy{.modality = modality, .scope = o.entropy_scope}; };
  const auto global = [&](Index modality, double experts, std::string_view option) {
    return GlobalEntropy{
        .modality = modality, .threshold = std::log(experts), .scope = o.entropy_scope, .set_by = option};
  };
  return {.terms = {{.weight = weight(o.importance)},
                    {.weight = weight(o.load)},
                    {.weight = weight(o.z)},
                    {local(o.image_modality), weight(o.local_image), "local_entropy_image"},
                    {local(o.text_modality), weight(o.local_text), "local_entropy_text"},
                    {global(o.image_modality, o.min_image_experts, "LimoeLossOptions: min_image_experts"),
                     weight(o.global_image), "global_entropy_image"},
                    {global(o.text_modality, o.min_text_experts, "LimoeLossOptions: min_text_experts"),
                     weight(o.global_text), "global_entropy_text"}},
          .reduction = LimoeLosses::Reduction::mean,
          .coefficient = o.coefficient};
}

}  // namespace gatefold
