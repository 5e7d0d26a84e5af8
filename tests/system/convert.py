# SPDX-License-Identifier: Apache-2.0
# Runs 30_convert_weights as a user would: recorded files of PyTorch, renaming, wrong input, and PyTorch itself where there is one.
# Usage: convert.py PROGRAM RECORDED_FILES   INSULA_TORCH_PYTHON names a Python that has torch, if this one has not
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import expect as checks
from expect import expect, same

PROGRAM, DATA = sys.argv[1], pathlib.Path(sys.argv[2])


def run(*arguments):
    return checks.run(PROGRAM, *arguments)


def tensors(path):
    """Names to (dtype, shape, bytes) of a safetensors file, by the format's description alone."""
    raw = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    data = raw[8 + size:]
    return {k: (v["dtype"], v["shape"], data[v["data_offsets"][0]:v["data_offsets"][1]]) for k, v in header.items()}


def floats(entry):
    return list(struct.unpack(f"<{len(entry[2]) // 4}f", entry[2]))


TORCH = """
import sys, torch
folder = sys.argv[1]
torch.manual_seed(1)
make = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}, "protocol5": {"pickle_protocol": 5}}
base = torch.randn(7, 5, 3)
state = {"a": base, "b": base.permute(2, 0, 1), "c": base[1::2, :, 1], "h": base.half(), "bf": base.bfloat16(),
         "i": torch.arange(5), "f": base > 0, "d": base.double(), "s": torch.tensor(3), "e": torch.zeros(0, 4)}
for name, options in make.items():
    torch.save({"state_dict": {"module." + k: v for k, v in state.items()}, "epoch": 1}, f"{folder}/{name}.pt", **options)
for k, v in state.items():
    v = v.contiguous().reshape(-1)
    (v.view(torch.uint8) if v.numel() else torch.zeros(0, dtype=torch.uint8)).numpy().tofile(f"{folder}/{k}.raw")
open(f"{folder}/version", "w").write(torch.__version__)
"""


def compare_with_torch(tmp):
    python = os.environ.get("INSULA_TORCH_PYTHON", sys.executable)
    made = subprocess.run([python, "-c", TORCH, str(tmp)], capture_output=True, text=True, timeout=300)
    if made.returncode:
        print("skip  PyTorch's own files: no torch here (INSULA_TORCH_PYTHON can name a Python that has it)")
        return
    for name in ("zip", "legacy", "protocol5"):
        out = tmp / f"{name}.safetensors"
        expect(f"PyTorch {(tmp / 'version').read_text()} wrote {name}", run(tmp / f"{name}.pt", out, "--strip", "module."), 0,
               "10 tensors")
        for key, (_, _, data) in tensors(out).items():
            same(f"{name}: {key}", data == (tmp / f"{key}.raw").read_bytes(), True)


