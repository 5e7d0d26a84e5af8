# SPDX-License-Identifier: Apache-2.0
# Times insula against PyTorch and MONAI: same inputs and weights, agreement checked, then in turn.
#   peers.py --worker build/compare/benchmarks/compare/compare_worker [--threads N] [--seconds S] [--wait S] [--until T]
#            [--group NAME]... [--filter TEXT] [--compile all|few|none] [--compile-seconds S] [--fewest N]
#            [--memory insula|eager|checkpoint] [--simclr]
# Prints one JSON line about the run and one per rival. Exit status 1 if insula disagrees; a peer that does is marked, and out of
# the comparison. --memory measures the memory of UMBRA's step and --simclr the step of 3D-Neuro-SimCLR, each in a process that did
# nothing else before.
import argparse
import contextlib
import math
import os
import re
import sys

import numpy as np
import tensors
import torch
import work
from contest import Contest, Module, Rival, array, channels_last, compiled, keep, leaves, say, transposed, uniform
from torch import nn
from torch.nn import functional as F

try:
    import monai
    import systems
    from monai.networks.nets.swin_unetr import SwinTransformerBlock, compute_mask
except ImportError as error:
    monai, missing_monai = None, error

# Compiling takes minutes: these are the cases of --compile few.
FEW = re.compile(r"^(48\^3 x 48, 3 heads, forward|Swin 1, 110592 x 48|group norm 8 \+ residual|32 x 128, queue)")


def compiles(options, label):
    return options.compile == "all" or (options.compile == "few" and FEW.match(label) is not None)


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
            needs = work.conv3d(kind, size, c_in, c_out, kernel, stride, groups)
            contest.hold("conv_torch", label, needs, task, inputs, rivals, 2e-5)


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
        rivals[-1].compiled = True
    task = {"op": "window_attention", "pass": kind, "side": side, "channels": c, "heads": heads, "shift": shift}
    inputs = {"x": array(x), **{n: array(turn(p)) for n, (p, turn) in names.items()}}
    if kind == "step":
        inputs["gy"] = array(gy)
    needs = work.window_attention(kind, side, c, heads, 7, shift)
    contest.hold(group, label, needs, task, inputs, rivals, 2e-5 if kind == "step" else 1e-5)


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
            contest.hold("attention", label, work.attention(kind, batch, n, c, heads), task,
                         {"qkv": array(qkv), "go": array(go)}, rivals)


def paired(contest, options, group, label, needs, f, operands, gy, outputs, task, inputs, limit=1e-5, layouts=(None,), passes=()):
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
            module = Module(function, ops, formed(gy) if gy is not None else None, outputs)
            rivals.append(module.rival(name, limit, name.endswith("compiled")))
    contest.hold(group, label, needs, task, inputs, rivals, limit, passes)


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
            paired(contest, options_here, group, label, work.linear(rows, n, m, gelu), f, operands, None, {}, task, inputs)


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
            paired(contest, options, group, label, work.mlp(kind, rows, c, h), f, ops, gy if kind == "step" else None,
                   outputs, task, inputs)


ACTIVATIONS = {"leaky_relu": lambda x: F.leaky_relu(x, 0.01), "gelu": lambda x: F.gelu(x),
               "relu": lambda x: F.relu(x)}
LAYOUTS = (torch.contiguous_format, torch.channels_last_3d)


def both_kinds(contest, group, name):
    """(forward or step, label) of what is wanted."""
    for kind, suffix in (("forward", "forward"), ("step", "forward + backward")):
        if contest.wants(group, f"{name}, {suffix}"):
            yield kind, f"{name}, {suffix}"


