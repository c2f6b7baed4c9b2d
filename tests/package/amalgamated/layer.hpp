// Two files with the single headers alone: this one's is gatefold.hpp, words.cpp has all of them.
#pragma once
#include "gatefold.hpp"

gatefold::Tensor<float, 2> embed(const char* words);
