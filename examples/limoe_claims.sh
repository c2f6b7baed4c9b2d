#!/bin/bash
# The claims of LIMoE in miniature: bash examples/limoe_claims.sh [train_limoe] [folder] [steps] [seeds]
# Trains small models that differ in one thing, two seeds each, and prints their table (about half an hour on two cores).
set -euo pipefail
cd "$(dirname "$0")/.."
train=${1:-build/native/examples/train_limoe}
runs=${2:-limoe-claims}
steps=${3:-1000}
seeds=${4:-"1 2"}
small=(--width 64 --hidden 256 --heads 4 --embedding 64 --capacity 1 --warmup 100 --lr 1.5e-3 --weight-decay 0.2 --aux 0.2 --noise 0
  --max-temperature 100 --one-colour 0.6 --masked
  --min-image-experts 4 --min-text-experts 2 --steps "$steps" --save-every 100000)

groups=()
train_group() {  # name arguments...
  local name=$1 folders="" seed
  shift
  for seed in $seeds; do
    local out=$runs/${name// /-}-$seed
    [ -s "$out/summary.json" ] || "$train" "${small[@]}" --seed "$seed" --out "$out" "$@" >"$runs/log"
    folders+=${folders:+,}$out
  done
  groups+=("$name=$folders")
}

mkdir -p "$runs"
for losses in limoe classic none; do
  train_group "$losses, batch priority" --losses $losses
  train_group "$losses, by position" --losses $losses --priority position
done
train_group "dense, one tower" --dense
train_group "dense, two towers" --dense --two-tower
"$(dirname "$train")/compare_runs" "${groups[@]}"
