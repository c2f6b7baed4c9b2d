#include "model.hpp"

/// A step against |y|^2 / 2, which is returned.
float train(Layer& layer, gatefold::Rows<const float> x) {
  gatefold::Context ctx;
  gatefold::Tensor<float, 2> y(x.shape()), dx(x.shape());
  auto grad = gatefold::zeros_like(layer);
  const auto saved = layer.forward(x, y, ctx);
  layer.backward(saved, y, dx, grad, ctx);
  gatefold::AdamW(layer, {.lr = 1e-3}).step(layer, grad, ctx);
  gatefold::save(layer, "files.safetensors");
  float loss = 0;
  for (const float v : y.flat()) loss += v * v / 2;
  return loss;
}
