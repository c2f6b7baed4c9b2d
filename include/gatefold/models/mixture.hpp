#pragma once
#include <variant>

#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/gated.hpp"
#include "gatefold/nn/gated_mlp.hpp"
#include "gatefold/nn/one_of.hpp"
#include "gatefold/nn/sum.hpp"
#include "gatefold/routing/sparse_mixer_router.hpp"
#include "gatefold/routing/top_k_router.hpp"

namespace gatefold {

/// What all tokens of a block share beside its mixture.
enum class SharedExpert {
  none,
  plain,  ///< y = mixture(x) + S(x): DeepSeek, Granite, Llama-4.
  gated,  ///< y = mixture(x) + σ(x · g) S(x): Qwen2-MoE.
};
/// What the nets of a block make of gate and up.
enum class ExpertActivation { silu, gpt_oss };  // Glu<Silu>, GptOssSwiglu

/// The block that stands in the place of a transformer's feed-forward net in published language models. Which family
/// sets what is data: mixture_family.hpp.
struct MixtureOptions {
  std::variant<TopKRouterOptions, SparseMixerRouterOptions> router{};
  Index hidden = 0;  ///< H, of an expert
  ExpertActivation activation = ExpertActivation::silu;
  bool bias = false;  ///< Of the experts' three maps.
  Weighed weighed = Weighed::outputs;
  double input_noise = 0;  ///< Training: what the mixture's x is multiplied by is U(1 - that, 1 + that).
  SharedExpert shared = SharedExpert::none;
  Index shared_hidden = 0;
  bool shared_bias = false;

  Index width() const {
    return std::visit([](const auto& o) { return o.width; }, router);
  }
  Index num_experts() const {
    return std::visit([](const auto& o) { return o.num_experts; }, router);
  }
};

/// The same for one activation. Parameters are called router.*, experts.E.{gate, up, down}.* and, where there is a
/// shared expert, the same behind «a.», with b.{gate, up, down}.* or, gated, b.gate.* and b.inner.{gate, up, down}.*.
template <Real T, class Act, WeightStorage<T> W = Tensor<T, 2>>
using MixtureOf = OneOf<
    OneOf<SparseMlp<TopKRouter<T>, GatedMlp<T, Act, W>>, SparseMlp<SparseMixerRouter<T>, GatedMlp<T, Act, W>>>,
    Sum<OneOf<SparseMlp<TopKRouter<T>, GatedMlp<T, Act, W>>, SparseMlp<SparseMixerRouter<T>, GatedMlp<T, Act, W>>>,
        OneOf<GatedMlp<T, Act, W>, Gated<GatedMlp<T, Act, W>>>>>;

/// Any of them, as options say: parts of this library, and no type of any family. Over packed weights,
/// W = Packed<F>, for inference.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
using Mixture = OneOf<MixtureOf<T, Silu, W>, MixtureOf<T, GptOssSwiglu, W>>;

/// Throws OptionError for options that contradict each other.
template <Real T, class Act, WeightStorage<T> W = Tensor<T, 2>>
MixtureOf<T, Act, W> make_mixture_of(const MixtureOptions& o) {
  using Expert = GatedMlp<T, Act, W>;
  using Routed = OneOf<SparseMlp<TopKRouter<T>, Expert>, SparseMlp<SparseMixerRouter<T>, Expert>>;
  const auto net = [&](Index hidden, bool bias) {
    return Expert({.width = o.width(), .hidden = hidden, .bias = bias ? Bias::zero : Bias::none});
  };
  const auto routed = [&](auto router) {
    SparseMlp mixture(std::move(router), net(o.hidden, o.bias));
    mixture.weighed = o.weighed;
    mixture.input_noise = o.input_noise;
    return Routed(std::move(mixture));
  };
  auto mixture = std::holds_alternative<TopKRouterOptions>(o.router)
                     ? routed(TopKRouter<T>(std::get<TopKRouterOptions>(o.router)))
                     : routed(SparseMixerRouter<T>(std::get<SparseMixerRouterOptions>(o.router)));
  if (o.shared == SharedExpert::none) return MixtureOf<T, Act, W>(std::move(mixture));
  using Shared = OneOf<Expert, Gated<Expert>>;
  auto shared = net(o.shared_hidden, o.shared_bias);
  return MixtureOf<T, Act, W>(Sum(std::move(mixture), o.shared == SharedExpert::plain
                                                          ? Shared(std::move(shared))
                                                          : Shared(Gated({.width = o.width()}, std::move(shared)))));
}

/// Throws OptionError for options that contradict each other.
template <Real T, WeightStorage<T> W = Tensor<T, 2>>
Mixture<T, W> make_mixture(const MixtureOptions& o) {
  if (o.activation == ExpertActivation::silu) return Mixture<T, W>(make_mixture_of<T, Silu, W>(o));
  return Mixture<T, W>(make_mixture_of<T, GptOssSwiglu, W>(o));
}

}  // namespace gatefold
