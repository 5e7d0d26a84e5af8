# SPDX-License-Identifier: Apache-2.0
# Runs 09_make_cohort and 10_pretrain_umbra as a user would: a short run, a stop and a resume, and wrong input.
# Usage: programs.py BIN_FOLDER BRAINS
import json
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import expect as checks
from expect import expect

BIN, BRAINS = pathlib.Path(sys.argv[1]), sys.argv[2]
odd_files = {}


def run(*arguments, program="10_pretrain_umbra"):
    return checks.run(BIN / program, *arguments)


def nifti(voxels, dim=(3, 4, 5, 6), datatype=16, spacing=1.0, magic=b"n+1\0"):
    """A NIfTI-1 file of float32 voxels with the given header, sane or not."""
    dim = (*dim, *[1] * (8 - len(dim)))
    header = struct.pack("<i36x8h", 348, *dim) + bytes(14) + struct.pack("<hhh8f", datatype, 32, 0, 1, spacing, 1, 1, 1, 1, 1, 1)
    header += struct.pack("<3fh2B", 352, 1, 0, 0, 0, 2) + bytes(348 - 4 - 36 - 16 - 14 - 6 - 32 - 16 - 4)
    return header + magic + bytes(4) + struct.pack(f"<{len(voxels)}f", *voxels)


def common(out, steps=2):
    return ["--out", out, "--mode", "mcl+mim", "--steps", steps, "--batch", 2, "--threads", 2, "held_out=0.34", "spacing=6",
            "checkpoint_every=1", "log_every=1"]


