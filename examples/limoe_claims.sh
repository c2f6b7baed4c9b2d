#!/bin/bash
# The claims of LIMoE in miniature: bash examples/limoe_claims.sh [folder with train_limoe] [runs] [steps] [seeds]
# Trains small models that differ in one thing, one run per core at a time, and prints their table. Half an hour on two
# cores; runs that are there already are not repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
export programs=${1:-build/native/examples} runs=${2:-limoe-claims} steps=${3:-1000}
seeds=${4:-"1 2"}

# No router noise, seats for exactly all tokens, and weighty auxiliary losses, so that what they do can be seen soon.
train() {  # seed name arguments...
  local out=$runs/$2-$1
  local run=(--out "$out" --seed "$1" --steps "$steps" --width 64 --hidden 256 --heads 4 --embedding 64 --capacity 1
    --noise 0 --aux 0.2 --lr 1.5e-3 --warmup 100 --weight-decay 0.2 --max-temperature 100 --one-colour 0.6 --masked
    "${@:3}")
  [ ! -s "$out/run.safetensors" ] || run=(--resume "$out")
  [ -s "$out/summary.json" ] || "$programs/train_limoe" "${run[@]}" --threads 1 --save-every 100000 >"$out.log" 2>&1 ||
    { echo "$out failed: see $out.log" >&2; return 1; }
}
export -f train

variants=("limoe --losses limoe" "limoe-by-position --losses limoe --priority position"
  "classic --losses classic" "classic-by-position --losses classic --priority position"
  "none --losses none" "none-by-position --losses none --priority position"
  "dense --dense" "dense-two-towers --dense --two-tower")

mkdir -p "$runs"
for seed in $seeds; do
  for variant in "${variants[@]}"; do echo "$seed $variant"; done
done | xargs -P "$(nproc)" -I{} bash -c 'train {}'

groups=()
for variant in "${variants[@]}"; do
  name=${variant%% *} folders=""
  for seed in $seeds; do folders+=${folders:+,}$runs/$name-$seed; done
  groups+=("$name=$folders")
done
"$programs/compare_runs" "${groups[@]}"
