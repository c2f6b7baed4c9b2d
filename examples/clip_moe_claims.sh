#!/bin/bash
# CLIP-MoE's claims in miniature:
#   bash examples/clip_moe_claims.sh [--quick] [folder with train_clip] [runs] [seeds] [processes at once]
# A base on brief captions, then every way to spend steps on detailed ones, each a process of its own that is resumed
# where it was interrupted; runs that are there already are not repeated. Prints the table as Markdown. About five hours
# of one core a seed. --quick: the same with a few steps and small tests, which says nothing but that it runs.
set -euo pipefail
cd "$(dirname "$0")/.."
quick=no
if [ "${1:-}" = --quick ]; then quick=yes; shift; fi
export programs=${1:-build/native/examples} runs=${2:-clip-moe-claims}
seeds=${3:-"1 2"}
# Two threads a process, so that the longest chain (three stages and two routers) does not outlast all others; the bases,
# on which everything waits, share the machine.
export threads=${THREADS:-2} base_threads=$(($(nproc) / $(wc -w <<<"$seeds")))
[ "$base_threads" -ge 1 ] || base_threads=1
at_once=${4:-$((($(nproc) + threads - 1) / threads))}
export steps=400 base_steps=4000 more="" four=1600
if [ $quick = yes ]; then
  steps=4 base_steps=6 four=6
  more="--batch 16 --width 32 --heads 2 --vision-layers 2 --text-layers 2 --embedding 16 --patch 8 --pairs 2000 --evaluation 25"
fi
train() {  # seed name arguments...
  local out=$runs/$2-$1
  local run=(--out "$out" $more "${@:3}")
  [[ " $* " == *" --seed "* ]] || run+=(--seed "$1")
  [ ! -s "$out/run.safetensors" ] || run=(--resume "$out" $(sed -n 's/.*\(--evaluation [0-9]*\).*/\1/p' <<<"$more"))
  [ -s "$out/run.safetensors" ] || [ ! -s "$out/model.safetensors" ] || run+=(--overwrite)
  [ -s "$out/summary.json" ] || "$programs/train_clip" "${run[@]}" --threads "$threads" --save-every 200 \
    >>"$out.log" 2>&1 || { echo "$out failed: see $out.log" >&2; return 1; }
}

# What waits for nothing but the base, and what must follow one another, is one line: parts separated by «;».
chain() {  # seed line
  local seed=$1 part
  IFS=';' read -ra parts <<<"$2"
  for part in "${parts[@]}"; do
    part=${part//@/$runs/} part=${part//%/-$seed}
    train "$seed" $part
  done
}
export -f train chain

# @NAME% is the folder of this seed's run NAME.
tuned="--stage tune --model @base% --steps $steps"
lines=(
  "direct-1e-4 $tuned --lr 1e-4"
  "direct-3e-4 $tuned --lr 3e-4"
  "direct-1e-3 $tuned --lr 1e-3"
  "ffn-3e-4 $tuned --train ffn --lr 3e-4"
  "direct-3e-4-4S --stage tune --model @base% --lr 3e-4 --steps $four"
  "copies --stage upcycle --model @base%; copy-upcycled --stage router --train experts --lr 1e-3 --model @copies% --steps $steps"
  "mcl-1 --stage mcl --model @base% --steps $steps; mcl-2 --stage mcl --model @base% --experts @mcl-1% --steps $steps; mcl-3 --stage mcl --model @base% --experts @mcl-2% --steps $steps; dmu-untrained --stage upcycle --model @base% --experts @mcl-1% @mcl-2% @mcl-3%; dmu-router --stage router --model @dmu-untrained% --steps $steps; dmu-then-experts --stage router --train experts --lr 3e-4 --model @dmu-untrained% --steps $steps"
)
# Experts of random batches differ by the order of the data: a seed of their own. They are the feed-forward tuning too.
random="--stage tune --model @base% --train ffn --lr 1e-3 --steps $steps"

mkdir -p "$runs"
for seed in $seeds; do
  echo "$seed" "base --stage base --steps $base_steps"
done | xargs -P "$at_once" -d '\n' -I{} bash -c 'line="{}"; threads=$base_threads chain "${line%% *}" "${line#* }"'

{
  for seed in $seeds; do  # the longest first
    echo "$seed ${lines[6]}"
    echo "$seed ${lines[4]}"
    for n in 1 2 3; do echo "$seed ffn-1e-3-$n $random --seed $((100 * seed + n))"; done
    for i in 0 1 2 3 5; do echo "$seed ${lines[$i]}"; done
  done
} | xargs -P "$at_once" -d '\n' -I{} bash -c 'line="{}"; chain "${line%% *}" "${line#* }"'

for seed in $seeds; do
  echo "$seed random-untrained --stage upcycle --model @base% --experts @ffn-1e-3-1% @ffn-1e-3-2% @ffn-1e-3-3%; random-router --stage router --model @random-untrained% --steps $steps"
done | xargs -P "$at_once" -d '\n' -I{} bash -c 'line="{}"; chain "${line%% *}" "${line#* }"'

rows="base direct-1e-4 direct-3e-4 direct-1e-3 direct-3e-4-4S ffn-3e-4 ffn-1e-3-1 copy-upcycled mcl-1 mcl-2 mcl-3
  dmu-untrained dmu-router dmu-then-experts random-untrained random-router"
groups=()
for row in $rows; do
  folders=""
  for seed in $seeds; do folders+=${folders:+,}$runs/$row-$seed; done
  groups+=("$row=$folders")
done
"$programs/compare_runs" "${groups[@]}"
