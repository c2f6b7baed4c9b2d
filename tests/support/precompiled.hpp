#pragma once
// What nearly every test reads, compiled once. The header tests go without it, so nothing can lean on it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "gatefold/core/context.hpp"
#include "gatefold/core/error.hpp"
#include "gatefold/module/ops.hpp"
#include "gatefold/products/matmul.hpp"
#include "tests/support/dual.hpp"
#ifdef GATEFOLD_TEST_COMPILED
#include "tests/support/compiled_kernels.hpp"
#endif
