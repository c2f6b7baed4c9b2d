#include <cstdio>

#include "model.hpp"

int main() {
  Layer layer(gatefold::TopKRouter<float>({.width = 24, .num_experts = 4, .num_selected = 2}),
              gatefold::Mlp<float>({.width = 24, .hidden = 40}));
  gatefold::Rng rng(42);
  gatefold::init::truncated_normal(layer, rng);
  gatefold::Tensor<float, 2> x({37, 24});
  for (float& value : x.flat()) value = static_cast<float>(rng.normal());
  const float before = train(layer, x), after = train(layer, x), packed = infer(layer, x);
  std::printf("%a %a %a\n", double(before), double(after), double(packed));  // to the last bit
  return packed < after && after < before ? 0 : 1;
}
