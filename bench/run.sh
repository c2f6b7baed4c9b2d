#!/bin/bash
# Measures everything on a Debian from 12 on, fresh or not, in a quarter of an hour: builds for this machine, installs the
# libraries that are compared with, the newest of PyPI (1.5 GB in build/bench/venv-cpp) or, where that cannot be had,
# Debian's; runs all benchmarks and writes build/bench/results.{md,json,svg}. Leave the machine alone meanwhile.
# Arguments go to every program: bash bench/run.sh --benchmark_filter=moe; --quick only shows that it works.
# With PyTorch, ONNX Runtime and OpenVINO as Python packages a CLIP is compared by bench/peers/clip_peers.py, and a
# mixture with the fused experts of PyPI by bench/peers/moe_peers.py; bench/peers/install_peers.sh installs those.
set -euo pipefail
cd "$(dirname "$0")/.."
. cmake/debian.sh
debian_install cmake g++ ninja-build libeigen3-dev libxsimd-dev nlohmann-json3-dev libstb-dev libutf8proc-dev \
  libxxhash-dev libbenchmark-dev python3-venv
bash bench/peers/install_peers.sh cpp ||
  { echo "Comparing with Debian's libraries instead, which are older."; debian_install libopenblas-dev libdnnl-dev libtorch-dev; } >&2

cmake --fresh -S . -B build/bench -D CMAKE_BUILD_TYPE=Release -D GATEFOLD_NATIVE=ON -D GATEFOLD_BUILD_TESTS=OFF \
  -D GATEFOLD_BUILD_EXAMPLES=OFF
build build/bench
rm -f build/bench/results/*.json
mkdir -p build/bench/results
for program in matmul experts sparse_mlp routing block attention decode train_step scale clip clip_moe zero_shot; do
  build/bench/bench/bench_$program --benchmark_out=build/bench/results/bench_$program.json \
    --benchmark_out_format=json "$@"
done
build/bench/bench/bench_report build/bench build/bench/results/*.json
