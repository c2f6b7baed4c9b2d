#include "gatefold/io/checkpoint.hpp"
#include "gatefold/nn/layer_norm.hpp"

int main() {
  gatefold::LayerNorm<float> layer({.width = 4}), loaded({.width = 4});
  bool same = true;
  gatefold::for_each_param([](std::string_view, auto& p) { p.flat()[1] = 3; }, layer);
  gatefold::save(layer, "layer.safetensors");
  gatefold::load("layer.safetensors", loaded);
  gatefold::for_each_param([&](std::string_view, const auto& a, const auto& b) { same &= a == b; }, layer, loaded);
  return same ? 0 : 1;
}
