#pragma once

/// The kernels for float, compiled once for a whole program instead of in each of its files: what the CMake target
/// gatefold::compiled is made of. Who links it need not include this: gatefold.hpp does then. Nothing else changes; a
/// program without the target compiles the same functions wherever they are used.
///
/// An object of such a program says of what it is made: GATEFOLD_COMPILED is `extern template` in its files and
/// `template` in the one that the target adds. Other scalars than float are compiled where they are used. A signature
/// that changes is changed here too: the tests headers.budget and package.* do not compile else.
#include "gatefold/kernels/attention.hpp"
#include "gatefold/kernels/dispatch.hpp"
#include "gatefold/kernels/matmul.hpp"
#include "gatefold/kernels/norm.hpp"
#include "gatefold/kernels/packed_ffn.hpp"
#include "gatefold/kernels/rotary.hpp"
#include "gatefold/kernels/softmax.hpp"
#include "gatefold/nn/activation.hpp"
#include "gatefold/routing/gating.hpp"
#include "gatefold/routing/plan_expert_choice.hpp"
#include "gatefold/routing/plan_top_k.hpp"

#ifdef GATEFOLD_COMPILED
namespace gatefold {
namespace kernels {

GATEFOLD_COMPILED void multiply_all<float>(std::span<const Product<float>>, Context&, Epilogue);
GATEFOLD_COMPILED void add_column_sums<float>(Rows<const float>, View<float, 1>, Context&);
GATEFOLD_COMPILED void activate<Gelu, float>(Rows<const float>, Rows<float>, Context&);
GATEFOLD_COMPILED void activate_grad<Gelu, float>(Rows<const float>, Rows<const float>, Rows<float>, Context&);
GATEFOLD_COMPILED void add_rows<float>(Rows<const float>, Rows<float>, Context&);
GATEFOLD_COMPILED void softmax_rows<float>(Rows<const float>, Rows<float>, Context&);
GATEFOLD_COMPILED void softmax_rows_grad<float>(Rows<const float>, Rows<const float>, Rows<float>, Context&);
GATEFOLD_COMPILED void log_softmax_rows<float>(Rows<const float>, Rows<float>, Context&);

GATEFOLD_COMPILED void layer_norm<float>(Rows<const float>, View<const float, 1>, View<const float, 1>, float,
                                         Rows<float>, Rows<float>, Context&);
GATEFOLD_COMPILED void layer_norm_grad<float>(Rows<const float>, View<const float, 1>, Rows<const float>,
                                              Rows<const float>, Rows<float>, Context&);
GATEFOLD_COMPILED void add_layer_norm_grad_params<float>(Rows<const float>, Rows<const float>, Rows<const float>,
                                                         View<float, 1>, View<float, 1>, Context&);
GATEFOLD_COMPILED void rms_norm<float>(Rows<const float>, View<const float, 1>, float, float, Rows<float>, Rows<float>,
                                       Context&);
GATEFOLD_COMPILED void rms_norm_grad<float>(Rows<const float>, View<const float, 1>, float, Rows<const float>,
                                            Rows<const float>, Rows<float>, Context&);
GATEFOLD_COMPILED void add_rms_norm_grad_gain<float>(Rows<const float>, Rows<const float>, Rows<const float>,
                                                     View<float, 1>, Context&);
GATEFOLD_COMPILED void rotate<float>(const Rotary&, Turn, View<const Index, 1>, View<const Index, 1>, Rows<const float>,
                                     Index, Rows<float>, Context&);
GATEFOLD_COMPILED void attend<float>(Rows<const float>, const AttentionPlan&, Rows<float>, Rows<float>, Context&);
GATEFOLD_COMPILED void attend_grad<float>(Rows<const float>, const AttentionPlan&, Rows<const float>, Rows<const float>,
                                          Rows<float>, Context&);

GATEFOLD_COMPILED void top_k_rows<float>(Rows<const float>, View<Index, 2>, Context&);
GATEFOLD_COMPILED void softmax_top_k_rows<float>(Rows<const float>, const SoftmaxTopK<float>&, Context&);
GATEFOLD_COMPILED void gather_rows<float>(Rows<const float>, View<const Index, 1>, Rows<float>, Context&);
GATEFOLD_COMPILED void combine_rows<float>(Rows<const float>, View<const float, 1>, RowLists, Rows<float>, Context&);
GATEFOLD_COMPILED void combine_rows_grad<float>(Rows<const float>, View<const float, 1>, View<const Index, 1>,
                                                Rows<const float>, Rows<float>, View<float, 1>, Context&);
GATEFOLD_COMPILED void add_gather_rows_grad<float>(Rows<const float>, RowLists, Rows<float>, Context&);

GATEFOLD_COMPILED void matmul<float, float>(Rows<const float>, const Packed<float>&, Rows<float>, Context&,
                                            const float*);
GATEFOLD_COMPILED void matmul<float, bf16>(Rows<const float>, const Packed<bf16>&, Rows<float>, Context&, const float*);
GATEFOLD_COMPILED void matmul<float, int8>(Rows<const float>, const Packed<int8>&, Rows<float>, Context&, const float*);
GATEFOLD_COMPILED void matmul<float, int4>(Rows<const float>, const Packed<int4>&, Rows<float>, Context&, const float*);
GATEFOLD_COMPILED void matmul<float, mxfp4>(Rows<const float>, const Packed<mxfp4>&, Rows<float>, Context&,
                                            const float*);
GATEFOLD_COMPILED void matmul<float, fp8>(Rows<const float>, const Packed<fp8>&, Rows<float>, Context&, const float*);
GATEFOLD_COMPILED void packed_ffn<float>(detail::ActivateUnits, View<const PackedFfn<float>, 1>, Rows<const float>,
                                         const SlotRows&, Rows<float>, Context&);
GATEFOLD_COMPILED void packed_ffn<bf16>(detail::ActivateUnits, View<const PackedFfn<bf16>, 1>, Rows<const float>,
                                        const SlotRows&, Rows<float>, Context&);
GATEFOLD_COMPILED void packed_ffn<int8>(detail::ActivateUnits, View<const PackedFfn<int8>, 1>, Rows<const float>,
                                        const SlotRows&, Rows<float>, Context&);
GATEFOLD_COMPILED void packed_ffn<int4>(detail::ActivateUnits, View<const PackedFfn<int4>, 1>, Rows<const float>,
                                        const SlotRows&, Rows<float>, Context&);
GATEFOLD_COMPILED void packed_ffn<mxfp4>(detail::ActivateUnits, View<const PackedFfn<mxfp4>, 1>, Rows<const float>,
                                         const SlotRows&, Rows<float>, Context&);
GATEFOLD_COMPILED void packed_ffn<fp8>(detail::ActivateUnits, View<const PackedFfn<fp8>, 1>, Rows<const float>,
                                       const SlotRows&, Rows<float>, Context&);

}  // namespace kernels

GATEFOLD_COMPILED Gating<float> gate_forward<float>(Rows<const float>, const Gate<float>&, View<Index, 2>, Context&);
GATEFOLD_COMPILED void gate_backward<float>(const Gating<float>&, Rows<const float>, Rows<float>, Rows<const float>,
                                            Rows<float>, Rows<float>, View<float, 1>, Context&, GradientBy);
GATEFOLD_COMPILED DispatchPlan plan_top_k<float>(Rows<const float>, View<const Index, 2>, const SeatingOptions&,
                                                 Context&);
GATEFOLD_COMPILED DispatchPlan plan_expert_choice<float>(Rows<const float>, const Capacity&, Index, Context&);

}  // namespace gatefold
#endif
