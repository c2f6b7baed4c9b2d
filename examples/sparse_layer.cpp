// A sparse layer in fifteen lines: forward, backward, an update, save and load.
#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/io/checkpoint.hpp"
#include "gatefold/nn/init.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "gatefold/train/adamw.hpp"

int main() {
  using namespace gatefold;
  SparseMlp layer(TopKRouter<float>({.width = 512, .num_experts = 8, .num_selected = 2, .capacity = {.factor = 1.25}}),
                  Mlp<float>({.width = 512, .hidden = 2048}));
  Rng rng(42);
  init::truncated_normal(layer, rng);
  Context ctx;  // all cores, where the program is compiled with OpenMP
  Tensor<float, 2> x({196, 512}), y({196, 512}), dy({196, 512}), dx({196, 512});
  auto grad = zeros_like(layer);  // a gradient is a second value of the layer's type
  const auto saved = layer.forward(x, y, ctx);
  layer.backward(saved, dy, dx, grad, ctx);
  AdamW optimizer(layer, {.lr = 3e-4});
  optimizer.step(layer, grad, ctx);
  save(layer, "layer.safetensors");
  load("layer.safetensors", layer);
}
