# SPDX-License-Identifier: Apache-2.0
# The whole comparison in one command: builds, runs insula against oneDNN, OpenBLAS, Eigen, PyTorch and MONAI, and writes
# benchmarks/results/NAME.json and the tables of docs/performance.md.
#   python3 benchmarks/compare/run.py [--quick] [--budget SECONDS] [--only GROUP,...] [--threads N...] [--fresh]
#                                     [--isa native|avx2] [--wait SECONDS] [--python PYTHON] [--name NAME] [--no-table]
# --only measures some groups (see GROUPS below) and keeps what the file says about the others, each with its date and commit,
# so that a long comparison can be made in parts; --fresh forgets everything first. --budget: contests that would begin later
# keep their older result, and are named. A second run waits for the first one to end.
# Needs libdnnl-dev and libopenblas-dev for the libraries, and for PyTorch an environment of its own:
#   python3 -m venv /opt/peers && /opt/peers/bin/pip install torch monai einops numpy
# What is missing is left out, and said. Nothing else should run meanwhile; --wait bounds how long each contest waits for that.
import argparse
import datetime
import fcntl
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import machine
import table

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Held to AVX2: oneDNN by both its names of the variable, ATen, MKL and OpenBLAS by theirs.
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}
# What --only knows: several groups of contests under one word, or a group by its own name.
GROUPS = {"conv": ["conv3", "conv3_wide", "conv_other", "depthwise", "conv_torch"], "linear": ["linear", "linear_gelu"],
          "mlp": ["mlp", "mlp_step"], "window": ["window_forward", "window_step"], "attention": ["attention"],
          "norm": ["norm", "norm_alone"], "losses": ["info_nce"], "update": ["update"], "augment": ["augment"],
          "step": ["step", "memory"], "simclr": ["simclr"]}
EVERYTHING = ",".join(GROUPS)
LIBRARIES = {"conv3", "conv3_wide", "conv_other", "depthwise", "linear", "linear_gelu", "mlp"}
ALL = {g for groups in GROUPS.values() for g in groups}
PYTORCH = ALL - {"conv3", "conv3_wide", "conv_other", "depthwise", "memory", "simclr"}


