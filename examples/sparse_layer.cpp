// A sparse layer from nothing to a file: forward, a loss, backward, an update, save and load.
#include <cmath>
#include <cstdio>

#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/io/checkpoint.hpp"
#include "gatefold/module/ops.hpp"
#include "gatefold/nn/init.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "gatefold/train/adamw.hpp"

int main() {
  using namespace gatefold;
  SparseMlp layer(TopKRouter<float>({.width = 16, .num_experts = 8, .num_selected = 2, .capacity = {.factor = 1.25}}),
                  Mlp<float>({.width = 16, .hidden = 64}));
  Rng rng(42);
  init::xavier_uniform(layer, rng);
  auto grad = zeros_like(layer);  // a gradient is a second value of the layer's type
  AdamW optimizer(layer, {.lr = 1e-2});
  Context ctx;  // all cores, where the program is compiled with OpenMP
  Tensor<float, 2> x({256, 16}), y({256, 16}), dy({256, 16}), dx({256, 16});
  for (int step = 0; step <= 200; ++step) {
    const auto scope = ctx.workspace.scope();  // what this pass takes goes back at the end of the step
    for (float& v : x.flat()) v = float(rng.normal());
    const auto saved = layer.forward(x, y, ctx);
    double loss = 0;  // of learning y = |x|: half the squared error of a token
    for (std::size_t i = 0; i < x.flat().size(); ++i) {
      const float error = y.flat()[i] - std::abs(x.flat()[i]);
      loss += error * error / 512;
      dy.flat()[i] = error / 256;
    }
    set_zero(grad);  // for backward adds to it
    layer.backward(saved, dy, dx, grad, ctx);
    optimizer.step(layer, grad, ctx);
    if (step % 50 == 0) std::printf("step %3d  loss %.3f\n", step, loss);
  }
  save(layer, "layer.safetensors");
  load("layer.safetensors", layer);
}
