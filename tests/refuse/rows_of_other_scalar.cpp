// refused: no viable overloaded|no match for .operator=
#include "gatefold/core/tensor.hpp"

// Types are never converted behind the caller's back.
void read(const gatefold::Tensor<float, 2>& x, const gatefold::Tensor<double, 2>& wide) {
  gatefold::Rows<const float> rows = x;
#ifdef GATEFOLD_OFFEND
  rows = wide;
#else
  (void)wide;
#endif
  (void)rows;
}
