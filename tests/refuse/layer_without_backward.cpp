// refused: backward
#include "gatefold/module/module.hpp"

// What can only be run is no layer to train.
struct InferenceOnly {
  using Scalar = float;
  struct Saved {};
  static void visit(auto&, auto&...) {}
  Saved forward(gatefold::Rows<const float>, gatefold::Rows<float>, gatefold::Context&) const { return {}; }
};
static_assert(gatefold::ForwardLayer<InferenceOnly>);
#ifdef GATEFOLD_OFFEND
static_assert(gatefold::Layer<InferenceOnly>);
#endif
