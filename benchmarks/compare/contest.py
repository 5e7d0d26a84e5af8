# SPDX-License-Identifier: Apache-2.0
# A contest of insula against PyTorch: agreement first, then times in turn, and the lines of JSON that report both.
import contextlib
import json
import math
import signal
import time

import machine
import numpy as np
import tensors
import torch

SHORTEST = 5e-3  # seconds of one repetition, many times the clocks' resolution
LONG = 0.2  # seconds after which once is enough to know how long something takes
VERY_LONG = 8.0  # seconds from which one repetition after the first is enough if time is short
MOST = 25


class OutOfTime(BaseException):  # no Exception: the compiler catches those and goes on without
    pass


@contextlib.contextmanager
def at_most(seconds):
    """Raises OutOfTime after so many seconds, in Python code or in a program it waits for."""

    def stop(*_):
        raise OutOfTime(f"not compiled within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Rival:
    """run() computes; result() gives named arrays in insula's layouts. compiled: its first run compiles, and may fail."""

    def __init__(self, name, run, result, limit=1e-5, compiled=False):
        self.name, self.run, self.result, self.limit, self.compiled = name, run, result, limit, compiled


class Passes:
    """The passes over memory that a computation cannot do without, alone, in a process of their own that takes its turns: a bound that
    was measured where insula and its peers were. task: what compare_worker makes."""

    def __init__(self, name, program, threads, task, inputs):
        self.name, self.worker = name, tensors.Worker(program, threads)
        self.worker.make(task, inputs)


def spread(times):
    v = sorted(times)
    at = lambda q: v[int(q * (len(v) - 1) + 0.5)]
    return {"median": (v[(len(v) - 1) // 2] + v[len(v) // 2]) / 2, "q1": at(0.25), "q3": at(0.75), "least": v[0]}


def wait_for_own_threads():
    """Until PyTorch's threads no longer spin: OpenMP's do for up to some 15 ms after their work, on a processor that insula needs."""
    for _ in range(20):
        start = time.process_time()
        time.sleep(5e-3)
        if time.process_time() - start < 5e-4:
            return


def relative_errors(out, reference):
    """||out - ref|| / ||ref|| of the named arrays."""
    errors = {}
    for name, ref in reference.items():
        a, b = np.asarray(out[name], np.float64).ravel(), np.asarray(ref, np.float64).ravel()
        if a.size != b.size:
            raise ValueError(f"{name}: {a.size} elements, the reference has {b.size}")
        errors[name] = float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))
    return errors


def largest(errors):
    return max(errors.values(), key=lambda e: math.inf if math.isnan(e) else e)


def within(errors, limit):
    """Whether all are; limit: one number, or one for each name. NaN never is."""
    return all(e <= (limit[n] if isinstance(limit, dict) else limit) for n, e in errors.items())


def say(**line):
    print(json.dumps(line), flush=True)


class Contest:
    def __init__(self, options, worker):
        self.options, self.worker, self.disagreements = options, worker, 0

    def wants(self, group, name):
        """Whether to hold a contest. What there is no time for is told in a line of JSON."""
        o = self.options
        if (o.group and group not in o.group) or o.filter not in f"{group}/{name}":
            return False
        if o.until <= 0 or time.time() < o.until:
            return True
        say(group=group, case=name, threads=o.threads, left_out="out of time")
        return False

    def timed(self, rival, times, wakes=False):
        """Time on the wall, processor time, and all of a worker's processor time. If it wakes threads, a run comes before the clock."""
        if rival is None or isinstance(rival, Passes):
            t = (rival or self).worker.run(times, wakes)
            return t["wall"], t["cpu"], t["before"] + t["cpu"]
        if wakes:
            rival.run()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            rival.run()
        return time.perf_counter() - wall, time.process_time() - cpu, 0.0

    def entries(self, group, name, task, inputs, rivals, limit):
        """Runs every rival once: [rival or None for insula, name, largest error, whether all are within the limit,
        seconds of that run]."""
        o = self.options
        reference, entries = None, []
        for r in rivals:
            try:
                with at_most(o.compile_seconds) if r.compiled else contextlib.nullcontext():
                    first = self.timed(r, 1)[0]
            except (Exception, OutOfTime) as error:  # pylint: disable=broad-except
                if not r.compiled:
                    raise
                text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                say(group=group, case=name, threads=o.threads, rival=r.name, left_out=text)
                continue
            out = r.result()
            reference = reference or out
            errors = relative_errors(out, reference)
            entries.append([r, r.name, largest(errors), within(errors, r.limit), first])
        self.worker.make(task, inputs)
        first = self.timed(None, 1)[0]
        errors = relative_errors(self.worker.results(), reference)
        entries.append([None, "insula", largest(errors), within(errors, limit), first])
        return entries

    def hold(self, group, name, needs, task, inputs, rivals, limit=1e-5, passes=()):
        """The first rival is the reference of agreement; insula is one more rival, in its own process. needs: what the
        computation cannot do without, see work.py. passes: tasks that only pass over memory, by name, run as often at a time as
        insula."""
        o = self.options
        entries = self.entries(group, name, task, inputs, rivals, limit)
        alone = [Passes(n, o.worker, o.threads, t, inputs) for n, t in passes]
        entries[-1:-1] = [[p, p.name, 0.0, True, self.timed(p, 1)[0]] for p in alone]
        records = []
        for rival, _, _, _, wall in entries:
            if wall < LONG or (rival and rival.compiled):  # the first time compiles, maps memory, fills caches
                wall = self.timed(rival, 1)[0]
            fewest = 1 if wall > VERY_LONG and o.fewest < 4 else o.fewest
            inner = max(1, min(100000, int(SHORTEST / max(wall, 1e-7)) + 1))
            wakes = o.threads > 1 and wall < LONG  # threads that slept would cost it much: a call before the clock wakes them
            records.append({"inner": inner, "fewest": fewest, "wakes": wakes, "wall": [], "cpu": []})
        for entry, r in zip(entries, records):
            if isinstance(entry[0], Passes):
                r["inner"], r["wakes"] = records[-1]["inner"], records[-1]["wakes"]  # insula's
        waited = machine.wait_for_idle(o.wait) if o.wait > 0 else 0.0
        others, worker_cpu, turn, again = machine.Neighbours(), 0.0, 0, True
        while again:
            again = False
            for k in range(len(entries)):
                i = (k + turn) % len(entries)
                r = records[i]
                used = sum(r["wall"]) * r["inner"]
                if len(r["wall"]) >= MOST or (len(r["wall"]) >= r["fewest"] and used >= o.seconds):
                    continue
                if o.threads > 1:
                    wait_for_own_threads()
                wall, cpu, in_worker = self.timed(entries[i][0], r["inner"], r["wakes"])
                worker_cpu += in_worker
                r["wall"].append(wall / r["inner"])
                r["cpu"].append(cpu / r["inner"])
                again = True
            turn += 1
        busy = others.processors(worker_cpu)
        for p in alone:
            p.worker.close()
        for (_, rival, error, agrees, _), r in zip(entries, records):
            self.disagreements += rival == "insula" and not agrees
            say(group=group, case=name, rival=rival, threads=o.threads, error=error, agrees=agrees,
                repetitions=len(r["wall"]), wall_s=spread(r["wall"]), cpu_s=spread(r["cpu"]), **needs, others=busy,
                waited_s=waited)


def array(t):
    return t.detach().to(torch.float32).contiguous().numpy()


def uniform(*shape, seed):
    return torch.empty(shape).uniform_(-1, 1, generator=torch.Generator().manual_seed(seed))


def leaves(**operands):
    return {n: t.clone().requires_grad_() for n, t in operands.items()}


def keep(t):
    return t


def transposed(t):
    return t.T


def channels_last(t):  # (1, C, D, H, W) to insula's (D, H, W, C)
    return t[0].permute(1, 2, 3, 0)


def compiled(f):
    return torch.compile(f, dynamic=False)


class Module:
    """A function of tensors, forward alone or with the gradients of all of them, as a rival."""

    def __init__(self, function, operands, gradient=None, outputs=None, output="y"):
        self.function, self.operands, self.gradient = function, operands, gradient
        self.outputs = outputs or {}  # name of a gradient: how it becomes insula's layout
        self.output, self.value, self.gradients = output, None, {}

    def run(self):
        if self.gradient is None:
            with torch.no_grad():
                self.value = self.function(**self.operands)
            return
        wanted = [name for name in self.operands if "g" + name in self.outputs]
        y = self.function(**self.operands)
        grads = torch.autograd.grad(y, [self.operands[n] for n in wanted], self.gradient)
        self.value, self.gradients = y, dict(zip(wanted, grads))

    def result(self):
        forward = self.outputs.get(self.output, lambda t: t)
        out = {self.output: array(forward(self.value))}
        for name, g in self.gradients.items():
            out["g" + name] = array(self.outputs["g" + name](g))
        return out

    def rival(self, name, limit=1e-5, compiles=False):
        return Rival(name, self.run, self.result, limit, compiles)
