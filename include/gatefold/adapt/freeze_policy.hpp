#pragma once
#include "gatefold/train/freeze.hpp"

/// What published recipes train of a transformer, and leave as it is otherwise: for an optimiser's `trainable` and for
/// Frozen, which spares backward the rest. By the paths that blocks of this library have (EncoderBlock, SparseMlp).
namespace gatefold {

/// The feed-forward nets, mixtures whole: the stages of MCL (CLIP-MoE, arXiv 2409.19291), of a dense model.
inline Trainable feed_forward_only() { return Trainable::only({"*.ffn.inner.*"}); }
/// The routers: the last stage of CLIP-MoE.
inline Trainable routers_only() { return Trainable::only({"*.router.*"}); }
inline Trainable routers_and_experts() { return Trainable::only({"*.router.*", "*.experts.*"}); }
/// All but the image tower of a CLIP: LiT (Zhai et al. 2022, arXiv 2111.07991), and BASIC's second phase (arXiv
/// 2111.10050). As nothing before it is trained, its embeddings can be had by encode_images, without a backward pass.
inline Trainable locked_image_tower() { return Trainable::all_but({"vision.*"}); }

}  // namespace gatefold
