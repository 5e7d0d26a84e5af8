# SPDX-License-Identifier: Apache-2.0
# What machine this is, how busy others keep it, and waiting until they do not.
import os
import pathlib
import platform
import subprocess
import time

FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


def describe():
    """Processor, features, caches, memory, compiler: what a reader needs to judge the numbers."""
    info = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        info.setdefault(key.strip(), value.strip())
    flags = set(info.get("flags", "").split())
    lscpu = subprocess.run(["lscpu"], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    caches = {k.split()[0]: v.strip() for k, _, v in (l.partition(":") for l in lscpu.stdout.splitlines())
              if "cache" in k and v.strip()}
    memory = int(pathlib.Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]) * 1024
    compiler = subprocess.run(["c++", "--version"], capture_output=True, text=True, check=False).stdout.splitlines()
    return {"processor": info.get("model name", platform.machine()),
            "family_model": f"{info.get('cpu family', '?')}/{info.get('model', '?')}",
            "processors": len(os.sched_getaffinity(0)), "features": [f for f in FEATURES if f in flags],
            "caches": caches, "memory_GiB": round(memory / 2**30, 1), "system": platform.platform(),
            "compiler": compiler[0] if compiler else "none"}


def busy_seconds():
    """Processor seconds of all processes since the machine started, idling and waiting for disks left out."""
    fields = [int(f) for f in pathlib.Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:8]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


class Neighbours:
    """How many processors processes other than this one and its children of the comparison keep busy."""

    def __init__(self):
        self.start, self.busy, self.own = time.perf_counter(), busy_seconds(), time.process_time()

    def processors(self, children=0.0):
        wall = time.perf_counter() - self.start
        own = time.process_time() - self.own + children
        return max(0.0, (busy_seconds() - self.busy - own) / wall) if wall > 0 else 0.0


def wait_for_idle(most):
    """Waits until others use less than a tenth of a processor, at most so many seconds. Gives the seconds waited."""
    start = time.perf_counter()
    while time.perf_counter() - start < most:
        others = Neighbours()
        time.sleep(0.3)
        if others.processors() < 0.1:
            break
    return time.perf_counter() - start
