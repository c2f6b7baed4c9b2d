#!/bin/bash
# CLIP-MoE's claims in miniature:
#   bash examples/clip_moe_claims.sh [--quick] [folder with train_clip] [runs] [seeds] [processes at once]
# A base on brief captions, then every way to spend steps on detailed ones, each a process of its own that is resumed
# where it was interrupted; runs that are there already are not repeated. Prints the table as Markdown. About two hours
# a seed on two cores, in which 13 processes wait for one another no more than they must. --quick: the same with a few
# steps and small tests, which says nothing but that it runs.
set -euo pipefail
cd "$(dirname "$0")/.."
quick=no
if [ "${1:-}" = --quick ]; then quick=yes; shift; fi
export programs=${1:-build/native/examples} runs=${2:-clip-moe-claims}
seeds=${3:-"1 2"} at_once=${4:-$(nproc)}
export steps=400 base_steps=4000 more="" four=1600
if [ $quick = yes ]; then
  steps=4 base_steps=6 four=6
  more="--batch 16 --width 32 --heads 2 --vision-layers 2 --text-layers 2 --embedding 16 --patch 8 --evaluation 25"
fi
# Threads of a process; several run side by side.
export threads=${THREADS:-1}

train() {  # seed name arguments...
  local out=$runs/$2-$1
  local run=(--out "$out" --seed "$1" $more "${@:3}")
  [ ! -s "$out/run.safetensors" ] || run=(--resume "$out" $(sed -n 's/.*\(--evaluation [0-9]*\).*/\1/p' <<<"$more"))
  [ -s "$out/run.safetensors" ] || [ ! -s "$out/model.safetensors" ] || run+=(--overwrite)
  if [ ! -s "$out/summary.json" ]; then
    local begin=$SECONDS
    "$programs/train_clip" "${run[@]}" --threads "$threads" --save-every 200 >>"$out.log" 2>&1 ||
      { echo "$out failed: see $out.log" >&2; return 1; }
    echo "$(($(cat "$out.seconds" 2>/dev/null || echo 0) + SECONDS - begin))" >"$out.seconds"
  fi
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
done | xargs -P "$at_once" -d '\n' -I{} bash -c 'line="{}"; threads=${BASE_THREADS:-$threads} chain "${line%% *}" "${line#* }"'

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
tests="detailed hard medium|class 18|garments|pattern|size|colour|background|texture|place|binding"
python3 - "$runs" "$seeds" "$rows" <<'PYTHON'
import json, os, sys
runs, seeds, rows = sys.argv[1], sys.argv[2].split(), sys.argv[3].split()
def scores(row, seed):
    with open(f"{runs}/{row}-{seed}/summary.json") as file:
        return {t["title"]: 100 * t["top1"] for t in json.load(file)["tests"]}
def seconds(row, seed):
    path = f"{runs}/{row}-{seed}.seconds"
    return int(open(path).read()) if os.path.exists(path) else 0
names = [n for n in scores(rows[0], seeds[0])]
print("| model | " + " | ".join(names) + " | minutes |")
print("|---" * (len(names) + 2) + "|")
for row in rows:
    of = [scores(row, seed) for seed in seeds]
    cells = []
    for name in names:
        values = [s[name] for s in of]
        cells.append(f"{sum(values) / len(values):.1f}" +
                     (" (" + ", ".join(f"{v:.1f}" for v in values) + ")" if len(values) > 1 else ""))
    minutes = sum(seconds(row, seed) for seed in seeds) / len(seeds) / 60
    print(f"| {row} | " + " | ".join(cells) + f" | {minutes:.1f} |")
PYTHON
