# SPDX-License-Identifier: Apache-2.0
# Runs 12_pretrain_simclr and 20_finetune as a user would: short runs, resumes that change nothing, and wrong input.
# Usage: simclr_programs.py BIN_FOLDER BRAINS
import csv
import json
import pathlib
import shutil
import sys
import tempfile

import expect as checks
from expect import expect, same_bytes

BIN, BRAINS = pathlib.Path(sys.argv[1]), sys.argv[2]


def run(program, *arguments):
    return checks.run(BIN / program, *arguments)


def back_to(run_folder, step):
    """A run as it was when it was killed after a step."""
    for f in (run_folder / "checkpoints").glob("step-*.safetensors"):
        if int(f.name[5:13]) > step:
            f.unlink()
    for link in ["last.safetensors", "best.safetensors"]:
        (run_folder / "checkpoints" / link).unlink(missing_ok=True)


def rewrite(source, target, change):
    rows = list(csv.DictReader(source.open()))
    for r in rows:
        r["image_path"] = (source.parent / r["image_path"]).resolve()
        r["mask_path"] = (source.parent / r["mask_path"]).resolve()
    rows = [r for r in map(change, rows) if r]
    with target.open("w", newline="") as f:
        w = csv.DictWriter(f, rows[0].keys())
        w.writeheader()
        w.writerows(rows)
    return target


