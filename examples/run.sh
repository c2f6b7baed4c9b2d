#!/bin/bash
# Builds the zero-shot example, and search, for this machine and runs it on a Debian from 12 on, fresh or not: first with
# its own pictures and labels, then its report. Arguments go to the example instead: bash examples/run.sh --help
# What installing and building say goes to standard error, so that --json > file is JSON.
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
. cmake/debian.sh
debian_install cmake g++ ninja-build libeigen3-dev libxsimd-dev nlohmann-json3-dev libstb-dev libutf8proc-dev \
  libxxhash-dev libwebp-dev libheif-dev zlib1g-dev libcli11-dev

{
  cmake -S . -B build/examples --log-level=NOTICE -D CMAKE_BUILD_TYPE=Release -D GATEFOLD_NATIVE=ON \
    -D GATEFOLD_BUILD_TESTS=OFF -D GATEFOLD_BUILD_BENCH=OFF
  build build/examples --target zero_shot search
} >&2
program=$PWD/build/examples/examples/zero_shot
if (($#)); then
  cd "$here"
  exec "$program" "$@"
fi
"$program"
"$program" --report "$PWD/build/examples/report.html"
