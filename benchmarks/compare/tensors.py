# SPDX-License-Identifier: Apache-2.0
# Arrays of float32 in safetensors files, and insula's worker process that reads and writes them.
import json
import os
import pathlib
import struct
import subprocess
import tempfile

import numpy as np


def save(path, arrays):
    header, at = {}, 0
    for name, a in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for a in arrays.values():
            f.write(np.ascontiguousarray(a, dtype="<f4").tobytes())


def load(path):
    data = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    return {name: np.frombuffer(data, "<f4", int(np.prod(t["shape"])), 8 + size + t["data_offsets"][0]).reshape(t["shape"])
            for name, t in header.items() if name != "__metadata__"}


class Worker:
    """compare_worker: one task at a time, run when asked, so that two programs can take turns."""

    def __init__(self, program, threads):
        self.threads = threads
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        reply = json.loads(line) if line else {"error": "compare_worker ended"}
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply

    def make(self, task, inputs):
        path = os.path.join(self.folder.name, "in.safetensors")
        save(path, inputs)
        self.ask(do="make", threads=self.threads, inputs=path, task=task)
        os.remove(path)

    def run(self, times=1, wakes=False):
        return self.ask(do="run", times=times, wakes=wakes)

    def results(self):
        path = os.path.join(self.folder.name, "out.safetensors")
        self.ask(do="save", file=path)
        arrays = load(path)
        os.remove(path)
        return arrays

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()
