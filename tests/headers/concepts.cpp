// Which type meets which contract, in one table. It stands here and not under each type because checking a contract
// makes the whole type: a fifth of the time that users' compilers need for our headers.
#include "gatefold/gatefold.hpp"

namespace gatefold {

static_assert(Layer<Linear<float>> && Layer<LayerNorm<float>> && Layer<Attention<float>>);
static_assert(Layer<RmsNorm<float>> && Layer<Identity<float>> && Layer<Dropout<float>> && Layer<DropPath<float>>);
static_assert(Layer<PostNorm<Sum<Gated<Linear<float>>, Sequence<Linear<float>, Identity<float>>>, RmsNorm<float>>>);
static_assert(GatedActivation<GptOssSwiglu> && GatedActivation<Glu<Silu>> && !GatedActivation<Silu>);
static_assert(GroupedLayer<Mlp<float>> && GroupedLayer<GatedMlp<float>>);

// Packed weights are for inference: there is a forward pass and no backward pass.
static_assert(ForwardLayer<Linear<float, Packed<int8>>> && !Layer<Linear<float, Packed<int8>>>);
static_assert(ForwardLayer<Attention<float, Packed<bf16>>> && !Layer<Attention<float, Packed<bf16>>>);
static_assert(GroupedExpert<Mlp<float, Gelu, Packed<bf16>>> && !Layer<Mlp<float, Gelu, Packed<bf16>>>);
static_assert(GroupedExpert<GatedMlp<float, Silu, Packed<bf16>>> && !Layer<GatedMlp<float, Silu, Packed<bf16>>>);

static_assert(Module<PatchEmbed<float>> && Module<Embedding<float>> && Module<ClassToken<float>>);
static_assert(Module<LearnedPosition<float>> && Module<AttentionPool<float>>);
static_assert(Module<Limoe<float>> && Module<Clip<float>> && Module<ClipTower<float>>);

static_assert(Router<TopKRouter<float>> && Router<ExpertChoiceRouter<float>>);

static_assert(AuxLoss<NoAux> && AuxLoss<Balance> && AuxLoss<Importance> && AuxLoss<Load> && AuxLoss<ZLoss>);
static_assert(AuxLoss<LocalEntropy> && AuxLoss<GlobalEntropy> && AuxLoss<LimoeLosses>);
static_assert(AuxLoss<AuxLosses<NoAux, AuxLosses<NoAux>>>);
static_assert(AuxLoss<NoAux, double> && AuxLoss<Balance, double> && AuxLoss<Importance, double>);
static_assert(AuxLoss<Load, double> && AuxLoss<ZLoss, double> && AuxLoss<LocalEntropy, double>);
static_assert(AuxLoss<GlobalEntropy, double> && AuxLoss<LimoeLosses, double>);
static_assert(AuxLoss<AuxLosses<NoAux, AuxLosses<NoAux>>, double>);

}  // namespace gatefold
