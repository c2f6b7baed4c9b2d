#!/bin/bash
# Builds and runs all tests on a Debian from 12 on, fresh or not: bash tests/run.sh [arguments for ctest, as in -R nn]
# With assertions, so that it is thorough. GATEFOLD_CI=ON, as .ci/run sets it, makes warnings errors, tries the benchmarks
# too, and runs the tests that come out the same everywhere: packages, each header alone, code that must not compile.
# For 64-bit ARM (g++-aarch64-linux-gnu qemu-user googletest): cmake --workflow --preset neon
set -euo pipefail
cd "$(dirname "$0")/.."
. cmake/debian.sh
debian_install cmake g++ ninja-build ccache pkg-config libeigen3-dev libxsimd-dev nlohmann-json3-dev libstb-dev \
  libutf8proc-dev libxxhash-dev libwebp-dev libheif-dev zlib1g-dev libgtest-dev libgmock-dev libbenchmark-dev \
  libcli11-dev librandom123-dev dataset-fashion-mnist

if command -v ccache >/dev/null; then
  # Without the sloppiness ccache would not look through a precompiled header, without the folder one clone would not
  # profit from what another compiled.
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_BASEDIR=$PWD
fi
ci=${GATEFOLD_CI:-OFF}
cmake -S . -B build/check --log-level=NOTICE -D CMAKE_BUILD_TYPE=None -D CMAKE_CXX_FLAGS=-O2 \
  -D GATEFOLD_QUICK_BUILD=ON \
  -D CMAKE_COMPILE_WARNING_AS_ERROR="$ci" -D GATEFOLD_BUILD_BENCH="$ci" -D GATEFOLD_TEST_REPOSITORY="$ci"
build build/check
ctest --test-dir build/check --output-on-failure --no-tests=error -j "$(build_jobs)" "$@"