def hold_pointwise(contest, options, group, kind, label, f, operands, task, limit=2e-5):
    """What is bound by memory; operands of five dimensions in both of PyTorch's layouts."""
    gy = uniform(*f(**operands).shape, seed=5)
    volumes = gy.dim() == 5
    turn = {n: channels_last if t.dim() == 5 else keep for n, t in operands.items()}
    outputs = {"y": channels_last if volumes else keep, **{"g" + n: t for n, t in turn.items()}}
    inputs = {n: array(turn[n](t)) for n, t in operands.items()}
    inputs["gy"] = array(outputs["y"](gy))
    numbers = sum(t.numel() for t in operands.values())
    passes = ()
    gelus = gy.numel() if task.get("activation") == "gelu" else 0
    if group == "norm":
        sizes = {"y": gy.numel(), "gy": gy.numel(), **{n: operands["x"].numel() for n in ("x", "gx", "skip", "gskip")}}
        task_of = lambda past: {"op": "passes", "pass": kind, "past": past, "sizes": sizes, "blocks": 512, "passes": [
            {"read": r, "written": w} for r, w in work.norm_passes(kind, "skip" in operands)]}
        passes = (("insula, passes alone", task_of(False)), ("insula, passes alone, past the cache", task_of(True)))
        needs = work.norm(kind, operands["x"].numel(), numbers - operands["x"].numel(), gy.numel(), gelus)
    else:
        needs = work.pointwise(kind, numbers, gy.numel(), gelus)
    paired(contest, options, group, label, needs, f, operands, gy if kind == "step" else None, outputs,
           {**task, "pass": kind}, inputs, limit, LAYOUTS if volumes else (None,), passes)


def group_norms(contest, options):
    cases = [("group norm 8 + residual + leaky ReLU, 64, 38x48x48", (38, 48, 48), 64, 8, "leaky_relu", True),
             ("instance norm + leaky ReLU, 48, 48^3", (48,) * 3, 48, 48, "leaky_relu", False),
             ("group norm 8 + GELU, 32, 48^3", (48,) * 3, 32, 8, "gelu", False)]
    for name, size, c, groups, act, skip in cases:
        for kind, label in both_kinds(contest, "norm", name):
            ops = {"x": uniform(1, c, *size, seed=1), "w": uniform(c, seed=2), "b": uniform(c, seed=3)}
            if skip:
                ops["skip"] = uniform(1, c, *size, seed=4)
                f = lambda x, w, b, skip: ACTIVATIONS[act](F.group_norm(x, groups, w, b) + skip)
            else:
                f = lambda x, w, b: ACTIVATIONS[act](F.group_norm(x, groups, w, b))
            task = {"op": "group_norm", "positions": math.prod(size), "channels": c, "groups": groups, "activation": act,
                    "skip": skip}
            hold_pointwise(contest, options, "norm", kind, label, f, ops, task)


def batch_norms(contest, options):
    """The first stage of a residual network: norm + ReLU + max-pooling, and norm + residual + ReLU."""
    c = 64
    norm = lambda x, w, b: F.batch_norm(x, None, None, w, b, True)
    for name, size, pools in (("batch norm + residual + ReLU, 64, 38x48x48", (38, 48, 48), False),
                              ("batch norm + ReLU + max-pool, 64, 75x96x96", (75, 96, 96), True)):
        for kind, label in both_kinds(contest, "norm", name):
            ops = {"x": uniform(1, c, *size, seed=1), "w": uniform(c, seed=2), "b": uniform(c, seed=3)}
            if pools:
                f = lambda x, w, b: F.max_pool3d(F.relu(norm(x, w, b)), 3, 2, 1)
                task = {"op": "batch_norm_pool", "in": size, "channels": c}
            else:
                ops["skip"] = uniform(1, c, *size, seed=4)
                f = lambda x, w, b, skip: F.relu(norm(x, w, b) + skip)
                task = {"op": "batch_norm", "positions": math.prod(size), "channels": c, "activation": "relu", "skip": True}
            hold_pointwise(contest, options, "norm", kind, label, f, ops, task)


