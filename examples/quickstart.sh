#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From nothing to a pretrained UMBRA encoder on a fresh Debian 12 machine: installs what is missing, builds, makes virtual
# subjects from the shipped brain volumes, pretrains in the modes cl and mcl+mim, and prints both beside the paper's numbers.
#   ./examples/quickstart.sh [OUT]        default OUT: out/quickstart
# STEPS=N changes the length of both runs, SKIP_CL=1 leaves the first out.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-out/quickstart}
steps=${STEPS:-440}
start=$(date +%s)
say() { printf '\n== %s (%d s)\n' "$*" $(($(date +%s) - start)); }

source examples/program/packages.sh

say "building"
cmake -S . -B build/quickstart -G Ninja -DCMAKE_BUILD_TYPE=Release -DINSULA_TESTS=OFF -DINSULA_BENCHMARKS=OFF >/dev/null
cmake --build build/quickstart --target 09_make_cohort 10_pretrain_umbra
bin=build/quickstart/examples

say "virtual subjects from the shipped volumes (real: examples/data/brains, simulated: T2 and PD)"
if [[ -e $out && ! -e $out/made-by-quickstart ]]; then   # never delete what this script did not make
  echo "quickstart: $out exists and is not from an earlier quickstart: name another folder" >&2
  exit 1
fi
rm -rf "$out"
mkdir -p "$out"
: > "$out/made-by-quickstart"
"$bin/09_make_cohort" --data examples/data/brains --out "$out/cohort" --subjects 60 --spacing 3 --warp 8

# What differs from the published settings because the run is so short: gentler geometry of the augmentation, a higher
# learning rate with a longer warm-up, and a contrastive term that weighs more from the start.
short=(--config small --steps "$steps" --batch 4 held_out=0.2 spacing=3.2 optim.rate=5e-4 optim.minimum=5e-5 optim.warm_up=0.4
  ssl.alpha_start=10 ssl.alpha_end=10 ssl.momentum_end=0.996 augment.rotation=0.1 augment.shear=0.05 augment.scale=0.05
  checkpoint_every=100 rank_every=20)
if [[ -z ${SKIP_CL:-} ]]; then
  say "pretraining, mode cl"
  "$bin/10_pretrain_umbra" --data "$out/cohort" --out "$out/cl" --mode cl --also examples/data/brains "${short[@]}"
fi
say "pretraining, mode mcl+mim"
compare=()
[[ -z ${SKIP_CL:-} ]] && compare=(--compare "$out/cl")
"$bin/10_pretrain_umbra" --data "$out/cohort" --out "$out/mcl+mim" --mode mcl+mim --also examples/data/brains \
  "${short[@]}" "${compare[@]}"

say "done: the report is $out/mcl+mim/report.html, the checkpoint $out/mcl+mim/checkpoints/last.safetensors"
