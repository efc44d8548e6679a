"""One step of a distiller on half of a batch, replicated over two processes: run by
test_replicated.py as `python replicated_steps.py RANK FILE FOLDER`."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import kd_baselines as kd
from kd_baselines import CE, KD, Distiller, Teacher


def make(seed, width):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.Tanh(), nn.Flatten(), nn.Linear(36 * width, 10)
    ).double()


def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 1, 8, 8, dtype=torch.float64, generator=generator)
    return images, torch.arange(8) % 10


def objective():
    return CE() + KD(T=2.0) + kd.AttentionTransfer({"0": "0"}, form="at_code", weight=10.0)


def gradients(student, part):
    """Of the student's parameters after one step on a part of the batch."""
    images, labels = batch()
    distiller = Distiller(student, objective(), Teacher(make(1, 6)))
    distiller.step((images[part], labels[part]))["loss"].backward()
    return [p.grad for p in student.parameters()]


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[3])
    dist.init_process_group("gloo", f"file://{sys.argv[2]}", rank=rank, world_size=2)
    student = DistributedDataParallel(make(0, 4))
    torch.save(gradients(student, slice(4 * rank, 4 * rank + 4)), folder / f"{rank}.pt")
    dist.destroy_process_group()
