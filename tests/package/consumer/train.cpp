// First, since what it brings along must not disturb the others.
#include "gatefold/io/checkpoint.hpp"

#include "gatefold/blocks/sparse_mlp.hpp"
#include "gatefold/nn/init.hpp"
#include "gatefold/nn/mlp.hpp"
#include "gatefold/routing/top_k_router.hpp"
#include "gatefold/train/adamw.hpp"
#include "gatefold/version.hpp"

static_assert(GATEFOLD_VERSION > 0 && sizeof(GATEFOLD_VERSION_STRING) >= sizeof("0.1.0"));

int main() {
  using namespace gatefold;
  SparseMlp layer(TopKRouter<float>({.width = 8, .num_experts = 4, .num_selected = 2}),
                  Mlp<float>({.width = 8, .hidden = 16}));
  Rng rng(42);
  init::truncated_normal(layer, rng);
  Context ctx;
  Tensor<float, 2> x({6, 8}), y({6, 8}), dx({6, 8});
  for (float& value : x.flat()) value = static_cast<float>(rng.normal());
  auto grad = zeros_like(layer);
  const auto saved = layer.forward(x, y, ctx);
  layer.backward(saved, y, dx, grad, ctx);  // the gradient of |y|^2 / 2
  const auto before = layer;
  AdamW optimizer(layer, {.lr = 1e-2});
  optimizer.step(layer, grad);
  save(layer, "layer.safetensors");
  auto loaded = before;
  load("layer.safetensors", loaded);
  bool moved = false, same = true;
  for_each_param(
      [&](std::string_view, const auto& now, const auto& then, const auto& read) {
        moved |= now != then;
        same &= now == read;
      },
      layer, before, loaded);
  return moved && same ? 0 : 1;
}