def build(isa):
    """(worker, ceilings, libraries or None)"""
    folder = ROOT / "build" / ("compare" if isa == "native" else "compare-avx2")
    flags = [] if isa == "native" else ["-DINSULA_NATIVE=OFF", "-DCMAKE_CXX_FLAGS=-march=x86-64-v3"]
    subprocess.run(["cmake", "--preset", "bench", "-B", folder, *flags], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", "compare_worker", "compare_ceilings"], cwd=ROOT, check=True)
    programs = folder / "benchmarks" / "compare"
    has = subprocess.run(["cmake", "--build", folder, "--target", "compare_libraries"], cwd=ROOT, check=False,
                         capture_output=True, text=True)
    if has.returncode and "unknown target" not in has.stderr + has.stdout:
        sys.exit(has.stdout + has.stderr)
    return programs / "compare_worker", programs / "compare_ceilings", None if has.returncode else programs / "compare_libraries"


class Part:
    """One program of the comparison on some threads. weight: its share of a budget, in seconds of --quick."""

    def __init__(self, source, weight, *command):
        self.source, self.weight, self.command = source, weight, [str(c) for c in command]

    def run(self, environment, until):
        """(lines of JSON, exit status, seconds per group); shows every contest when it has ended."""
        command = [*self.command, *(["--until", f"{until:.0f}"] if until else [])]
        print("+", " ".join(command), flush=True)
        start = before = time.perf_counter()
        lines, seconds, source = [], {}, self.source
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            for text in process.stdout:
                if not text.startswith("{"):
                    print(text, end="", flush=True)
                    continue
                line = json.loads(text)
                if "PyTorch" in line:  # versions are peers of their own
                    source = "PyTorch " + ".".join(line["PyTorch"].split(".")[:2])
                lines.append({**line, "source": source})
                now = time.perf_counter()
                group = line.get("group", "start")
                seconds[group] = seconds.get(group, 0.0) + now - before
                before = now
                show(lines)
        print(f"  {len(lines)} lines in {time.perf_counter() - start:.0f} s, exit status {process.returncode}", flush=True)
        return lines, process.returncode, seconds


def show(lines):
    """One line of text for a contest whose last line is insula's."""
    last = lines[-1]
    if "left_out" in last:
        print(f"  {last['group']}: {last['case']}: {last.get('rival', 'all')} left out, {last['left_out']}", flush=True)
    if last.get("rival") != "insula" or "wall_s" not in last:
        return
    same = [l for l in lines if l.get("case") == last["case"] and l["group"] == last["group"] and l.get("agrees")
            and "wall_s" in l and l is not last]
    best = min(same, key=table.seconds, default=None)
    text = f", {best['rival']} {1e3 * table.seconds(best):.3g} ms" if best else ""
    print(f"  {last['group']}: {last['case']}: insula {1e3 * table.seconds(last):.3g} ms{text}", flush=True)


def commit():
    """The commit, and whether what is measured differs from it."""
    git = lambda *a: subprocess.run(["git", *a], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    dirty = git("status", "--porcelain", "--untracked-files=no", "--", "include", "cmake", "benchmarks/compare")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if dirty else "")


def peers_of(lines):
    parts = {}
    for l in lines:
        if l.get("program") == "compare_libraries":
            parts["libraries"] = f"oneDNN {l['oneDNN']}, {l['OpenBLAS']}, Eigen {l['Eigen']}"
        if l.get("program") == "peers.py":
            onednn = next((b.strip(" -") for b in l["build"] if "MKL-DNN" in b or "oneDNN" in b), "")
            parts[l["source"]] = f"PyTorch {l['PyTorch']} ({onednn}; {l['capability']}), MONAI {l['MONAI']}"
    return list(parts.values())


def key(line):
    return line["source"], line["threads"], line["group"], line["case"]


def merge(data, record, lines):
    """The earlier results, those measured anew replaced. Runs nothing is left of are forgotten."""
    measured = {key(l) for l in lines if "wall_s" in l or "bytes" in l}
    number = len(data["runs"])
    kept = [l for l in data["lines"] if key(l) not in measured]
    fresh = [{**l, "run": number} for l in lines if "group" in l and key(l) in measured]
    runs, every = [*data["runs"], record], kept + fresh
    used = sorted({l["run"] for l in every})
    renumbered = {n: i for i, n in enumerate(used)}
    every = [{**l, "run": renumbered[l["run"]]} for l in every]
    return {**data, "runs": [runs[n] for n in used], "lines": every}


def load(path, description, isa):
    """What the file says, if it is about this machine."""
    empty = {"machine": description, "isa": isa, "file": str(path.relative_to(ROOT)), "runs": [], "lines": []}
    if not path.exists():
        return empty
    data = json.loads(path.read_text(encoding="utf-8"))
    for field in ("processor", "family_model", "processors", "features"):
        if data["machine"][field] != description[field]:
            sys.exit(f"run: {path} is of another machine ({field} {data['machine'][field]}, here {description[field]}): name "
                     "another file by --name, or begin anew by --fresh")
    return data


def save(path, data):
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(rounded({k: v for k, v in data.items() if k != "lines"}), indent=1)[:-2]
    text += ',\n "lines": [\n  ' + ",\n  ".join(json.dumps(rounded(l)) for l in data["lines"]) + "\n ]\n}\n"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


def alone():
    """Waits until no other comparison runs on this machine; the file is to be kept open."""
    lock = open(pathlib.Path(tempfile.gettempdir()) / "insula-compare.lock", "w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("run: waits for another comparison to end", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def parts_of(options, groups, worker, libraries, has_torch):
    """What to run, the most telling first, so that a budget cuts off the rest."""
    how = ["--seconds", 0.15 if options.quick else 0.4, "--wait", options.wait, "--fewest", 3 if options.quick else 4]
    some = lambda known: [f for g in sorted(groups & known) for f in ("--group", g)]
    shorter = {"conv_torch", "norm_alone", "mlp_step"} if options.quick and options.only == EVERYTHING else set()
    peers = [options.python, HERE / "peers.py", "--worker", worker]
    parts = []
    for threads in options.threads:
        one = threads == min(options.threads)
        peer_groups = PYTORCH if one else PYTORCH - shorter
        if libraries and groups & LIBRARIES:
            parts.append(Part("libraries", 140 if one else 100, libraries, "--threads", threads, *how, *some(LIBRARIES)))
        if has_torch and groups & peer_groups:
            compiled = "all" if not options.quick else "few" if one else "none"
            parts.append(Part("PyTorch", 370 if one else 170, *peers, "--threads", threads, *how, "--compile", compiled,
                              "--compile-seconds", 60 if options.quick else 300, *some(peer_groups)))
    most = ["--threads", max(options.threads)]
    if has_torch and "memory" in groups:
        parts += [Part("PyTorch", 30, *peers, *most, "--memory", what) for what in ("insula", "eager", "checkpoint")]
    if has_torch and "simclr" in groups:
        parts.append(Part("PyTorch", 110, *peers, *most, "--simclr"))
    return parts


def measure(options, groups, path, description):
    """Runs the parts and saves after each. Gives the results and whether insula was wrong anywhere."""
    worker, ceilings, libraries = build(options.isa)
    environment = dict(os.environ)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "insula-compare" / options.isa
    environment.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))  # a second run compiles little
    environment.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # idle compilers beside a contest would take its time
    if options.isa == "avx2":
        environment.update(AVX2)
    elif "avx512f" in description["features"]:  # processors younger than OpenBLAS get its oldest kernels
        environment.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    has_torch = pathlib.Path(options.python).exists() and subprocess.run(
        [options.python, "-c", "import torch"], env=environment, capture_output=True, check=False).returncode == 0
    if not has_torch:
        print(f"run: {options.python} has no PyTorch, its half is left out; see the head of {HERE / 'run.py'}")
    if libraries is None:
        print("run: no compare_libraries (libdnnl-dev, libopenblas-dev), its half is left out")
    lock = alone()
    waited = machine.wait_for_idle(60 if options.wait > 0 else 0)
    print(f"run: waited {waited:.0f} s for an idle machine")

    began = time.time()
    before = load(path, description, options.isa) if not options.fresh else load(path.with_suffix(".none"), description,
                                                                                 options.isa)
    before["file"] = str(path.relative_to(ROOT))
    parts, lines, failed, seconds, data = parts_of(options, groups, worker, libraries, has_torch), [], 0, {}, before
    limits = [Part("ceilings", 10, ceilings, t).run(environment, 0)[0][0] for t in options.threads]
    for i, part in enumerate(parts):
        share = part.weight / sum(p.weight for p in parts[i:])
        until = time.time() + (began + options.budget - time.time()) * share if options.budget else 0
        if until and until < time.time():
            print("run: out of time:", " ".join(part.command))
            continue
        more, status, spent = part.run(environment, until)
        lines += more
        failed = failed or status
        seconds.update({g: seconds.get(g, 0.0) + s for g, s in spent.items()})
        contests = {key(l): l["others"] for l in lines if "others" in l}
        record = {"date": datetime.date.today().isoformat(), "commit": commit(), "quick": options.quick,
                  "others": sum(contests.values()) / max(1, len(contests)), "seconds": seconds, "peers": peers_of(lines),
                  "ceilings": [{k: v for k, v in c.items() if k not in ("program", "source")} for c in limits],
                  "left_out": [f"{l['case']}, {l['threads']} threads" for l in lines if "left_out" in l and "rival" not in l]}
        data = merge(before, record, lines)
        save(path, data)
    lock.close()
    print("run: seconds per group:", ", ".join(f"{g} {s:.0f}" for g, s in sorted(seconds.items())))
    print(f"run: {time.time() - began:.0f} s, wrote {path}")
    return data, failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", 
                        help="a quarter of an hour: fewer repetitions, few compiled cases, fewer groups on two threads")
    parser.add_argument("--budget", type=float, default=0, help="seconds after which no contest begins")
    parser.add_argument("--only", default=EVERYTHING, help="groups, separated by commas: " + ", ".join(GROUPS))
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--isa", choices=("native", "avx2"), default="native")
    parser.add_argument("--wait", type=float, default=5, help="most seconds to wait for an idle machine, per contest")
    parser.add_argument("--python", default="/opt/peers/bin/python")
    parser.add_argument("--name", default=None)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-table", action="store_true")
    options = parser.parse_args()
    groups = set()
    for word in options.only.split(","):
        if word not in GROUPS and word not in ALL:
            parser.error(f"no group {word}; there are {', '.join(GROUPS)} and, one by one, {', '.join(sorted(ALL))}")
        groups |= set(GROUPS.get(word, [word]))

    description = machine.describe()
    print(json.dumps(description, indent=1))
    words = re.findall("[a-z0-9.]+", description["processor"].lower().replace("(r)", ""))
    model = description["family_model"].replace("/", "-")  # processors of several generations have one name
    name = options.name or "-".join([*words, model, options.isa])
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    _, failed = measure(options, groups, path, description)
    if not options.no_table:
        table.write()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
