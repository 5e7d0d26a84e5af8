# SPDX-License-Identifier: Apache-2.0
# Times insula against PyTorch and MONAI: same inputs and weights, agreement checked, then in turn.
#   peers.py --worker build/compare/benchmarks/compare/compare_worker [--threads N] [--seconds S] [--wait S]
#            [--group NAME]... [--filter TEXT] [--compile all|few|none] [--fewest N] [--memory PROGRAM]
# Prints one JSON line about the run and one per rival. Exit status 1 if insula disagrees; a
# peer that does is marked, and out of the comparison. --memory insula, eager or
# checkpoint measures the memory of UMBRA's step, in a process that did nothing else before.
import argparse
import contextlib
import json
import math
import os
import pathlib
import re
import sys
import time

import machine
import numpy as np
import tensors
import torch
from torch import nn
from torch.nn import functional as F

try:
    import monai
    import umbra
    from monai.networks.nets.swin_unetr import SwinTransformerBlock, compute_mask
except ImportError as error:
    monai, missing_monai = None, error

SHORTEST = 5e-3  # seconds of one repetition, many times the clocks' resolution
LONG = 0.2  # seconds after which once is enough to know how long something takes
MOST = 25
# Compiling takes minutes: these are the cases of --compile few.
FEW = re.compile(r"^(48\^3 x 48, 3 heads, forward|Swin 1, 110592 x 48|group norm 8 \+ residual|UMBRA)")


class Rival:
    """run() computes; result() gives named arrays in insula's layouts."""

    def __init__(self, name, run, result, limit=1e-5):
        self.name, self.run, self.result, self.limit = name, run, result, limit


def spread(times):
    v = sorted(times)
    at = lambda q: v[int(q * (len(v) - 1) + 0.5)]
    return {"median": at(0.5), "q1": at(0.25), "q3": at(0.75), "least": v[0]}


def relative_error(out, reference):
    """The largest ||out - ref|| / ||ref|| of the named arrays."""
    worst = 0.0
    for name, ref in reference.items():
        a, b = np.asarray(out[name], np.float64).ravel(), np.asarray(ref, np.float64).ravel()
        if a.size != b.size:
            raise ValueError(f"{name}: {a.size} elements, the reference has {b.size}")
        error = np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)
        worst = error if not error <= worst else worst  # NaN wins
    return float(worst)


class Contest:
    def __init__(self, options, worker):
        self.options, self.worker, self.disagreements = options, worker, 0

    def wants(self, group, name):
        o = self.options
        return (not o.group or group in o.group) and o.filter in f"{group}/{name}"

    def timed(self, rival, times):
        if rival is None:
            t = self.worker.run(times)
            return t["wall"], t["cpu"]
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            rival.run()
        return time.perf_counter() - wall, time.process_time() - cpu

    def hold(self, group, name, task, inputs, rivals, limit=1e-5):
        """The first rival is the reference of agreement; insula is one more rival, in its own process."""
        o = self.options
        reference, lines, first = None, [], []
        for r in rivals:
            first.append(self.timed(r, 1)[0])
            out = r.result()
            reference = reference or out
            lines.append([r, r.name, relative_error(out, reference), r.limit])
        self.worker.make(task, inputs)
        first.append(self.timed(None, 1)[0])
        lines.append([None, "insula", relative_error(self.worker.results(), reference), limit])
        del reference, out
        records = []
        for line, wall in zip(lines, first):
            if wall < LONG or "compiled" in line[1]:  # the first time compiles, maps memory, fills caches
                wall, _ = self.timed(line[0], 1)
            records.append({"inner": max(1, min(100000, int(SHORTEST / max(wall, 1e-7)) + 1)), "wall": [], "cpu": []})
        waited = machine.wait_for_idle(o.wait) if o.wait > 0 else 0.0
        others, worker_cpu, turn = machine.Neighbours(), 0.0, 0
        while True:
            again = False
            for k in range(len(lines)):
                i = (k + turn) % len(lines)
                r = records[i]
                used = sum(r["wall"]) * r["inner"]
                if len(r["wall"]) >= MOST or (len(r["wall"]) >= o.fewest and used >= o.seconds):
                    continue
                if o.threads > 1:
                    time.sleep(5e-3)  # the last one's threads stop spinning
                wall, cpu = self.timed(lines[i][0], r["inner"])
                worker_cpu += cpu if lines[i][0] is None else 0.0
                r["wall"].append(wall / r["inner"])
                r["cpu"].append(cpu / r["inner"])
                again = True
            turn += 1
            if not again:
                break
        busy = others.processors(worker_cpu)
        for (_, rival, error, most), r in zip(lines, records):
            agrees = error <= most
            self.disagreements += rival == "insula" and not agrees
            print(json.dumps({"group": group, "case": name, "rival": rival, "threads": o.threads, "error": error,
                              "agrees": agrees, "repetitions": len(r["wall"]), "wall_s": spread(r["wall"]),
                              "cpu_s": spread(r["cpu"]), "others": busy, "waited_s": waited}), flush=True)


