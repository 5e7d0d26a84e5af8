# SPDX-License-Identifier: Apache-2.0
# Compares what kernels and networks cost with a manifest: instructions (callgrind), scratch bytes, allocations of a repeated
# call, byte budgets. It fails if one is larger; smaller ones are told. Nothing depends on the clock or on what else the machine does.
#   check.py PROGRAM MANIFEST [--update]
# Without valgrind the instructions are left out (exit status 77 if all the rest agrees). --update writes the manifest.
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TOLERANCE = 0.03  # of an instruction count: libraries' copies and allocations differ a little between systems
SKIPPED = 77


def under_callgrind(program):
    """The program's report, with the instructions of every call of measured()."""
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(["valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=measured",
                              "--dump-after=measured", f"--callgrind-out-file={folder}/out", program],
                             capture_output=True, text=True, check=False)
        if run.returncode:
            sys.exit(f"check: valgrind failed\n{run.stderr}")
        report = json.loads(run.stdout)
        for i, kernel in enumerate(report["kernels"], 1):
            text = pathlib.Path(folder, f"out.{i}").read_text(encoding="utf-8")
            kernel["instructions"] = int(re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE).group(1))
    return report


def differences(found, wanted):
    """(worse, better): one line per number that is larger or smaller than the manifest has it, or in one of both only."""
    worse, better = [], []

    def compare(name, key, new, old, tolerance=0.0):
        if new is None or old is None:
            worse.append(f"{name}: {key} only in {'the program' if old is None else 'the manifest'}")
        elif abs(new - old) > tolerance * old:
            change = f" ({new / old - 1:+.1%})" if old else ""
            (worse if new > old else better).append(f"{name}: {key} is {new}, the manifest has {old}{change}")

    kernels, manifest = ({k["name"]: k for k in r["kernels"]} for r in (found, wanted))
    for name in sorted(kernels.keys() | manifest.keys()):
        new, old = kernels.get(name, {}), manifest.get(name, {})
        for key in ("scratch_bytes", "allocations", "instructions"):
            if key in new or key != "instructions":
                compare(name, key, new.get(key), old.get(key), TOLERANCE if key == "instructions" else 0.0)
    for name in sorted(found["budgets"].keys() | wanted["budgets"].keys()):
        compare(name, "bytes", found["budgets"].get(name), wanted["budgets"].get(name))
    return worse, better


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("manifest", type=pathlib.Path)
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    counted = shutil.which("valgrind") is not None
    if counted:
        report = under_callgrind(options.program)
    else:
        run = subprocess.run([options.program], capture_output=True, text=True, check=True)
        report = json.loads(run.stdout)
    if options.update:
        if not counted:
            sys.exit("check: --update needs valgrind")
        lines = [json.dumps(k) for k in report["kernels"]]
        text = '{\n"kernels": [\n' + ",\n".join(lines) + '\n],\n"budgets": ' + json.dumps(report["budgets"], indent=1) + "\n}\n"
        options.manifest.write_text(text, encoding="utf-8")
        return 0
    worse, better = differences(report, json.loads(options.manifest.read_text(encoding="utf-8")))
    print("\n".join([*worse, *(f"better: {line}" for line in better)]))
    print(f"cost: {len(report['kernels'])} kernels, {len(report['budgets'])} budgets: {len(worse)} worse, {len(better)} better; "
          f"to take this as the new manifest: python3 {sys.argv[0]} {options.program} {options.manifest} --update")
    if worse:
        return 1
    if not counted:
        print("cost: instructions were not counted, there is no valgrind (Debian: valgrind)")
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