with tempfile.TemporaryDirectory() as folder:
    tmp = pathlib.Path(folder)
    out = tmp / "out.safetensors"

    expect("help", run("--help"), 0, "--strip", "--dry-run")
    expect("a Lightning checkpoint", run(DATA / "lightning.ckpt", out, "--strip", "model."), 0, "9 tensors", str(out))
    got = tensors(out)
    same("names", sorted(got), ["head.bias", "head.weight", "norm.bias", "norm.num_batches_tracked", "norm.running_mean",
                                "norm.running_var", "norm.weight", "stem.bias", "stem.weight"])
    same("values", floats(got["stem.weight"]), [0.25 * i for i in range(12)])
    same("shape", got["stem.weight"][1], [2, 1, 1, 2, 3])
    same("integers stay integers", got["norm.num_batches_tracked"], ("I64", [], struct.pack("<q", 7)))

    before = out.read_bytes()
    expect("an output that exists is kept", run(DATA / "ddp.tar", out), 1, str(out), "--force")
    same("unchanged", out.read_bytes(), before)
    expect("unless forced", run(DATA / "ddp.tar", out, "--force", "--quiet", "--strip", "module."), 0, "9 tensors")
    same("another container, the same bytes", out.read_bytes(), before)
    expect("wrapped in a tar", run(DATA / "wrapped.tar", out, "--force", "--strip", "module."), 0, "9 tensors")
    same("and again", out.read_bytes(), before)

    kinds = []
    for name in ("kinds.pt", "kinds_legacy.pt", "kinds_protocol4.pt"):
        expect(name, run(DATA / name, tmp / name), 0, "18 tensors")
        kinds.append((tmp / name).read_bytes())
    same("all formats give the same bytes", kinds[0] == kinds[1] == kinds[2], True)
    got = tensors(tmp / "kinds.pt")
    same("types", [got[k][0] for k in ("f32", "f64", "f16", "bf16", "boolean", "u8", "i8", "i16", "i32", "i64")],
         ["F32", "F64", "F16", "BF16", "BOOL", "U8", "I8", "I16", "I32", "I64"])
    same("strides are resolved", floats(got["transposed"]), [0.25 * (6 * r + c) for c in range(6) for r in range(4)])
    same("a safetensors file is input, too", run(tmp / "kinds.pt", tmp / "again")[0], 0)
    same("bit by bit", (tmp / "again").read_bytes(), kinds[0])

    rules = tmp / "rules.txt"
    rules.write_text("# comment\nmodel. ->\n\n stem. -> encoder.0. \n-> net.\n")
    expect("rules, keep and drop", run(DATA / "lightning.ckpt", out, "--force", "--rename", rules, "--keep", "net.encoder.",
                                       "--keep", "net.norm.", "--drop", "net.norm.running"), 0, "5 tensors")
    same("renamed", sorted(tensors(out)), ["net.encoder.0.bias", "net.encoder.0.weight", "net.norm.bias",
                                           "net.norm.num_batches_tracked", "net.norm.weight"])
    expect("a dry run writes nothing", run(DATA / "lightning.ckpt", tmp / "none", "--dry-run"), 0, "nothing was written")
    same("nothing", (tmp / "none").exists(), False)
    expect("a list", run(DATA / "lightning.ckpt", "--list"), 0, "'epoch': 12", "'optimizer_states': 18 tensors",
           "tensors under 'state_dict'", "model.stem.weight", "[2, 1, 1, 2, 3]")
    expect("a list of an ambiguous file", run(DATA / "teacher_student.pth", "--list"), 0, "'teacher' (9 tensors)", "18 tensors")
    expect("a part of choice", run(DATA / "teacher_student.pth", out, "--force", "--key", "teacher"), 0, "9 tensors")
    expect("everything", run(DATA / "teacher_student.pth", out, "--force", "--key", ""), 0, "18 tensors")

    expect("nothing given", run(), 2, "in is required")
    expect("no output", run(DATA / "ddp.tar"), 2, "--dry-run")
    expect("an unknown option", run(DATA / "ddp.tar", out, "--stripp", "x"), 2, "stripp")
    expect("an ambiguous file", run(DATA / "teacher_student.pth", tmp / "x"), 1, "'student' (9 tensors)", "key")
    expect("a key that is not there", run(DATA / "ddp.tar", tmp / "x", "--key", "state_dict"), 1, "'model_state_dict'")
    expect("a prefix that is not there", run(DATA / "ddp.tar", tmp / "x", "--strip", "modul."), 1, "'modul.'", "--list")
    expect("nothing to keep", run(DATA / "ddp.tar", tmp / "x", "--keep", "encoder."), 1, "'encoder.'")
    expect("tensors that are not read", run(DATA / "sparse.pt", tmp / "x"), 1, "'sparse'", "--drop sparse")
    expect("are left out on request", run(DATA / "sparse.pt", tmp / "sparse", "--drop", "sparse"), 0, "2 tensors")
    rules.write_text("stem. => x\n")
    expect("a bad rule", run(DATA / "ddp.tar", tmp / "x", "--rename", rules), 1, "rules.txt:1", "->")
    rules.write_text("module.stem. -> module.head.\n")
    expect("two tensors of one name", run(DATA / "ddp.tar", tmp / "x", "--rename", rules), 1, "two tensors become")
    expect("no such file", run(tmp / "nowhere.pt", tmp / "x"), 1, "nowhere.pt")
    (tmp / "page.pt").write_text("<!DOCTYPE html>")
    expect("a web page", run(tmp / "page.pt", tmp / "x"), 1, "web page")
    (tmp / "cut.pt").write_bytes((DATA / "ddp.tar").read_bytes()[:3000])
    expect("a truncated file", run(tmp / "cut.pt", tmp / "x"), 1, "truncated")
    expect("no folder to write to", run(DATA / "ddp.tar", tmp / "no" / "x"), 1, "create its folder")
    same("no failure left a file", [p.name for p in tmp.iterdir() if p.name in ("x", "none") or p.name.startswith(".")], [])

    (tmp / "torch").mkdir()
    compare_with_torch(tmp / "torch")

checks.end()