def array(t):
    return t.detach().to(torch.float32).contiguous().numpy()


def uniform(*shape, seed):
    return torch.empty(shape).uniform_(-1, 1, generator=torch.Generator().manual_seed(seed))


def compiles(options, label):
    return options.compile == "all" or (options.compile == "few" and FEW.match(label) is not None)


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

    def rival(self, name, limit=1e-5):
        return Rival(name, self.run, self.result, limit)


def keep(t):
    return t


def transposed(t):
    return t.T


def channels_last(t):  # (1, C, D, H, W) to insula's (D, H, W, C)
    return t[0].permute(1, 2, 3, 0)


def leaves(**operands):
    return {n: t.clone().requires_grad_() for n, t in operands.items()}


def convolutions(contest, options):
    cases = [("3^3, 64 to 64, 38x48x48", (38, 48, 48), 64, 64, 3, 1, 1), ("3^3, 48 to 48, 48^3", (48,) * 3, 48, 48, 3, 1, 1),
             ("3^3, 192 to 192, 12^3", (12,) * 3, 192, 192, 3, 1, 1), ("3^3, 384 to 384, 6^3", (6,) * 3, 384, 384, 3, 1, 1),
             ("3^3 stride 2, 64 to 128, 38x48x48", (38, 48, 48), 64, 128, 3, 2, 1),
             ("7^3 stem stride 2, 1 to 64, 96x128x128", (96, 128, 128), 1, 64, 7, 2, 1),
             ("depth-wise 5^3, 64, 48^3", (48,) * 3, 64, 64, 5, 1, 64)]
    for name, size, c_in, c_out, kernel, stride, groups in cases:
        for kind in ("forward", "step"):
            label = f"{name}, {'forward' if kind == 'forward' else 'forward + backward'}"
            if not contest.wants("conv_torch", label):
                continue
            x, w = uniform(1, c_in, *size, seed=1), uniform(c_out, c_in // groups, *(kernel,) * 3, seed=2)
            f = lambda x, w: F.conv3d(x, w, stride=stride, padding=kernel // 2, groups=groups)
            gy = uniform(*f(x, w).shape, seed=3) if kind == "step" else None
            weights = lambda t: t.permute(2, 3, 4, 1, 0)
            outputs = {"y": channels_last, "gw": weights}
            if c_in > 1:
                outputs["gx"] = channels_last
            rivals = []
            for label2, layout in (("PyTorch", torch.contiguous_format), ("PyTorch channels_last_3d", torch.channels_last_3d)):
                ops = {"x": x.contiguous(memory_format=layout), "w": w.contiguous(memory_format=layout)}
                g = gy.contiguous(memory_format=layout) if gy is not None else None
                m = Module(f, leaves(**ops) if gy is not None else ops, g, outputs)
                rivals.append(m.rival(label2, 2e-5))
            task = {"op": "conv3d", "pass": kind, "in": size, "in_channels": c_in, "out_channels": c_out,
                    "kernel": kernel, "stride": stride, "pad": kernel // 2, "groups": groups}
            inputs = {"x": array(channels_last(x)), "w": array(weights(w))}
            if gy is not None:
                inputs["gy"] = array(channels_last(gy))
            contest.hold("conv_torch", label, task, inputs, rivals, 2e-5)


def window_attention(contest, options):
    if monai is None:
        return
    for side, c, heads in ((48, 48, 3), (24, 96, 6), (12, 192, 12)):
        for shift in (0, 3):
            for kind in ("forward", "step"):
                label = f"{side}^3 x {c}, {heads} heads{', shifted' if shift else ''}, " \
                        f"{'forward' if kind == 'forward' else 'forward + backward'}"
                group = "window_forward" if kind == "forward" else "window_step"
                if contest.wants(group, label):
                    hold_window(contest, options, group, label, side, c, heads, shift, kind)


def hold_window(contest, options, group, label, side, c, heads, shift, kind):
    """MONAI's SwinTransformerBlock up to the first residual: norm, padding, roll, windows, attention and all back."""
    block = SwinTransformerBlock(c, heads, (7, 7, 7), (shift,) * 3)
    with torch.no_grad():
        for i, p in enumerate(block.parameters()):
            p.copy_(uniform(*p.shape, seed=10 + i) * (0.1 if p.dim() == 1 else 0.5 if p.shape[1] == heads else
                                                      math.sqrt(3 / p.shape[1])))
        block.norm1.weight.add_(1)
    padded = -(-side // 7) * 7
    mask = compute_mask([padded] * 3, (7, 7, 7), (shift,) * 3, "cpu") if shift else None
    x = uniform(1, side, side, side, c, seed=1)
    gy = uniform(*x.shape, seed=2)
    names = {"norm_w": (block.norm1.weight, keep), "norm_b": (block.norm1.bias, keep),
             "table": (block.attn.relative_position_bias_table, keep), "qkv_w": (block.attn.qkv.weight, transposed),
             "qkv_b": (block.attn.qkv.bias, keep), "proj_w": (block.attn.proj.weight, transposed),
             "proj_b": (block.attn.proj.bias, keep)}
    state = {}

    def rival(name, function, flash=False, limit=1e-5):
        x_leaf = x.clone().requires_grad_(kind == "step")

        def run():
            block.attn.use_flash_attention = flash
            if kind == "forward":
                with torch.no_grad():
                    state[name] = (function(x), {})
            else:
                y = function(x_leaf)
                grads = torch.autograd.grad(y, [x_leaf, *(p for p, _ in names.values())], gy)
                state[name] = (y, grads)

        def result():
            y, grads = state.pop(name)
            out = {"y": array(y)}
            for (n, turn), g in zip([("gx", keep), *(("g" + n, t) for n, (_, t) in names.items())], grads):
                out[n] = array(turn(g))
            return out

        return Rival(name, run, result, limit)

    half = lambda x: x + block.forward_part1(x, mask)
    rivals = [rival("PyTorch + MONAI", half)]
    if kind == "forward":  # MONAI takes this path without gradients only
        rivals.append(rival("PyTorch + MONAI, SDPA", half, True))
    if compiles(options, label):
        rivals.append(rival("PyTorch + MONAI, compiled", compiled(half)))
    task = {"op": "window_attention", "pass": kind, "side": side, "channels": c, "heads": heads, "shift": shift}
    inputs = {"x": array(x), **{n: array(turn(p)) for n, (p, turn) in names.items()}}
    if kind == "step":
        inputs["gy"] = array(gy)
    contest.hold(group, label, task, inputs, rivals, 2e-5 if kind == "step" else 1e-5)


def attention(contest, options):
    for batch, n, c, heads in ((1, 1728, 320, 5), (1, 865, 768, 12), (8, 257, 1024, 16)):
        for kind in ("forward", "step"):
            label = f"{n} x {c // heads} x {heads}{f', batch {batch}' if batch > 1 else ''}, " \
                    f"{'forward' if kind == 'forward' else 'forward + backward'}"
            if not contest.wants("attention", label):
                continue
            qkv, go = uniform(batch, n, 3 * c, seed=1) * 1.5, uniform(batch, n, c, seed=2)

            def heads_of(qkv):
                return qkv.view(batch, n, 3, heads, c // heads).permute(2, 0, 3, 1, 4)

            def fused(qkv):
                q, k, v = heads_of(qkv)
                return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, n, c)

            def explicit(qkv):
                q, k, v = heads_of(qkv)
                a = (q * (c // heads) ** -0.5) @ k.transpose(-2, -1)
                return (a.softmax(-1) @ v).transpose(1, 2).reshape(batch, n, c)

            rivals = []
            for name, f in (("PyTorch explicit", explicit), ("PyTorch SDPA", fused)):
                if name.endswith("SDPA") and not hasattr(F, "scaled_dot_product_attention"):
                    continue
                ops = leaves(qkv=qkv) if kind == "step" else {"qkv": qkv}
                rivals.append(Module(f, ops, go if kind == "step" else None, {"gqkv": keep}, "o").rival(name, 1e-5))
            task = {"op": "attention", "pass": kind, "batch": batch, "tokens": n, "channels": c, "heads": heads}
            contest.hold("attention", label, task, {"qkv": array(qkv), "go": array(go)}, rivals)


def paired(contest, options, group, label, f, operands, gy, outputs, task, inputs, limit=1e-5, layouts=(None,)):
    """Eager and compiled PyTorch of f against insula; layouts: memory formats of 5D operands."""
    rivals = []
    for layout in layouts:
        formed = lambda t: t.contiguous(memory_format=layout) if layout is not None and t.dim() == 5 else t
        suffix = " channels_last_3d" if layout is torch.channels_last_3d else ""
        both = [("PyTorch" + suffix, f)]
        if layout is not torch.channels_last_3d and compiles(options, label):
            both.append(("PyTorch compiled", compiled(f)))
        for name, function in both:
            ops = {n: formed(t) for n, t in operands.items()}
            if gy is not None:
                ops = {n: t.clone().requires_grad_() for n, t in ops.items()}
            rivals.append(Module(function, ops, formed(gy) if gy is not None else None, outputs).rival(name, limit))
    contest.hold(group, label, task, inputs, rivals, limit)


def linear(contest, options):
    cases = [("Swin 1 qkv", 117649, 48, 144), ("Swin 1 fc1", 110592, 48, 192), ("Swin 1 fc2", 110592, 192, 48),
             ("Swin 3 fc1", 1728, 192, 768), ("ViT-B qkv", 865, 768, 2304), ("ViT-B fc1", 865, 768, 3072),
             ("ViT-B fc2", 865, 3072, 768)]
    gelus = [("Swin 1 fc1", 110592, 48, 192), ("Swin 2 fc1", 13824, 96, 384), ("ViT-B fc1", 865, 768, 3072)]
    for group, gelu, list_of in (("linear", False, cases), ("linear_gelu", True, gelus)):
        for name, rows, n, m in list_of:
            label = f"{name}, {rows} x {n} to {m}"
            if not contest.wants(group, label):
                continue
            x, w, b = uniform(rows, n, seed=1), uniform(m, n, seed=2), uniform(m, seed=3)
            f = (lambda x, w, b: F.gelu(F.linear(x, w, b))) if gelu else F.linear
            operands = {"x": x, "w": w, "b": b} if gelu else {"input": x, "weight": w, "bias": b}
            task = {"op": "linear", "pass": "forward", "rows": rows, "in": n, "out": m, "gelu": gelu}
            inputs = {"x": array(x), "w": array(w.T), "b": array(b)}
            options_here = options if gelu else argparse.Namespace(**{**vars(options), "compile": "none"})
            paired(contest, options_here, group, label, f, operands, None, {}, task, inputs)


def mlp(contest, options):
    for name, rows, c in (("Swin 1", 110592, 48), ("Swin 2", 13824, 96), ("Swin 3", 1728, 192)):
        for kind in ("forward", "step"):
            h = 4 * c
            label = f"{name}, {rows} x {c}, hidden {h}" + ("" if kind == "forward" else ", forward + backward")
            group = "mlp" if kind == "forward" else "mlp_step"
            if not contest.wants(group, label):
                continue
            x, gy = uniform(rows, c, seed=1), uniform(rows, c, seed=2)
            ops = {"x": x, "norm_w": uniform(c, seed=3), "norm_b": uniform(c, seed=4),
                   "w1": uniform(h, c, seed=5) * (3 / c) ** 0.5, "b1": uniform(h, seed=6),
                   "w2": uniform(c, h, seed=7) * (3 / h) ** 0.5, "b2": uniform(c, seed=8)}
            f = lambda x, norm_w, norm_b, w1, b1, w2, b2: x + F.linear(
                F.gelu(F.linear(F.layer_norm(x, (c,), norm_w, norm_b), w1, b1)), w2, b2)
            turn = {n: transposed if n in ("w1", "w2") else keep for n in ops}
            outputs = {"g" + n: t for n, t in turn.items()}
            inputs = {n: array(turn[n](t)) for n, t in ops.items()}
            inputs["gy"] = array(gy)
            task = {"op": "mlp", "pass": kind, "rows": rows, "width": c, "hidden": h}
            paired(contest, options, group, label, f, ops, gy if kind == "step" else None, outputs, task, inputs)


def norms(contest, options):
    cases = [("group norm 8 + residual + leaky ReLU, 64, 38x48x48", (38, 48, 48), 64, 8, "leaky_relu", True),
             ("instance norm + leaky ReLU, 48, 48^3", (48,) * 3, 48, 48, "leaky_relu", False),
             ("group norm 8 + GELU, 32, 48^3", (48,) * 3, 32, 8, "gelu", False)]
    acts = {"leaky_relu": lambda t: F.leaky_relu(t, 0.01), "gelu": F.gelu, "relu": F.relu}
    for name, size, c, groups, act, skip in cases:
        for kind in ("forward", "step"):
            label = f"{name}, {'forward' if kind == 'forward' else 'forward + backward'}"
            if not contest.wants("norm", label):
                continue
            ops = {"x": uniform(1, c, *size, seed=1), "w": uniform(c, seed=2), "b": uniform(c, seed=3)}
            if skip:
                ops["skip"] = uniform(1, c, *size, seed=4)
            f = lambda x, w, b, skip=None: acts[act](F.group_norm(x, groups, w, b) + (skip if skip is not None else 0))
            if not skip:
                f = lambda x, w, b: acts[act](F.group_norm(x, groups, w, b))
            gy = uniform(1, c, *size, seed=5)
            turn = {n: channels_last if t.dim() == 5 else keep for n, t in ops.items()}
            outputs = {"y": channels_last, **{"g" + n: t for n, t in turn.items()}}
            inputs = {n: array(turn[n](t)) for n, t in ops.items()}
            inputs["gy"] = array(channels_last(gy))
            task = {"op": "group_norm", "pass": kind, "positions": math.prod(size), "channels": c, "groups": groups,
                    "activation": act, "skip": skip}
            paired(contest, options, "norm", label, f, ops, gy if kind == "step" else None, outputs, task, inputs, 2e-5,
                   (torch.contiguous_format, torch.channels_last_3d))
    batch_norms(contest, options)
    options = argparse.Namespace(**{**vars(options), "compile": "none"})
    for kind in ("forward", "step"):
        label = f"layer norm alone, 110592 x 48, {'forward' if kind == 'forward' else 'forward + backward'}"
        if contest.wants("norm_alone", label):
            rows, c = 110592, 48
            ops = {"x": uniform(rows, c, seed=1), "w": uniform(c, seed=2), "b": uniform(c, seed=3)}
            gy = uniform(rows, c, seed=4)
            f = lambda x, w, b: F.layer_norm(x, (c,), w, b)
            paired(contest, options, "norm_alone", label, f, ops, gy if kind == "step" else None,
                   {"g" + n: keep for n in ops}, {"op": "layer_norm", "pass": kind, "rows": rows, "width": c},
                   {**{n: array(t) for n, t in ops.items()}, "gy": array(gy)}, 2e-5)
        label = f"GELU alone, 110592 x 192, {'forward' if kind == 'forward' else 'forward + backward'}"
        if contest.wants("norm_alone", label):
            x, gy = uniform(110592, 192, seed=1) * 3, uniform(110592, 192, seed=2)
            paired(contest, options, "norm_alone", label, lambda x: F.gelu(x), {"x": x},
                   gy if kind == "step" else None, {"gx": keep}, {"op": "gelu", "pass": kind, "n": x.numel()},
                   {"x": array(x), "gy": array(gy)})


def batch_norms(contest, options):
    """The first stage of a residual network: norm + ReLU + max-pooling, and norm + residual + ReLU."""
    for kind in ("forward", "step"):
        for name, size, pools in (("batch norm + residual + ReLU, 64, 38x48x48", (38, 48, 48), False),
                                  ("batch norm + ReLU + max-pool, 64, 75x96x96", (75, 96, 96), True)):
            label = f"{name}, {'forward' if kind == 'forward' else 'forward + backward'}"
            if not contest.wants("norm", label):
                continue
            c = 64
            ops = {"x": uniform(1, c, *size, seed=1), "w": uniform(c, seed=2), "b": uniform(c, seed=3)}
            norm = lambda x, w, b: F.batch_norm(x, None, None, w, b, True)
            if pools:
                f = lambda x, w, b: F.max_pool3d(F.relu(norm(x, w, b)), 3, 2, 1)
                task = {"op": "batch_norm_pool", "pass": kind, "in": size, "channels": c}
            else:
                ops["skip"] = uniform(1, c, *size, seed=4)
                f = lambda x, w, b, skip: F.relu(norm(x, w, b) + skip)
                task = {"op": "batch_norm", "pass": kind, "positions": math.prod(size), "channels": c,
                        "activation": "relu", "skip": True}
            gy = uniform(*f(**ops).shape, seed=5)
            turn = {n: channels_last if t.dim() == 5 else keep for n, t in ops.items()}
            outputs = {"y": channels_last, **{"g" + n: t for n, t in turn.items()}}
            inputs = {**{n: array(turn[n](t)) for n, t in ops.items()}, "gy": array(channels_last(gy))}
            paired(contest, options, "norm", label, f, ops, gy if kind == "step" else None, outputs, task, inputs, 2e-5,
                   (torch.contiguous_format, torch.channels_last_3d))


def info_nce(contest, options):
    batch, width, length, temperature = 32, 128, 16384, 0.2
    label = f"{batch} x {width}, queue {length}, with gradient"
    if not contest.wants("info_nce", label):
        return
    q, k = F.normalize(uniform(batch, width, seed=1)), F.normalize(uniform(batch, width, seed=2))
    queue = F.normalize(uniform(length, width, seed=3))
    columns = queue.T.contiguous()  # as MoCo keeps it
    leaf, target = q.clone().requires_grad_(), torch.zeros(batch, dtype=torch.long)
    state = {}

    def rival(name, f):
        def run():
            loss = f(leaf)
            (g,) = torch.autograd.grad(loss, leaf)
            state[name] = (loss, g)
        return Rival(name, run, lambda: {"loss": array(state[name][0].reshape(1)), "gq": array(state[name][1])})

    def loss(q):
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ columns], 1)
        return F.cross_entropy(logits / temperature, target)

    rivals = [rival("PyTorch", loss)]
    if compiles(options, label):
        rivals.append(rival("PyTorch compiled", compiled(loss)))
    task = {"op": "info_nce", "batch": batch, "width": width, "length": length, "temperature": temperature}
    contest.hold("info_nce", label, task, {"q": array(q), "k": array(k), "queue": array(queue)}, rivals)


def updates(contest, options):
    """Clipping to a global norm, AdamW, moving average: 28.8 million weights in the tensors of a residual network."""
    shapes = [512 * 512 * 27] * 3 + [256 * 256 * 27] * 3 + [128 * 128 * 27] * 4 + [64 * 64 * 27] * 4
    label = "clip + AdamW + moving average, 28.8 million weights"
    if not contest.wants("update", label):
        return
    rate, decay, clip, momentum = 1e-3, 0.05, 10.0, 0.996
    total = sum(shapes)
    g, w, average = uniform(total, seed=1), uniform(total, seed=2), uniform(total, seed=3)

    def rival(name, fused):
        parts = lambda t: [p.clone() for p in t.split(shapes)]
        weights, means, grads = [nn.Parameter(p) for p in parts(w)], parts(average), parts(g)
        for p, gradient in zip(weights, grads):
            p.grad = gradient
        kind = {"fused": True} if fused else {"foreach": True}
        optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=decay, **kind)

        def run():
            torch.nn.utils.clip_grad_norm_(weights, clip)
            optimizer.step()
            with torch.no_grad():
                if fused:
                    torch._foreach_lerp_(means, weights, 1 - momentum)
                else:
                    for m, p in zip(means, weights):
                        m.mul_(momentum).add_(p, alpha=1 - momentum)

        return Rival(name, run, lambda: {"w": array(torch.cat([p.flatten() for p in weights])),
                                         "average": array(torch.cat([m.flatten() for m in means]))})

    rivals = [rival("PyTorch foreach", False)]
    with contextlib.suppress(TypeError, RuntimeError):
        rivals.append(rival("PyTorch fused", True))
    task = {"op": "update", "n": total, "rate": rate, "decay": decay, "clip": clip, "momentum": momentum}
    contest.hold("update", label, task, {"g": array(g), "w": array(w), "average": array(average)}, rivals)


def augmentation(contest, options):
    size, gamma = (150, 192, 192), 0.93
    label = "affine + flip + gamma, 150x192x192"
    if not contest.wants("augment", label):
        return
    x = uniform(*size, seed=1)
    x = F.avg_pool3d(x[None, None], 5, 1, 2)[0, 0].contiguous()  # smooth, as brains are
    rotation = np.array([[0.95, -0.12, 0.05], [0.11, 0.97, -0.08], [-0.04, 0.09, 1.03]])
    centre = (np.array(size) - 1) / 2
    linear_map = rotation @ np.diag([1, 1, -1.0])  # the flip of the last axis, then the affine map
    offset = centre - linear_map @ centre
    index_map = np.concatenate([linear_map, offset[:, None]], 1)
    n = np.array(size, float)
    theta = np.zeros((3, 4))  # PyTorch's normalised coordinates, last axis first; the flip is an op of its own
    scale = rotation * n[None, :] / n[:, None]
    theta[:, :3] = scale[::-1, ::-1]
    theta = torch.tensor(theta, dtype=torch.float32)[None]
    state = {}

    def rival(name, f):
        def run():
            with torch.no_grad():
                state[name] = f(x)
        return Rival(name, run, lambda: {"y": array(state[name])}, 1e-4)

    def chain(x):
        grid = F.affine_grid(theta, (1, 1, *size), align_corners=False)
        y = F.grid_sample(x[None, None], grid, padding_mode="border", align_corners=False).flip(4)
        low = y.amin()
        extent = y.amax() - low
        return ((y - low) / (extent + 1e-7)).pow(gamma) * extent + low

    rivals = [rival("PyTorch", chain)]
    if compiles(options, label):
        rivals.append(rival("PyTorch compiled", compiled(chain)))
    task = {"op": "augment", "size": size, "map": [float(v) for v in index_map.ravel()], "gamma": gamma}
    contest.hold("augment", label, task, {"x": array(x)}, rivals, 1e-4)


CELLS = [0, 3, 4, 7, 8, 10, 11, 13, 15, 16, 19, 20, 22, 24, 26]
STEP = {"rate": 1e-4, "decay": 0.01, "clip": 10.0}


def umbra_task(**more):
    return {"op": "umbra", "cells": [i in CELLS for i in range(27)], **STEP, **more}


def umbra_step(network, optimizer, x, cells):
    """One masked modelling step as its users write it; gives the loss and the norm of the gradient before clipping."""
    optimizer.zero_grad(set_to_none=True)
    loss = umbra.masked_loss(network(x, cells), x, cells)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), STEP["clip"])
    optimizer.step()
    return loss, norm


def umbra_parts(checkpoints=False, compile_network=False):
    torch.manual_seed(1)
    network = umbra.SwinMAE(checkpoints=checkpoints)
    optimizer = torch.optim.AdamW(network.parameters(), lr=STEP["rate"], weight_decay=STEP["decay"], fused=True)
    cells = torch.tensor([i in CELLS for i in range(27)]).view(3, 3, 3)
    return torch.compile(network, dynamic=False) if compile_network else network, network, optimizer, cells


def whole_step(contest, options):
    if monai is None:
        return
    label = "UMBRA SwinMAE, 96^3, batch 1"
    if not contest.wants("step", label):
        return
    x = uniform(1, 1, 96, 96, 96, seed=1) * 1.7
    rivals = []
    inputs = {"x": array(x)}
    # No checkpoint of activations: what is fastest. UMBRA's own setting trades time for memory: see --memory.
    for name, use in (("PyTorch + MONAI", False), ("PyTorch + MONAI, compiled", True)):
        if use and not compiles(options, label):
            continue
        function, network, optimizer, cells = umbra_parts(compile_network=use)
        for n, p in network.named_parameters():
            inputs.setdefault("model." + n, array(p).copy())
        state = {}

        def run(function=function, optimizer=optimizer, cells=cells, state=state):
            state["loss"] = umbra_step(function, optimizer, x, cells)

        def result(network=network, state=state):
            loss, norm = state["loss"]
            clipped = min(1.0, STEP["clip"] / (float(norm.detach()) + 1e-6))
            out = {"loss": np.array([float(loss.detach()), float(norm.detach())], np.float32)}
            flat = [array(p.grad).ravel() / clipped for p in network.parameters()]
            out["gradient"] = np.concatenate(flat)
            return out

        rivals.append(Rival(name, run, result, 1e-4))
    names = [n for n, _ in network.named_parameters()]
    plain_results = contest.worker.results

    def results():
        out = plain_results()
        return {"loss": out["loss"], "gradient": np.concatenate([out["gradient." + n].ravel() for n in names])}

    contest.worker.results = results
    try:
        contest.hold("step", label, umbra_task(), inputs, rivals, 1e-4)
    finally:
        contest.worker.results = plain_results


def status_bytes(key):
    for line in pathlib.Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def memory(options):
    """Resident bytes of three steps beyond what the process held before the network was built."""
    if options.memory == "insula":
        worker = tensors.Worker(options.worker, options.threads)
        worker.make(umbra_task(initialise=True), {"x": array(uniform(96, 96, 96, seed=1))})
        worker.run(3)
        used = worker.ask(do="memory")
        worker.close()
    else:
        base = status_bytes("VmRSS")
        function, _, optimizer, cells = umbra_parts(checkpoints=options.memory == "checkpoint")
        pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        x = uniform(1, 1, 96, 96, 96, seed=1)
        for _ in range(3):
            umbra_step(function, optimizer, x, cells)
        used = {"base": base, "peak": status_bytes("VmHWM")}
    name = {"insula": "insula", "eager": "PyTorch + MONAI", "checkpoint": "PyTorch + MONAI, activation checkpoints"}
    print(json.dumps({"group": "memory", "case": "UMBRA SwinMAE, 96^3, batch 1", "rival": name[options.memory],
                      "threads": options.threads, "bytes": used["peak"] - used["base"], **used}), flush=True)
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.6)
    parser.add_argument("--wait", type=float, default=0)
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("--filter", default="")
    parser.add_argument("--compile", choices=("all", "few", "none"), default="all")
    parser.add_argument("--fewest", type=int, default=3, help="least repetitions")
    parser.add_argument("--memory", choices=("insula", "eager", "checkpoint"))
    options = parser.parse_args()
    if not hasattr(torch, "compile"):
        options.compile = "none"
    torch.set_num_threads(options.threads)
    flushes = torch.set_flush_denormal(True)
    if options.memory:
        return memory(options)
    print(json.dumps({"program": "peers.py", "threads": options.threads, "precision": "float32",
                      "denormals": "flushed by insula and by PyTorch" if flushes else "kept by PyTorch",
                      "PyTorch": torch.__version__, "MONAI": monai.__version__ if monai else None,
                      "compiled": options.compile,
                      "capability": torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else "?",
                      "build": torch.__config__.show().splitlines()[:12]}), flush=True)
    if monai is None:
        print(f"peers: no MONAI ({missing_monai}): no window attention, no whole step", file=sys.stderr)
    contest = Contest(options, tensors.Worker(options.worker, options.threads))
    try:
        for cases in (window_attention, attention, norms, linear, mlp, info_nce, updates, augmentation, convolutions,
                      whole_step):
            if options.compile != "none":
                torch.compiler.reset()
            cases(contest, options)
    finally:
        contest.worker.close()
    if contest.disagreements:
        print(f"peers: {contest.disagreements} results of insula disagree", file=sys.stderr)
    return 1 if contest.disagreements else 0


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
