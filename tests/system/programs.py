# SPDX-License-Identifier: Apache-2.0
# Runs 09_make_cohort and 10_pretrain_umbra as a user would: a short run, a stop and a resume, and wrong input.
# Usage: programs.py BIN_FOLDER BRAINS
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BIN, BRAINS = pathlib.Path(sys.argv[1]), sys.argv[2]
failures = []


def run(*arguments, program="10_pretrain_umbra"):
    r = subprocess.run([BIN / program, *map(str, arguments)], capture_output=True, text=True, timeout=600)
    return r.returncode, r.stdout, r.stderr


def expect(what, result, code, *words):
    text = result[1] + result[2]
    missing = [w for w in words if w not in text]
    if result[0] == code and not missing:
        print(f"ok    {what}")
        return
    failures.append(what)
    print(f"FAIL  {what}: status {result[0]}, wanted {code}; missing {missing}\n{text[-2000:]}")


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
                 "config.resolved.toml", "checkpoints/last.safetensors"]:
        if not (tmp / "run" / name).exists():
            failures.append(f"{name} is missing")
    json.loads((tmp / "run" / "alignment.json").read_text())
    before = (tmp / "run" / "checkpoints" / "last.safetensors").read_bytes()

    expect("a folder that holds a run is not overwritten", run(*data, *common(tmp / "run")), 1, "resume")
    if (tmp / "run" / "checkpoints" / "last.safetensors").read_bytes() != before:
        failures.append("the old checkpoint changed")
    expect("another mode does not resume", run(*data, *common(tmp / "run"), "--resume", "mode=cl"), 1, "mode")
    expect("other preprocessing does not resume", run(*data, *common(tmp / "run"), "--resume", "spacing=5"), 1, "resample")

    child = subprocess.Popen([BIN / "10_pretrain_umbra", *map(str, data + common(tmp / "stopped", 400))],
                             stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for _ in range(600):
        if (tmp / "stopped" / "checkpoints" / "last.safetensors").exists():
            break
        time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    expect("SIGTERM saves and asks for a restart", (child.wait(120), "", ""), 75)

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

    cut = tmp / "cut"
    shutil.copytree(tmp / "run", cut, symlinks=True)
    for f in (cut / "checkpoints").glob("step-*.safetensors"):
        f.write_bytes(f.read_bytes()[:5000])
    expect("truncated checkpoints are not resumed from silently", run(*data, *common(cut, 3), "--resume"), 1, "checkpoint")

print(f"{len(failures)} failed")
sys.exit(1 if failures else 0)
