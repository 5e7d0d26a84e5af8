# SPDX-License-Identifier: Apache-2.0
# Measures what translation units cost to compile and compares with the budgets.
# Usage: measure.py [--out FILE.json] [--runs N] [--compiler g++] [--front-end-only]
#
# Time is the processor time of the compiler (user), the least of N runs, for the machine may be busy; memory is its largest
# resident size. -fsyntax-only is the front end, -O2 -c adds code generation. Machines differ, and a busy one is slower, so the
# same is measured of a yardstick, a unit with <string> and <vector> alone, in turn with the others: the budgets, in seconds,
# are for a machine that needs 0.17 s for it. Others on the machine only add time, and in bursts: where a budget is exceeded,
# yardstick and units run again, up to 20 times, and the least of all runs counts. Exit status 1 if a budget is exceeded then.
import argparse
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
BUDGETS = {"header": 0.6, "vit": 2.0, "swin": 3.0, "unet": 3.0}  # seconds of the front end
YARDSTICK = 0.17  # seconds, on the machine of the budgets
MOST_RUNS = 20


def once(command):
    """Processor seconds and MiB of one run; a child of its own, so that its largest size is its own."""
    pid = os.fork()
    if pid == 0:
        run = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        os.write(REPORT[1], json.dumps([run.returncode, used.ru_utime, used.ru_maxrss]).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    code, seconds, size = json.loads(os.read(REPORT[0], 4096))
    if code:
        sys.exit(f"measure: {' '.join(command)} failed")
    return seconds, size / 1024


def least(command, runs):
    results = [once(command) for _ in range(runs)]
    return round(min(r[0] for r in results), 3), round(max(r[1] for r in results), 1)


def front_ends(base, yardstick, runs):
    """Least seconds of the yardstick and of each unit, run in turn; on past `runs` while a budget is exceeded."""
    sources = {"yardstick": str(yardstick)} | {name: str(HERE / f"{name}.cpp") for name in BUDGETS}
    seconds = dict.fromkeys(sources, float("inf"))
    for done in range(max(runs, MOST_RUNS)):
        if done >= runs and not over_budget(seconds):
            break
        for name, source in sources.items():
            seconds[name] = min(seconds[name], once([*base, "-fsyntax-only", source])[0])
    return seconds


def over_budget(seconds):
    scale = seconds["yardstick"] / YARDSTICK
    return [name for name, budget in BUDGETS.items() if seconds[name] > budget * scale]


REPORT = os.pipe()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--front-end-only", action="store_true")
    options = parser.parse_args()
    base = [options.compiler, "-std=c++20", "-I", str(HERE.parent.parent / "include"), "-I", str(HERE)]
    version = subprocess.run([options.compiler, "--version"], capture_output=True, text=True, check=True).stdout
    result = {"compiler": version.splitlines()[0], "machine": platform.machine(), "runs": options.runs,
              "load": round(os.getloadavg()[0], 2), "units": {}}
    with tempfile.TemporaryDirectory() as folder:
        yardstick = pathlib.Path(folder) / "yardstick.cpp"
        yardstick.write_text("#include <string>\n#include <vector>\n", encoding="utf-8")
        seconds = front_ends(base, yardstick, options.runs)
        exceeded = over_budget(seconds)
        scale = seconds["yardstick"] / YARDSTICK
        result["yardstick_s"] = round(seconds["yardstick"], 3)
        print(f"the yardstick takes {seconds['yardstick']:.2f} s: budgets are multiplied by {scale:.2f}")
        for name, budget in BUDGETS.items():
            front, budget = round(seconds[name], 3), round(budget * scale, 2)
            result["units"][name] = {"front_end_s": front, "budget_s": budget}
            line = f"{name:8} front end {front:5.2f} s of {budget} s"
            if not options.front_end_only:
                source = str(HERE / f"{name}.cpp")
                all_of_it, memory = least([*base, "-O2", "-c", source, "-o", f"{folder}/unit.o"], options.runs)
                result["units"][name] |= {"o2_s": all_of_it, "memory_mib": memory}
                line += f", with -O2 -c {all_of_it:5.2f} s, {memory:4.0f} MiB"
            print(line + ("   OVER BUDGET" if name in exceeded else ""))
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
