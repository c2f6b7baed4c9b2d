#pragma once
#include "gatefold/compiled.hpp"
#include "tests/support/dual.hpp"

/// The kernels for the scalars that only tests have layers of, double and Dual, compiled once for all test programs but
/// those of the kernels themselves. As in gatefold/compiled.hpp, GATEFOLD_TEST_COMPILED is `template` in the file that
/// compiles them and `extern template` in all others.
namespace gatefold {
namespace kernels {

GATEFOLD_TEST_COMPILED void multiply_all<double>(std::span<const Product<double>>, Context&, Epilogue);
GATEFOLD_TEST_COMPILED void add_column_sums<double>(Rows<const double>, View<double, 1>, Context&);
GATEFOLD_TEST_COMPILED void activate<Gelu, double>(Rows<const double>, Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void activate_grad<Gelu, double>(Rows<const double>, Rows<const double>, Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void add_rows<double>(Rows<const double>, Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void softmax_rows<double>(Rows<const double>, Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void softmax_rows_grad<double>(Rows<const double>, Rows<const double>, Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void log_softmax_rows<double>(Rows<const double>, Rows<double>, Context&);

GATEFOLD_TEST_COMPILED void layer_norm<double>(Rows<const double>, View<const double, 1>, View<const double, 1>, double,
                                               Rows<double>, Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void layer_norm_grad<double>(Rows<const double>, View<const double, 1>, Rows<const double>,
                                                    Rows<const double>, Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void add_layer_norm_grad_params<double>(Rows<const double>, Rows<const double>,
                                                               Rows<const double>, View<double, 1>, View<double, 1>,
                                                               Context&);
GATEFOLD_TEST_COMPILED void rms_norm<double>(Rows<const double>, View<const double, 1>, double, double, Rows<double>,
                                             Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void rms_norm_grad<double>(Rows<const double>, View<const double, 1>, double, Rows<const double>,
                                                  Rows<const double>, Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void add_rms_norm_grad_gain<double>(Rows<const double>, Rows<const double>, Rows<const double>,
                                                           View<double, 1>, Context&);
GATEFOLD_TEST_COMPILED void rotate<double>(const Rotary&, Turn, View<const Index, 1>, View<const Index, 1>,
                                           Rows<const double>, Index, Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void attend<double>(Rows<const double>, const AttentionPlan&, View<const double, 1>,
                                           Rows<double>, Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void attend_grad<double>(Rows<const double>, const AttentionPlan&, const SinkGradient<double>&,
                                                Rows<const double>, Rows<const double>, Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void attend_cached<double, double>(Rows<const double>, const AttentionPlan&,
                                                          const KeyValues<double>&, View<const double, 1>, Rows<double>,
                                                          Context&);

GATEFOLD_TEST_COMPILED void top_k_rows<double>(Rows<const double>, View<Index, 2>, Context&);
GATEFOLD_TEST_COMPILED void softmax_top_k_rows<double>(Rows<const double>, const SoftmaxTopK<double>&, Context&);
GATEFOLD_TEST_COMPILED void gather_rows<double>(Rows<const double>, View<const Index, 1>, Rows<double>, Context&);
GATEFOLD_TEST_COMPILED void combine_rows<double>(Rows<const double>, View<const double, 1>, RowLists, Rows<double>,
                                                 Context&);
GATEFOLD_TEST_COMPILED void combine_rows_grad<double>(Rows<const double>, View<const double, 1>, View<const Index, 1>,
                                                      Rows<const double>, Rows<double>, View<double, 1>, Context&);
GATEFOLD_TEST_COMPILED void add_gather_rows_grad<double>(Rows<const double>, RowLists, Rows<double>, Context&);

GATEFOLD_TEST_COMPILED void multiply_all<Dual>(std::span<const Product<Dual>>, Context&, Epilogue);
GATEFOLD_TEST_COMPILED void add_column_sums<Dual>(Rows<const Dual>, View<Dual, 1>, Context&);
GATEFOLD_TEST_COMPILED void activate<Gelu, Dual>(Rows<const Dual>, Rows<Dual>, Context&);
GATEFOLD_TEST_COMPILED void activate_grad<Gelu, Dual>(Rows<const Dual>, Rows<const Dual>, Rows<Dual>, Context&);
GATEFOLD_TEST_COMPILED void add_rows<Dual>(Rows<const Dual>, Rows<Dual>, Context&);
GATEFOLD_TEST_COMPILED void softmax_rows<Dual>(Rows<const Dual>, Rows<Dual>, Context&);
GATEFOLD_TEST_COMPILED void softmax_rows_grad<Dual>(Rows<const Dual>, Rows<const Dual>, Rows<Dual>, Context&);
GATEFOLD_TEST_COMPILED void log_softmax_rows<Dual>(Rows<const Dual>, Rows<Dual>, Context&);

GATEFOLD_TEST_COMPILED void layer_norm<Dual>(Rows<const Dual>, View<const Dual, 1>, View<const Dual, 1>, Dual,
                                             Rows<Dual>, Rows<Dual>, Context&);
GATEFOLD_TEST_COMPILED void layer_norm_grad<Dual>(Rows<const Dual>, View<const Dual, 1>, Rows<const Dual>,
                                                  Rows<const Dual>, Rows<Dual>, Context&);
GATEFOLD_TEST_COMPILED void add_layer_norm_grad_params<Dual>(Rows<const Dual>, Rows<const Dual>, Rows<const Dual>,
                                                             View<Dual, 1>, View<Dual, 1>, Context&);
GATEFOLD_TEST_COMPILED void rms_norm<Dual>(Rows<const Dual>, View<const Dual, 1>, Dual, Dual, Rows<Dual>, Rows<Dual>,
                                           Context&);
GATEFOLD_TEST_COMPILED void rms_norm_grad<Dual>(Rows<const Dual>, View<const Dual, 1>, Dual, Rows<const Dual>,
                                                Rows<const Dual>, Rows<Dual>, Context&);
GATEFOLD_TEST_COMPILED void add_rms_norm_grad_gain<Dual>(Rows<const Dual>, Rows<const Dual>, Rows<const Dual>,
                                                         View<Dual, 1>, Context&);
GATEFOLD_TEST_COMPILED void rotate<Dual>(const Rotary&, Turn, View<const Index, 1>, View<const Index, 1>,
                                         Rows<const Dual>, Index, Rows<Dual>, Context&);
GATEFOLD_TEST_COMPILED void attend<Dual>(Rows<const Dual>, const AttentionPlan&, View<const Dual, 1>, Rows<Dual>,
                                         Rows<Dual>, Context&);
GATEFOLD_TEST_COMPILED void attend_grad<Dual>(Rows<const Dual>, const AttentionPlan&, const SinkGradient<Dual>&,
                                              Rows<const Dual>, Rows<const Dual>, Rows<Dual>, Context&);

GATEFOLD_TEST_COMPILED void top_k_rows<Dual>(Rows<const Dual>, View<Index, 2>, Context&);
GATEFOLD_TEST_COMPILED void softmax_top_k_rows<Dual>(Rows<const Dual>, const SoftmaxTopK<Dual>&, Context&);
GATEFOLD_TEST_COMPILED void gather_rows<Dual>(Rows<const Dual>, View<const Index, 1>, Rows<Dual>, Context&);
GATEFOLD_TEST_COMPILED void combine_rows<Dual>(Rows<const Dual>, View<const Dual, 1>, RowLists, Rows<Dual>, Context&);
GATEFOLD_TEST_COMPILED void combine_rows_grad<Dual>(Rows<const Dual>, View<const Dual, 1>, View<const Index, 1>,
                                                    Rows<const Dual>, Rows<Dual>, View<Dual, 1>, Context&);
GATEFOLD_TEST_COMPILED void add_gather_rows_grad<Dual>(Rows<const Dual>, RowLists, Rows<Dual>, Context&);

}  // namespace kernels

GATEFOLD_TEST_COMPILED Gating<double> gate_forward<double>(Rows<const double>, const Gate<double>&, View<Index, 2>,
                                                           Context&);
GATEFOLD_TEST_COMPILED void gate_backward<double>(const Gating<double>&, Rows<const double>, Rows<double>,
                                                  Rows<const double>, Rows<double>, Rows<double>, View<double, 1>,
                                                  Context&, GradientBy);
GATEFOLD_TEST_COMPILED DispatchPlan plan_top_k<double>(Rows<const double>, View<const Index, 2>, const SeatingOptions&,
                                                       Context&);
GATEFOLD_TEST_COMPILED DispatchPlan plan_expert_choice<double>(Rows<const double>, const Capacity&, Index, Context&);

GATEFOLD_TEST_COMPILED Gating<Dual> gate_forward<Dual>(Rows<const Dual>, const Gate<Dual>&, View<Index, 2>, Context&);
GATEFOLD_TEST_COMPILED void gate_backward<Dual>(const Gating<Dual>&, Rows<const Dual>, Rows<Dual>, Rows<const Dual>,
                                                Rows<Dual>, Rows<Dual>, View<Dual, 1>, Context&, GradientBy);
GATEFOLD_TEST_COMPILED DispatchPlan plan_top_k<Dual>(Rows<const Dual>, View<const Index, 2>, const SeatingOptions&,
                                                     Context&);
GATEFOLD_TEST_COMPILED DispatchPlan plan_expert_choice<Dual>(Rows<const Dual>, const Capacity&, Index, Context&);

}  // namespace gatefold
