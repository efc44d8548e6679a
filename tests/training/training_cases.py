"""Distillations of scikit-learn's digits with a net of a few hundred numbers."""

from __future__ import annotations

import json

from torch.optim import lr_scheduler

from datadistill.config import DistillConfig, RunOptions
from datadistill.runs.state import flatten_state, unflatten_state
from datadistill.runs.tensors import pack, unpack
from datadistill.training.learning_from_config import learning_of

MLP = {"net": "mlp", "net_args": {"width": 6, "depth": 1}}
CONVNET = {"net": "convnet", "net_args": {"depth": 2, "width": 4, "norm": "instance"}}
# everything a run can remember: momentum in the inner loop, soft labels, clipping, a schedule, the
# best so far
MIXED = {
    **MLP,
    "theta_0": "random",
    "nets": 2,
    "ipc": 2,
    "steps": 2,
    "epochs": 2,
    "labels": "soft",
    "step_sizes": "per-tensor",
    "update": "momentum",
    "update_args": {"beta": 0.5},
    "images_from": "real",
    "schedule": "cosine",
    "warmup": 2,
    "clip": 1.1,
    "validate_every": 2,
    "validate_nets": 3,
    "keep": "best",
    "iterations": 5,
    "augment": ("crop", "color_crop_rotate"),
    "lr_images": 0.3,
    "lr_step_sizes": 0.3,
}
FEATURES = {"method": "distribution-matching", **CONVNET, "batch": 20}
TRAINED = {
    **FEATURES,
    "method": "improved-distribution-matching",
    "method_args": {"pool_size": 2, "max_age": 4, "class_weight": 0.5, "minibatch": 50, "lr": 0.2},
}


def config(**changes):
    small = {
        **MLP,
        "dataset": "digits",
        "theta_0": "random",
        "epochs": 2,
        "step_size": 0.1,
        "iterations": 3,
    }
    return DistillConfig(
        **{
            **small,
            "batch": 32,
            "validate_every": 3,
            "validate_nets": 2,
            "device": "cpu",
            **changes,
        }
    )


def loop(data, module=None, **changes):
    return learning_of(config(**changes), RunOptions(), data, module)


def bytes_of(d, folder):
    d.save(folder / "set")
    return (folder / "set").read_bytes()


def through_a_checkpoint(state):
    """What a state is after it has been on disk."""
    tensors, plain = flatten_state(state)
    tensors, _ = unpack(pack(tensors, {"schema": 1}), schema=1, finite=False)
    return unflatten_state(tensors, json.loads(json.dumps(plain)))


def drive(studied, until):
    """The loop of a run, without folder and signals; the records of its looks."""
    records = []
    while studied.iteration < until:
        studied.advance()
        if studied.is_test_due():
            records.append(studied.validate())
    return records


def assert_resumes(data, folder, **changes):
    """A run of four iterations gives the same bytes twice, and stopped after two and resumed."""
    changes = {"iterations": 4, "validate_every": 3, **changes}
    straight, again, stopped, resumed = (loop(data, **changes) for _ in range(4))
    drive(straight, 4)
    drive(again, 4)
    drive(stopped, 2)
    resumed.load(through_a_checkpoint(stopped.state()))
    drive(resumed, 4)
    expected = bytes_of(straight.result(), folder)
    assert bytes_of(again.result(), folder) == expected
    assert bytes_of(resumed.result(), folder) == expected


def frozen(loop):
    """The bytes of everything an iteration may change."""
    state = loop.state()
    tensors, plain = flatten_state({k: state[k] for k in ("learned", "optimizer")})
    scalars = {k: state[k] for k in ("gradient_norm", "warned_of_edges", "loss_sum", "loss_count")}
    return pack(tensors, {"schema": 1}), json.dumps(plain), scalars


def leaves(loop):
    return {k: p.detach().clone() for k, p in loop.loop.synthetic.leaves().items()}


def to_double(learning):
    """The same in float64, to be held against finite differences."""
    from datadistill.data import Split
    from datadistill.starts import Fixed, Random

    method, synthetic = learning.loop.method, learning.loop.synthetic
    method.net.double()
    method.split = Split(method.split.images.double(), method.split.labels)
    synthetic.tensors = {
        k: x.detach().double().requires_grad_() for k, x in synthetic.tensors.items()
    }
    for name in ("rho", "logits"):
        leaf = getattr(synthetic, name)
        if leaf is not None:
            setattr(synthetic, name, leaf.detach().double().requires_grad_())
    fixed = isinstance(method.start, Fixed)
    method.start = Random(method.net, "xavier", 0)
    if fixed:
        method.start = Fixed(method.start.draw(0))
    return learning


def torch_scheduler(optimizer, plan):
    """The schedule of a plan, made of torch's own."""
    found = []
    if plan.warmup:
        found.append(lr_scheduler.LinearLR(optimizer, 1 / plan.warmup, total_iters=plan.warmup - 1))
    if plan.schedule == "linear":
        found.append(lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=plan.epochs))
    if plan.schedule == "cosine":
        found.append(lr_scheduler.CosineAnnealingLR(optimizer, plan.epochs))
    if plan.milestones:
        found.append(
            lr_scheduler.MultiStepLR(optimizer, list(plan.milestones), gamma=plan.decay_factor)
        )
    if plan.decay_epochs:
        found.append(lr_scheduler.StepLR(optimizer, plan.decay_epochs, plan.decay_factor))
    return lr_scheduler.ChainedScheduler(found or [lr_scheduler.ConstantLR(optimizer, 1.0)])
