#include "model.hpp"

/// |y|^2 / 2 of the layer as it was saved, packed.
float infer(const Layer& layer, gatefold::Rows<const float> x) {
  gatefold::Context ctx;
  gatefold::Tensor<float, 2> y(x.shape());
  auto loaded = gatefold::zeros_like(layer);
  gatefold::load("files.safetensors", loaded);
  gatefold::infer(gatefold::pack<gatefold::bf16>(loaded), x, y, ctx);
  float loss = 0;
  for (const float v : y.flat()) loss += v * v / 2;
  return loss;
}
