#pragma once
#include "gatefold/core/isa.hpp"
#include "gatefold/core/parallel.hpp"
#include "gatefold/core/random.hpp"
#include "gatefold/core/token_layout.hpp"
#include "gatefold/core/workspace.hpp"

namespace gatefold {

class Calibration;    // nn/calibration.hpp
class RoutingReport;  // routing/routing_report.hpp
class RoutingTape;    // routing/routing_tape.hpp
class Frozen;         // module/frozen.hpp

// In the name of what the program was compiled for, and with it everything that takes a Context.
inline namespace GATEFOLD_COMPILED_FOR {

/// The resources and facts of one pass; no configuration. Not copied, not shared between passes that run at once.
struct Context {
  Workspace workspace{};
  ParallelFor parallel_for = default_parallel_for();
  Isa isa = default_isa();
  Rng* rng = nullptr;  ///< Present in training: routing noise is drawn from it. Null means none.
  /// Sequences and modalities of the rows; null means one sequence, one modality, to every layer. Read by forward,
  /// while it runs; backward does not look at it.
  const TokenLayout* layout = nullptr;
  RoutingReport* report = nullptr;     ///< Sparse layers write their statistics here, in the order they run.
  RoutingTape* tape = nullptr;         ///< Routers leave their choices here, or take them from here, in the same order.
  Calibration* calibration = nullptr;  ///< Layers show it the rows that they multiply.
  const Frozen* frozen = nullptr;      ///< Parameters whose gradient backward may leave out; null: none.
};

}  // namespace GATEFOLD_COMPILED_FOR

}  // namespace gatefold