with tempfile.TemporaryDirectory() as folder:
    tmp = pathlib.Path(folder)
    cohort = tmp / "cohort"
    expect("a cohort with targets is made", run("09_make_cohort", "--data", BRAINS, "--out", cohort, "--subjects", 20, "--spacing", 6,
                                                "--targets"), 0, "20 virtual subjects")
    short = ["spacing=6", "--threads", 2, "--quiet"]

    def pretrain(out, *more):
        return run("12_pretrain_simclr", "--data", cohort / "pretrain.csv", "--out", out, "--batch", 3, "--steps", 3, *short,
                   "checkpoint_every=1", "keep=9", "held_out=0.25", *more)

    for name, *how in [("simclr", "--method", "simclr"), ("lars", "optim.rule=lars"), ("mae", "--method", "mae")]:
        out = tmp / name
        expect(f"{name} trains", pretrain(out, *how), 0)
        for file in ["report.html", "metrics.csv", "env.json", "split.tsv", "config.resolved.toml", "checkpoints/last.safetensors"]:
            if not (out / file).exists():
                checks.failures.append(f"{name}: {file} is missing")
        shutil.copytree(out, tmp / "again", symlinks=True)
        back_to(tmp / "again", 1)
        expect(f"{name} resumes", pretrain(tmp / "again", *how, "--resume"), 0)
        same_bytes(f"{name} ends as if it had not been stopped", out / "checkpoints/last.safetensors",
              tmp / "again/checkpoints/last.safetensors")
        shutil.rmtree(tmp / "again")
    expect("another temperature does not resume", pretrain(tmp / "simclr", "--resume", "ssl.temperature=0.1"), 1,
           "ssl.temperature: 0.5 in the checkpoint, 0.1 now")
    expect("a run is not overwritten", pretrain(tmp / "simclr"), 1, "resume")

    def tables(task):
        t = cohort / task
        return ["--train", t / "train.csv", "--validation", t / "val.csv", "--test", t / "test.csv", "--task", task]

    def finetune(out, task, *more):
        return run("20_finetune", *tables(task), "--out", out, "--batch", 4, "--seeds", 2, "--epochs", 2, *short, *more)

    simclr, mae = tmp / "simclr/checkpoints/last.safetensors", tmp / "mae/checkpoints/last.safetensors"
    out = tmp / "ft"
    expect("a ResNet is fine-tuned", finetune(out, "classification", "--init", simclr, "--fractions", "0.5,1"), 0, "AUC", "50 %", "100 %")
    result = json.loads((out / "results.json").read_text())
    if [len(r["per_seed"]) for r in result["results"]] != [2, 2]:
        checks.failures.append("results.json has other numbers of seeds")
    if len(list(csv.DictReader((out / "predictions.csv").open()))) != 4 * result["results"][0]["test_scans"]:
        checks.failures.append("predictions.csv has not every test scan of every training")
    shutil.copytree(out, tmp / "ft2", symlinks=True)
    for f in (tmp / "ft2/fraction-1").glob("seed-1/predictions.csv"):
        f.unlink()
    steps = sorted((tmp / "ft2/fraction-1/seed-1/checkpoints").glob("step-*.safetensors"))
    back_to(tmp / "ft2/fraction-1/seed-1", int(steps[0].name[5:13]))
    expect("fine-tuning resumes", finetune(tmp / "ft2", "classification", "--init", simclr, "--fractions", "0.5,1", "--resume"), 0)
    same_bytes("and ends as if it had not been stopped", out / "results.json", tmp / "ft2/results.json")

    expect("a ResNet is probed as published", finetune(tmp / "lp", "regression", "--init", simclr, "--probe"), 0, "MAE")
    expect("and with fixed batch norms", finetune(tmp / "lp2", "regression", "--init", simclr, "--probe", "probe_norm=fixed",
                                                  "standardise=true", f"compare={tmp / 'lp'}"), 0, "MAE")
    expect("a ViT is probed", finetune(tmp / "vit_lp", "classification", "--init", mae, "--probe", "--network", "vit"), 0, "AUC")
    expect("a ViT is fine-tuned", finetune(tmp / "vit_ft", "regression", "--init", mae, "--network", "vit", "optim.rule=adamw",
                                           "optim.decay=0.05", "optim.layer_decay=0.75"), 0, "MAE")
    expect("cross-validation from scratch", run("20_finetune", "--data", cohort / "classification/train.csv", "--method", "scratch",
                                                "--folds", 3, "--out", tmp / "cv", "--batch", 4, "--seeds", 1, "--epochs", 1, *short),
           0, "AUC")

    # wrong input
    bad = tmp / "bad"
    expect("a run is not overwritten", finetune(out, "classification", "--init", simclr, "--fractions", "0.5,1"), 1, "resume")
    expect("an unknown setting", finetune(bad, "classification", "--init", simclr, "epoch=3"), 2, "epoch", "epochs")
    expect("a size of another network", finetune(bad, "classification", "--init", simclr, "model=paper-large"), 2, "paper-large", "network=vit")
    expect("an optimiser of another method", pretrain(bad, "--method", "mae", "optim.rule=lars"), 2, "lars", "adamw")
    expect("a size of another method", pretrain(bad, "model=paper-base"), 2, "paper-base", "mae")
    expect("no weights", finetune(bad, "classification", "--probe"), 2, "--init")
    expect("no such column", finetune(bad, "classification", "--init", simclr, "--label", "diagnosis"), 1, "diagnosis", "label")
    expect("labels that are no classes", run("20_finetune", *tables("regression")[:-1], "classification", "--out", bad, *short,
                                             "--init", simclr), 1, "needs 0 or 1")
    one = rewrite(cohort / "classification/val.csv", tmp / "one.csv", lambda r: r if r["label"] == "1" else None)
    expect("one class only", finetune(bad, "classification", "--init", simclr, f"validation={one}"), 1, "one class only")
    leak = rewrite(cohort / "classification/train.csv", tmp / "leak.csv", lambda r: r)
    expect("a patient in two parts", finetune(bad, "classification", "--init", simclr, f"validation={leak}"), 1, "leak")
    expect("weights of another architecture", finetune(bad, "classification", "--init", mae), 1, "encoder.conv1.weight")
    lost = rewrite(cohort / "classification/train.csv", tmp / "lost.csv", lambda r: {**r, "image_path": "nowhere.nii.gz"})
    expect("a missing scan", finetune(tmp / "bad2", "classification", "--init", simclr, f"train={lost}"), 1, "nowhere.nii.gz")
    expect("too few patients", pretrain(tmp / "few", "batch=100"), 1, "100")

checks.end()
