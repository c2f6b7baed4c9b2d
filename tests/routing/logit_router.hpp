#pragma once
#include <vector>

#include "gatefold/core/tensor.hpp"

/// Logits of one's choice through a router's product with its weight, -inf among them, of finite numbers.
namespace gatefold::test {

/// x for a router of as many inputs as experts whose weight is `weights_for_logits`: the logits times 1 / kScale, or a
/// number that the product turns into -inf.
template <class T>
struct LogitScale {
  static constexpr T kScale = std::is_same_v<T, float> ? T(0x1p100) : T(0x1p700);
};
template <class R>
void set_weights_for_logits(R& router) {
  using T = typename R::Scalar;
  for (T& w : router.weight.flat()) w = 0;
  for (Index e = 0; e < router.num_experts(); ++e) router.weight.view()(e, e) = LogitScale<T>::kScale;
}
template <class T>
Tensor<T, 2> inputs_for_logits(const std::vector<std::vector<double>>& logits) {
  Tensor<T, 2> x({static_cast<Index>(logits.size()), static_cast<Index>(logits.at(0).size())});
  for (Index t = 0; t < x.extent(0); ++t)
    for (Index e = 0; e < x.extent(1); ++e) {
      const double l = logits[static_cast<std::size_t>(t)][static_cast<std::size_t>(e)];
      x.view()(t, e) = std::isinf(l) ? -LogitScale<T>::kScale : T(l) / LogitScale<T>::kScale;
    }
  return x;
}

}  // namespace gatefold::test
