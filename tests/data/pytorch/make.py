#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Writes the torch.save files of this folder, from formulas, so that tests know every value. Needs torch; see README.md.
import collections
import io
import pathlib
import sys
import tarfile

import torch

out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)


def ramp(*shape, start=0.0, dtype=torch.float32):
    """start, start + 0.25, start + 0.5, ...: exact in every floating-point type used here."""
    n = int(torch.tensor(shape).prod()) if shape else 1
    return (start + 0.25 * torch.arange(n)).to(dtype).reshape(shape)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv3d(1, 2, (1, 2, 3))
        self.norm = torch.nn.BatchNorm3d(2)
        self.head = torch.nn.Linear(3, 2)
        self.register_buffer("scratch", torch.zeros(1), persistent=False)
        with torch.no_grad():
            for i, p in enumerate(self.parameters()):
                p.copy_(ramp(*p.shape, start=float(i)))
        self.norm.running_mean.copy_(torch.tensor([-1.5, 2.5]))
        self.norm.num_batches_tracked.fill_(7)


class Callback:
    """A stand-in for what trainers pickle beside the weights."""

    def __init__(self):
        self.monitor, self.best = "val_loss", float("inf")
        self.history = [1, 2.5, None, True, b"\x00\xff", 2**40, -(2**70), {"a"}, (1, 2)]


def every_kind():
    base = ramp(4, 6)
    shared = ramp(8, start=100.0)
    return collections.OrderedDict(
        f32=ramp(2, 3), f64=ramp(3, dtype=torch.float64), f16=ramp(5, dtype=torch.float16),
        bf16=ramp(5, dtype=torch.bfloat16), boolean=torch.tensor([True, False, True]),
        u8=torch.tensor([0, 255], dtype=torch.uint8), i8=torch.tensor([-128, 127], dtype=torch.int8),
        i16=torch.tensor([-32768, 32767], dtype=torch.int16), i32=torch.tensor([-2**31, 2**31 - 1], dtype=torch.int32),
        i64=torch.tensor([-2**63, 2**63 - 1]), scalar=torch.tensor(1.5), empty=torch.zeros(3, 0, 2),
        transposed=base.t(), every_second=base[:, ::2], expanded=torch.tensor([1.0, 2.0]).reshape(2, 1).expand(2, 3),
        whole=shared, tail=shared[5:], parameter=torch.nn.Parameter(ramp(2, 2, start=-1.0)))


def main():
    net = Net()
    adam = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for p in net.parameters():
        p.grad = torch.full_like(p, 0.5)
    adam.step()
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(ramp(*p.shape, start=float(i)))
    state = net.state_dict()

    torch.save(every_kind(), out / "kinds.pt")
    torch.save(every_kind(), out / "kinds_legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(every_kind(), out / "kinds_protocol4.pt", pickle_protocol=4)
    torch.save({f"{t}".removeprefix("torch."): torch.tensor([1, 2, 3]).to(t)
                for t in (torch.uint16, torch.uint32, torch.uint64)}, out / "unsigned.pt")
    torch.save({"epoch": 12, "global_step": 345, "pytorch-lightning_version": "2.4.0",
                "state_dict": collections.OrderedDict(("model." + k, v) for k, v in state.items()),
                "optimizer_states": [adam.state_dict()], "lr_schedulers": [{"last_epoch": 12, "_last_lr": [1e-3]}],
                "hyper_parameters": {"net": net, "lr": 1e-3, "shape": torch.Size([1, 2, 3]), "dtype": torch.float32},
                "callbacks": {"checkpoint": Callback()}, "loops": {"fit": {"counter": collections.Counter("abca")}}},
               out / "lightning.ckpt")
    ddp = {"epoch": 12, "model_state_dict": collections.OrderedDict(("module." + k, v) for k, v in state.items()),
           "optimizer_state_dict": adam.state_dict()}
    torch.save(ddp, out / "ddp.tar")  # a torch file in spite of its name
    with tarfile.open(out / "wrapped.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in (("release/readme.txt", b"weights\n"), ("release/checkpoint_100.tar", (out / "ddp.tar").read_bytes())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    torch.save(net, out / "module.pt")
    torch.save({"teacher": state, "student": state, "step": 3}, out / "teacher_student.pth")
    torch.jit.save(torch.jit.script(torch.nn.Sequential(collections.OrderedDict(stem=net.stem, norm=net.norm))),
                   out / "script.pt")
    torch.save({"sparse": torch.eye(2).to_sparse(), "complex": torch.ones(2, dtype=torch.complex64),
                "dense": ramp(2)}, out / "sparse.pt")


main()
