# SPDX-License-Identifier: Apache-2.0
# Whole training steps of insula and of PyTorch + MONAI: UMBRA's masked modelling and 3D-Neuro-SimCLR, time and memory.
import gc
import math
import pathlib
import time

import numpy as np
import resnet
import tensors
import torch
import umbra
import work
from contest import Rival, array, compiled, largest, relative_errors, say, spread, uniform
from monai.losses import ContrastiveLoss
from torch import nn

UMBRA = "UMBRA SwinMAE, 96^3, batch 1"
SIMCLR = "3D-Neuro-SimCLR, 2 subjects, 4 volumes of 150x192x192"
CELLS = [0, 3, 4, 7, 8, 10, 11, 13, 15, 16, 19, 20, 22, 24, 26]  # hidden, of 27
# PyTorch's gradient in single precision is 2e-4 off that in double, insula's 1e-4: sums over 110592 voxels in group norms.
LIMITS = {"loss": 2e-5, "gradient": 5e-4}
STEP = {"rate": 1e-4, "decay": 0.01, "clip": 10.0}


def umbra_task(**more):
    return {"op": "umbra", "cells": [i in CELLS for i in range(27)], **STEP, **more}


def fused(kind, parameters, **settings):
    """The optimiser of PyTorch in its fastest form that this version has: before 2.4 none is fused on processors."""
    parameters = list(parameters)
    try:
        return kind(parameters, fused=True, **settings)
    except (TypeError, RuntimeError):
        return kind(parameters, foreach=True, **settings)


class UmbraStep:
    """One masked modelling step as its users write it. No checkpoint of activations: what is fastest. UMBRA's own setting
    trades time for memory."""

    def __init__(self, x, checkpoints=False, compiles=False):
        torch.manual_seed(1)
        self.x, self.network = x, umbra.SwinMAE(checkpoints=checkpoints)
        self.function = compiled(self.network) if compiles else self.network
        self.optimizer = fused(torch.optim.AdamW, self.network.parameters(), lr=STEP["rate"], weight_decay=STEP["decay"])
        self.cells = torch.tensor([i in CELLS for i in range(27)]).view(3, 3, 3)
        self.loss = self.norm = None

    def run(self):
        self.optimizer.zero_grad(set_to_none=True)
        loss = umbra.masked_loss(self.function(self.x, self.cells), self.x, self.cells)
        loss.backward()
        self.norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), STEP["clip"]).detach())
        self.optimizer.step()
        self.loss = float(loss.detach())

    def result(self):
        """The loss, the norm of the gradient, and the gradient before it was clipped."""
        clipped = min(1.0, STEP["clip"] / (self.norm + 1e-6))
        flat = [array(p.grad).ravel() / clipped for p in self.network.parameters()]
        return {"loss": np.array([self.loss, self.norm], np.float32), "gradient": np.concatenate(flat)}


def joined(names):
    """Of the worker's results the loss, and the gradient in the order of PyTorch's tensors."""
    return lambda out: {"loss": out["loss"], "gradient": np.concatenate([out["gradient." + n].ravel() for n in names])}


class Translated:
    """A worker whose results are translated."""

    def __init__(self, worker, translate):
        self.worker, self.translate = worker, translate

    def results(self):
        return self.translate(self.worker.results())

    def __getattr__(self, name):
        return getattr(self.worker, name)


def umbra_step(contest, options):
    if not contest.wants("step", UMBRA):
        return
    x = uniform(1, 1, 96, 96, 96, seed=1) * 1.7
    steps = [("PyTorch + MONAI", UmbraStep(x))]
    if options.compile == "all":
        steps.append(("PyTorch + MONAI, compiled", UmbraStep(x, compiles=True)))
    network = steps[0][1].network
    inputs = {"x": array(x), **{"model." + n: array(p).copy() for n, p in network.named_parameters()}}
    with torch.no_grad():  # another network would learn beside the one that is timed
        count = work.Convolutions(counted := umbra.SwinMAE(), nn.Conv3d)
        counted(x, steps[0][1].cells)
        del counted
    rivals = [Rival(name, s.run, s.result, LIMITS, s.function is not s.network) for name, s in steps]
    plain = contest.worker
    contest.worker = Translated(plain, joined([n for n, _ in network.named_parameters()]))
    try:
        contest.hold("step", UMBRA, work.umbra(count), umbra_task(), inputs, rivals, LIMITS)
    finally:
        contest.worker = plain


def status_bytes(key):
    for line in pathlib.Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def resident():
    """Bytes now; the largest size counts from here."""
    gc.collect()
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return status_bytes("VmRSS")


