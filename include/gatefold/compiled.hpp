#pragma once

/// The kernels for float, compiled once for a whole program instead of in each of its files: what the CMake target
/// gatefold::compiled is made of. Nothing else changes; a program without the target compiles the same functions
/// wherever they are used, as it does for other scalars than float.
///
/// An object of such a program says of what it is made: GATEFOLD_COMPILED is `extern template` in its files and
/// `template` in the one that the target adds, which includes this. Each header ends with what is compiled of it.
#include "gatefold/kernels/cached_attention.hpp"
#include "gatefold/kernels/dispatch.hpp"
#include "gatefold/kernels/norm.hpp"
#include "gatefold/kernels/rotary.hpp"
#include "gatefold/kernels/softmax.hpp"
#include "gatefold/nn/activation.hpp"
#include "gatefold/products/matmul.hpp"
#include "gatefold/products/packed_ffn.hpp"
#include "gatefold/routing/gating.hpp"
#include "gatefold/routing/plan_expert_choice.hpp"
#include "gatefold/routing/plan_top_k.hpp"
