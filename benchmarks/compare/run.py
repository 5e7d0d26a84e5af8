# SPDX-License-Identifier: Apache-2.0
# The whole comparison in one command: builds, runs insula against oneDNN, OpenBLAS, Eigen, PyTorch and MONAI, and writes
# benchmarks/results/NAME.json and the tables of docs/performance.md.
#   python3 benchmarks/compare/run.py [--quick] [--isa native|avx2] [--wait SECONDS] [--only libraries|pytorch|memory]
#                                     [--group NAME]... [--python PYTHON] [--name NAME] [--no-table]
# Needs libdnnl-dev and libopenblas-dev for the libraries, and for PyTorch an environment of its own:
#   python3 -m venv /opt/peers && /opt/peers/bin/pip install torch monai einops numpy
# What is missing is left out, and said. Nothing else should run meanwhile; --wait bounds how long each contest waits for that.
import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import time

import machine
import table

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Held to AVX2: oneDNN by both its names of the variable, ATen, MKL and OpenBLAS by theirs.
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}


def build(isa):
    folder = ROOT / "build" / ("compare" if isa == "native" else "compare-avx2")
    flags = [] if isa == "native" else ["-DINSULA_NATIVE=OFF", "-DCMAKE_CXX_FLAGS=-march=x86-64-v3"]
    subprocess.run(["cmake", "--preset", "bench", "-B", folder, *flags], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", "compare_worker"], cwd=ROOT, check=True)
    programs = folder / "benchmarks" / "compare"
    has = subprocess.run(["cmake", "--build", folder, "--target", "compare_libraries"], cwd=ROOT, check=False,
                         capture_output=True, text=True)
    if has.returncode and "unknown target" not in has.stderr + has.stdout:
        sys.exit(has.stdout + has.stderr)
    return programs / "compare_worker", None if has.returncode else programs / "compare_libraries"


def run(command, environment, source):
    """The JSON lines of a program, each with where it came from, and its exit status."""
    print("+", " ".join(str(c) for c in command), flush=True)
    start = time.perf_counter()
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, env=environment, check=False)
    lines = [{**json.loads(l), "source": source} for l in done.stdout.splitlines() if l.startswith("{")]
    print(f"  {len(lines)} lines in {time.perf_counter() - start:.0f} s, exit status {done.returncode}", flush=True)
    return lines, done.returncode


def commit():
    describe = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False)
    return describe.stdout.strip() or "unknown"


def peers_of(lines):
    parts = []
    for l in lines:
        if l.get("program") == "compare_libraries" and l["threads"] == 1:
            parts.append(f"oneDNN {l['oneDNN']}, {l['OpenBLAS']}, Eigen {l['Eigen']}")
        if l.get("program") == "peers.py" and l["threads"] == 1:
            onednn = next((b.strip(" -") for b in l["build"] if "MKL-DNN" in b or "oneDNN" in b), "")
            parts.append(f"PyTorch {l['PyTorch']} ({onednn}; {l['capability']}), MONAI {l['MONAI']}"
                         + f"; compiled: {l['compiled']} cases")
    return "; ".join(parts) or "no peers"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, few cases of torch.compile: a quarter of an hour")
    parser.add_argument("--isa", choices=("native", "avx2"), default="native")
    parser.add_argument("--wait", type=float, default=5, help="most seconds to wait for an idle machine, per contest")
    parser.add_argument("--only", choices=("libraries", "pytorch", "memory"))
    parser.add_argument("--python", default="/opt/peers/bin/python")
    parser.add_argument("--name", default=None)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--group", action="append", default=[], help="only these rows, see table.py")
    parser.add_argument("--no-table", action="store_true")
    options = parser.parse_args()

    description = machine.describe()
    print(json.dumps(description, indent=1))
    worker, libraries = build(options.isa)
    environment = dict(os.environ)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "insula-compare"
    environment.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))  # a second run compiles little
    if options.isa == "avx2":
        environment.update(AVX2)
    has_torch = subprocess.run([options.python, "-c", "import torch"], env=environment, capture_output=True,
                               check=False).returncode == 0 if pathlib.Path(options.python).exists() else False
    if not has_torch:
        print(f"run: {options.python} has no PyTorch, its half is left out; see the head of {HERE / 'run.py'}")
    if libraries is None:
        print("run: no compare_libraries (libdnnl-dev, libopenblas-dev), its half is left out")
    waited = machine.wait_for_idle(60 if options.wait > 0 else 0)
    print(f"waited {waited:.0f} s for an idle machine")

    seconds = ["--seconds", 0.15 if options.quick else 0.4, "--wait", options.wait, "--fewest",
               2 if options.quick else 3]
    for group in options.group:
        seconds += ["--group", group]
    lines, failed, others = [], 0, machine.Neighbours()
    for threads in options.threads:
        count = ["--threads", threads]
        if libraries and options.only in (None, "libraries"):
            more, status = run([libraries, *count, *seconds], environment, "libraries")
            lines, failed = lines + more, failed or status
        if has_torch and options.only in (None, "pytorch"):
            compiled = "all" if not options.quick else "few" if threads == 1 else "none"
            flags = ["--compile", compiled]
            more, status = run([options.python, HERE / "peers.py", "--worker", worker, *count, *seconds, *flags],
                               environment, "PyTorch")
            lines, failed = lines + more, failed or status
    if has_torch and options.only in (None, "memory") and not options.group:
        for what in ("insula", "eager", "checkpoint"):
            more, status = run([options.python, HERE / "peers.py", "--worker", worker, "--memory", what], environment,
                               "PyTorch")
            lines, failed = lines + more, failed or status

    contests = {(l["source"], l["threads"], l["group"], l["case"]): l["others"] for l in lines if "others" in l}
    name = options.name or f"{description['processor']}-{options.isa}".lower().replace(" ", "-")
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    data = {"date": datetime.date.today().isoformat(), "commit": commit(), "machine": description, "isa": options.isa,
            "file": str(path.relative_to(ROOT)), "peers": peers_of(lines),
            "others": sum(contests.values()) / max(1, len(contests)), "lines": lines}
    path.parent.mkdir(exist_ok=True)
    text = json.dumps({k: v for k, v in data.items() if k != "lines"}, indent=1)[:-2]
    text += ',\n "lines": [\n  ' + ",\n  ".join(json.dumps(rounded(l)) for l in lines) + "\n ]\n}\n"
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")
    if not options.no_table and options.only is None and not options.group:
        subprocess.run([sys.executable, HERE / "table.py", path, "--into", ROOT / "docs" / "performance.md"], check=True)
    else:
        print(table.markdown(data))
    return 1 if failed else 0


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return value


if __name__ == "__main__":
    sys.exit(main())