with tempfile.TemporaryDirectory() as folder:
    tmp = pathlib.Path(folder)
    cohort = tmp / "cohort"
    expect("a cohort is made", run("--data", BRAINS, "--out", cohort, "--subjects", 6, "--spacing", 6, program="09_make_cohort"),
           0, "6 virtual subjects, 18 volumes")
    data = ["--data", cohort]

    expect("a short run", run(*data, *common(tmp / "run"), "--quiet"), 0, "cross-modality distance", "paper: MCL")
    for name in ["report.html", "metrics.csv", "metrics.jsonl", "env.json", "manifest.tsv", "split.tsv", "alignment.json",
                 "embeddings_held_out.safetensors", "embeddings_held_out.csv", "config.resolved.toml",
                 "checkpoints/last.safetensors"]:
        if not (tmp / "run" / name).exists():
            checks.failures.append(f"{name} is missing")
    json.loads((tmp / "run" / "alignment.json").read_text())
    shutil.copytree(cohort, tmp / "fewer", ignore=shutil.ignore_patterns("t2.nii.gz"))
    before = (tmp / "run" / "checkpoints" / "last.safetensors").read_bytes()

    expect("a folder that holds a run is not overwritten", run(*data, *common(tmp / "run")), 1, "resume")
    if (tmp / "run" / "checkpoints" / "last.safetensors").read_bytes() != before:
        checks.failures.append("the old checkpoint changed")
    expect("another mode does not resume", run(*data, *common(tmp / "run"), "--resume", "mode=cl"), 1, "mode")
    others = [("optim.rate", "0.0001", "0.001"), ("optim.decay", "0.01", "0.0"), ("optim.clip", "10.0", "1.0"),
              ("ssl.momentum_end", "0.999", "0.9"), ("ssl.alpha_end", "1.0", "0.5"), ("ssl.mask_high", "0.75", "0.6"),
              ("augment.rotation", "0.3", "0.1"), ("accumulate", "1", "2"), ("seed", "42", "7"), ("batch", "2", "3")]
    expect("other settings do not resume", run(*data, *common(tmp / "run"), "--resume", *(f"{k}={v}" for k, _, v in others)), 1,
           "step-00000002.safetensors", *(f"{k}: {then} in the checkpoint, {now} now" for k, then, now in others))
    expect("fewer scans do not resume", run("--data", tmp / "fewer", *common(tmp / "run"), "--resume"), 1, "fingerprint")
    shutil.copytree(cohort, tmp / "moved")
    expect("a moved data folder and another rhythm of records do", run("--data", tmp / "moved", *common(tmp / "run"), "--resume",
                                                                       "log_every=2", "loaders=0"), 0, "paper: MCL")
    expect("other preprocessing does not resume", run(*data, *common(tmp / "run"), "--resume", "spacing=5"), 1, "resample")

    for name, status in [("SIGTERM", 75), ("SIGUSR1", 75), ("SIGINT", 130)]:
        out = tmp / f"stopped_{name}"
        child = subprocess.Popen([BIN / "10_pretrain_umbra", *map(str, data + common(out, 400))],
                                 stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(600):
            if (out / "checkpoints" / "last.safetensors").exists():
                break
            time.sleep(0.1)
        child.send_signal(getattr(signal, name))
        expect(f"{name} saves and ends", (child.wait(120), "", ""), status)

    # settings from a file, and every mode
    (tmp / "run.json").write_text('{"steps": 7, "optim": {"rate": 0.001, "warm_up": 0}, "best_by": "val/reconstruction"}')
    expect("a JSON file, overridden", run(*data, *common(tmp / "json", 1), "--config", tmp / "run.json", "mae_batch=1"), 0, "paper: MCL")
    resolved = json.loads((tmp / "json" / "config.resolved.json").read_text())
    if (resolved["steps"], resolved["optim"]["rate"], resolved["mae_batch"]) != (1, 0.001, 1):
        checks.failures.append(f"config.resolved.json is {resolved}")
    if not (tmp / "json" / "checkpoints" / "best.safetensors").exists():
        checks.failures.append("best_by keeps no best checkpoint")
    for mode in ["mim", "cl", "mcl", "cl+mim"]:
        expect(f"mode {mode}", run(*data, *common(tmp / f"mode_{mode}", 1), "mode=" + mode, f"cache={tmp / 'cache'}"), 0,
               f"{mode}, held-out subjects", "cache: 18 volumes, ", "to write)" if mode == "mim" else "18 ready")

    # weights to start from
    weights = tmp / "run" / "checkpoints" / "last.safetensors"
    expect("weights of another run", run(*data, *common(tmp / "init", 1), "--init", weights), 0,
           "last.safetensors: autoencoder: matched 162, missing 0", "projection: matched 4")
    expect("weights of another architecture", run(*data, *common(tmp / "wrong", 1), "--config", "paper", "--init", weights), 1,
           "last.safetensors does not fit the model", "wrong shape", "encoder.layers1.0.blocks.0.attn.qkv.weight")
    if (tmp / "wrong" / "checkpoints" / "last.safetensors").exists():
        checks.failures.append("a run with weights that do not fit has begun")
    expect("a checkpoint of another architecture", run(*data, *common(tmp / "run"), "--config", "paper", "--resume", "held_out=0"), 1,
           'model: "small" in the checkpoint, "paper" now')

    # wrong use
    expect("nothing given", run(), 2, "data")
    expect("help", run("--help"), 0, "--mode")
    expect("all settings are listed", run("--print-config"), 0, "[augment]", "rotation = 0.3", "[optim]")
    expect("an unknown key", run(*data, "--out", tmp / "x", "stpes=3"), 2, "stpes", "steps")
    expect("an unknown mode", run(*data, "--out", tmp / "x", "--mode", "mclmim"), 2, "mclmim", "mcl+mim")
    expect("a value out of range", run(*data, "--out", tmp / "x", "batch=0"), 2, "batch")
    (tmp / "bad.toml").write_text("stepz = 3\n")
    expect("an unknown key in a file", run(*data, "--out", tmp / "x", "--config", tmp / "bad.toml"), 2, "bad.toml", "stepz", "steps")
    expect("no such folder", run("--data", tmp / "nowhere", "--out", tmp / "x"), 1, "nowhere")
    (tmp / "empty").mkdir()
    expect("an empty folder", run("--data", tmp / "empty", "--out", tmp / "x"), 1, "empty")

    lonely = tmp / "lonely"
    for i in range(1, 4):
        (lonely / f"sub_{i}" / "ses_1").mkdir(parents=True)
        shutil.copy(cohort / f"sub_{i}" / "ses_1" / "t1.nii.gz", lonely / f"sub_{i}" / "ses_1" / "t1.nii.gz")
    expect("sessions without pairs", run("--data", lonely, *common(tmp / "x1")), 1, "sessions without pairs")

    broken = tmp / "broken"
    shutil.copytree(cohort, broken)
    victim = broken / "sub_1" / "ses_1" / "t2.nii.gz"
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    expect("a truncated volume is refused if asked", run("--data", broken, *common(tmp / "x2"), "bad_files=refuse"), 1, "t2.nii.gz")
    expect("a truncated volume is named and left out", run("--data", broken, *common(tmp / "x3", 1)), 0, "t2.nii.gz")

    odd = tmp / "odd"
    shutil.copytree(cohort, odd)
    cells = [float(i % 7 + 1) for i in range(4 * 5 * 6)]
    for name, expected in {
        "not_finite": (nifti(cells[:-1] + [float("nan")]), "1 of 120 voxels are NaN or infinite"),
        "all_zero": (nifti([0.0] * 120), "all 120 voxels are 0"),
        "four_axes": (nifti(cells, dim=(4, 4, 5, 3, 2)), "holds 2 volumes"),
        "complex": (nifti(cells, datatype=32), "complex"),
        "colour": (nifti(cells, datatype=128), "colour"),
        "magic": (nifti(cells, magic=b"abc\0"), "magic.nii"),
        "huge": (nifti(cells, dim=(3, 32767, 32767, 32767)), "32767"),
        "spacing": (nifti(cells, spacing=1e9), "pixdim"),
    }.items():
        (odd / "sub_1" / "ses_1" / f"{name}.nii").write_bytes(expected[0])
        odd_files[name] = expected[1]
    result = run("--data", odd, *common(tmp / "x4", 1))
    expect("volumes that cannot be used are named and left out", result, 0, *odd_files.values(),
           *(f"{name}.nii" for name in odd_files))
    expect("or refused", run("--data", odd, *common(tmp / "x5", 1), "bad_files=refuse"), 1, "cannot be used")
    if (tmp / "x5" / "checkpoints").exists():
        checks.failures.append("a refused run has left checkpoints")

    cut = tmp / "cut"
    shutil.copytree(tmp / "run", cut, symlinks=True)
    for f in (cut / "checkpoints").glob("step-*.safetensors"):
        f.write_bytes(f.read_bytes()[:5000])
    expect("truncated checkpoints are not resumed from silently", run(*data, *common(cut, 3), "--resume"), 1, "checkpoint")

checks.end()
