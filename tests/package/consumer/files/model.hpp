// A program of three files: each uses the same layers.
#pragma once
#include "gatefold/gatefold.hpp"
#include "gatefold/io/checkpoint.hpp"

using Layer = gatefold::SparseMlp<gatefold::TopKRouter<float>, gatefold::Mlp<float>>;

float train(Layer& layer, gatefold::Rows<const float> x);
float infer(const Layer& layer, gatefold::Rows<const float> x);
