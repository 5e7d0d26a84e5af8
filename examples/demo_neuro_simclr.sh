#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# 3D-Neuro-SimCLR and its MAE baseline on virtual subjects: installs what is missing, builds, makes the subjects from the shipped
# brain volumes, pretrains small networks by both methods, then probes, fine-tunes and trains from scratch for a regression and a
# classification, at 100 % and 20 % of the labels. Ends with one table beside the paper's Table 2.
#   ./examples/demo_neuro_simclr.sh [OUT]        default OUT: out/neuro_simclr
# SUBJECTS, EPOCHS (pretraining), TUNE (epochs downstream) and SEEDS change the size.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-out/neuro_simclr}
subjects=${SUBJECTS:-200}
epochs=${EPOCHS:-30}
tune=${TUNE:-15}
seeds=${SEEDS:-3}
start=$(date +%s)
say() { printf '\n== %s (%d s)\n' "$*" $(($(date +%s) - start)); }

source examples/program/packages.sh

say "building"
cmake -S . -B build/quickstart -G Ninja -DCMAKE_BUILD_TYPE=Release -DINSULA_TESTS=OFF -DINSULA_BENCHMARKS=OFF >/dev/null
cmake --build build/quickstart --target 09_make_cohort 12_pretrain_simclr 20_finetune
bin=build/quickstart/examples

say "$subjects virtual subjects from the shipped volumes"
if [[ -e $out && ! -e $out/made-by-demo ]]; then   # never delete what this script did not make
  echo "demo_neuro_simclr: $out exists and is not from an earlier demonstration: name another folder" >&2
  exit 1
fi
rm -rf "$out"
mkdir -p "$out"
: > "$out/made-by-demo"
"$bin/09_make_cohort" --data examples/data/brains --out "$out/cohort" --subjects "$subjects" --spacing 5 --warp 8 --targets

pretrain() {   # METHOD, then settings
  local method=$1
  shift
  say "pretraining by $method"
  "$bin/12_pretrain_simclr" --data "$out/cohort/pretrain.csv" --out "$out/$method" --method "$method" --config small \
    --epochs "$epochs" --batch 8 spacing=5 checkpoint_every=100 "$@"
}
# gentler crops than the published ones, which would show a fifth of the brain in a handful of voxels
crops=(augment.crop_d=20 augment.crop_h=26 augment.crop_w=20)
pretrain simclr "${crops[@]}" optim.rate=1e-3
pretrain mae "${crops[@]}" optim.rate=1e-3 optim.warm_up=0.1

done_runs=()
downstream() {   # NAME, TASK, then settings
  local name=$1 task=$2 folder
  folder=$out/$(printf '%s' "$name-$task" | tr ' ' '_')
  shift 2
  say "$name: $task"
  local compare=() IFS=,
  ((${#done_runs[@]})) && compare=("compare=${done_runs[*]}")
  "$bin/20_finetune" --train "$out/cohort/$task/train.csv" --validation "$out/cohort/$task/val.csv" \
    --test "$out/cohort/$task/test.csv" --task "$task" --config small --name "$name" --out "$folder" --seeds "$seeds" \
    --fractions 1,0.2 --epochs "$tune" --batch 6 --quiet spacing=5 standardise=$([[ $task == regression ]] && echo true || echo false) \
    target=$([[ $task == regression ]] && echo atrophy || echo patient) augment=none "${compare[@]}" "$@"
  done_runs+=("$folder")
}
simclr=$out/simclr/checkpoints/last.safetensors
mae=$out/mae/checkpoints/last.safetensors
for task in regression classification; do
  downstream "ResNet supervised" "$task" --method scratch optim.rate=1e-3
  downstream "ViT supervised" "$task" --method scratch --network vit optim.rate=5e-4
  downstream "MAE-LP" "$task" --probe --network vit --init "$mae" optim.rate=1e-2 epochs=100
  downstream "MAE-FT" "$task" --network vit --init "$mae" optim.rate=5e-4
  downstream "SimCLR-LP" "$task" --probe --init "$simclr" probe_norm=fixed optim.rate=1e-2 epochs=100
  downstream "SimCLR-FT" "$task" --init "$simclr" optim.rate=1e-3
done
say "done: the table is in ${done_runs[-1]}/report.html"