def alone(contest, options):
    """Single ops that insula would fuse: nothing is compiled, there is nothing to fuse."""
    options = argparse.Namespace(**{**vars(options), "compile": "none"})
    group = "norm_alone"
    rows, c = 110592, 48
    for kind, label in both_kinds(contest, group, f"layer norm alone, {rows} x {c}"):
        ops = {"x": uniform(rows, c, seed=1), "w": uniform(c, seed=2), "b": uniform(c, seed=3)}
        f = lambda x, w, b: F.layer_norm(x, (c,), w, b)
        hold_pointwise(contest, options, group, kind, label, f, ops, {"op": "layer_norm", "rows": rows, "width": c})
    for kind, label in both_kinds(contest, group, f"GELU alone, {rows} x {4 * c}"):
        x = uniform(rows, 4 * c, seed=1) * 3
        hold_pointwise(contest, options, group, kind, label, ACTIVATIONS["gelu"], {"x": x},
                       {"op": "activation", "activation": "gelu", "n": x.numel()})
    size = (75, 96, 96)
    for kind, label in both_kinds(contest, group, "ReLU alone, 64, 75x96x96"):
        x = uniform(1, 64, *size, seed=1)
        hold_pointwise(contest, options, group, kind, label, ACTIVATIONS["relu"], {"x": x},
                       {"op": "activation", "activation": "relu", "n": x.numel()})
    for kind, label in both_kinds(contest, group, "max-pool alone, 64, 75x96x96"):
        x = uniform(1, 64, *size, seed=1)
        hold_pointwise(contest, options, group, kind, label, lambda x: F.max_pool3d(x, 3, 2, 1), {"x": x},
                       {"op": "max_pool", "in": size, "channels": 64})


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
        rivals[-1].compiled = True
    task = {"op": "info_nce", "batch": batch, "width": width, "length": length, "temperature": temperature}
    contest.hold("info_nce", label, work.info_nce(batch, width, length), task,
                 {"q": array(q), "k": array(k), "queue": array(queue)}, rivals)


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
    with contextlib.suppress(TypeError, RuntimeError):  # older versions have no fused AdamW on processors
        rivals.append(rival("PyTorch fused", True))
    task = {"op": "update", "n": total, "rate": rate, "decay": decay, "clip": clip, "momentum": momentum}
    contest.hold("update", label, work.update(total), task, {"g": array(g), "w": array(w), "average": array(average)},
                 rivals)


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
        rivals[-1].compiled = True
    task = {"op": "augment", "size": size, "map": [float(v) for v in index_map.ravel()], "gamma": gamma}
    contest.hold("augment", label, work.augment(x.numel()), task, {"x": array(x)}, rivals, 1e-4)


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
    parser.add_argument("--compile-seconds", type=float, default=300, help="most of one compilation")
    parser.add_argument("--until", type=float, default=0, help="seconds since 1970 after which no contest begins")
    parser.add_argument("--memory", choices=("insula", "eager", "checkpoint"))
    parser.add_argument("--simclr", action="store_true")
    options = parser.parse_args()
    if not hasattr(torch, "compile"):
        options.compile = "none"
    if options.threads == 1:  # rivals' processes take turns on one processor, so that it never sleeps: see docs/performance.md
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(options.threads)
    flushes = torch.set_flush_denormal(True)
    say(program="peers.py", threads=options.threads, precision="float32",
        denormals="flushed by insula and by PyTorch" if flushes else "kept by PyTorch", PyTorch=torch.__version__,
        MONAI=monai.__version__ if monai else None, compiled=options.compile,
        capability=torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else "?",
        build=torch.__config__.show().splitlines()[:12])
    if monai is None:
        print(f"peers: no MONAI ({missing_monai}): no window attention, no whole steps", file=sys.stderr)
    if options.memory or options.simclr:
        if monai is None:
            return 0
        return systems.memory(options) if options.memory else systems.simclr(options)
    contest = Contest(options, tensors.Worker(options.worker, options.threads))
    try:
        whole_step = systems.umbra_step if monai else lambda *_: None
        for cases in (window_attention, whole_step, attention, group_norms, batch_norms, alone, linear, mlp, info_nce, updates,
                      augmentation, convolutions):
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