def memory(options):
    """Resident bytes of two steps of UMBRA beyond what the process held before the network was built: the second has the
    optimiser's moments from its beginning."""
    if options.memory == "insula":
        worker = tensors.Worker(options.worker, options.threads)
        worker.make(umbra_task(initialise=True), {"x": array(uniform(96, 96, 96, seed=1))})
        worker.run(2)
        used = worker.ask(do="memory")
        worker.close()
    else:
        base = resident()
        step = UmbraStep(uniform(1, 1, 96, 96, 96, seed=1), checkpoints=options.memory == "checkpoint")
        for _ in range(2):
            step.run()
        used = {"base": base, "peak": status_bytes("VmHWM")}
    name = {"insula": "insula", "eager": "PyTorch + MONAI", "checkpoint": "PyTorch + MONAI, activation checkpoints"}
    say(group="memory", case=UMBRA, rival=name[options.memory], threads=options.threads,
        bytes=used["peak"] - used["base"], **used)
    return 0


def simclr_error(worker, task):
    """How far insula's loss and gradients are from PyTorch's in double precision, on a small volume. A ReLU whose input rounding
    moves across zero changes the gradients by up to percents, in any program; that is rare, and what is wrong is wrong for all
    inputs: the best of three draws counts."""
    best = math.inf
    for draw in range(3):
        torch.manual_seed(draw)
        network = resnet.SimCLR()
        views = [uniform(2, 1, 22, 26, 24, seed=10 * draw + s) for s in (1, 2)]
        inputs = {"view1": array(views[0]), "view2": array(views[1]),
                  **{"model." + n: array(p).copy() for n, p in network.named_parameters()}}
        network.double()
        loss = ContrastiveLoss(temperature=0.5)(*(network(v.double()) for v in views))
        loss.backward()
        reference = {"loss": loss.detach().numpy().reshape(1),
                     "gradient": np.concatenate([p.grad.numpy().ravel() for p in network.parameters()])}
        worker.make({**task, "volume": "small"}, inputs)
        worker.run(1)
        translate = joined([n for n, _ in network.named_parameters()])
        best = min(best, largest(relative_errors(translate(worker.results()), reference)))
        if best <= 1e-4:
            break
    return best


def stopwatch(f):
    wall, cpu = time.perf_counter(), time.process_time()
    f()
    return time.perf_counter() - wall, time.process_time() - cpu


def simclr(options):
    """Agreement on a small volume; then one step of insula on four volumes of the published size: two views of two subjects as two
    passes, NT-Xent, backward, Adam. PyTorch's four do not fit into the memory of most machines: one volume forward and backward is
    measured, and four times that with one step of Adam counts as its step."""
    worker = tensors.Worker(options.worker, options.threads)
    task = {"op": "simclr", "subjects": 2, "rate": 3e-4}
    error = simclr_error(worker, task)

    base = resident()
    network, x = resnet.SimCLR(), uniform(1, 1, 150, 192, 192, seed=3)
    optimizer = fused(torch.optim.Adam, network.parameters(), lr=task["rate"])
    count = work.Convolutions(network, nn.Conv3d)
    one = stopwatch(lambda: network(x).square().sum().backward())
    count.remove()
    peak = status_bytes("VmHWM") - base
    adam = stopwatch(optimizer.step)
    del network, optimizer
    gc.collect()
    views = {v: array(uniform(2, 150, 192, 192, seed=s)) for v, s in (("view1", 4), ("view2", 5))}
    worker.make({**task, "volume": "paper", "initialise": True}, views)
    own = worker.run(1)
    used = worker.ask(do="memory")
    worker.close()

    agrees = error <= 1e-4
    needs = work.needs(4 * count.all, 0, count.all / count.least)
    theirs = "PyTorch + MONAI, 4 x one volume"
    for rival, wall, cpu in ((theirs, 4 * one[0] + adam[0], 4 * one[1] + adam[1]), ("insula", own["wall"], own["cpu"])):
        say(group="simclr", case=SIMCLR, rival=rival, threads=options.threads, error=error if rival == "insula" else 0.0,
            agrees=agrees or rival != "insula", repetitions=1, wall_s=spread([wall]), cpu_s=spread([cpu]), **needs, others=0.0,
            waited_s=0.0)
    for rival, size in ((theirs, 4 * peak), ("insula", used["peak"] - used["base"])):
        say(group="memory", case=SIMCLR, rival=rival, threads=options.threads, bytes=size)
    return 0 if agrees else 1
