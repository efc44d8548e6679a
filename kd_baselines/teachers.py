"""The teacher: one net or an ensemble, frozen.

Notation: M nets with logits v_1..v_M, temperature T, p(T) the teacher's probabilities. The teacher
gives logits v(T) with softmax(v(T) / T) = p(T):

    one net             v(T) = v_1
    geometric mean      v(T) = mean_k v_k
                        p(T) ~ (prod_k softmax(v_k / T))^(1/M), normalized
    arithmetic mean     v(T) = T log mean_k softmax(v_k / T) + mean_k T logsumexp(v_k / T)
                        p(T) = mean_k softmax(v_k / T): soften, then average

The last summand is a number a sample, which no softmax sees; with it, equal nets give the logits of
one net and not only its probabilities, so that a regression on logits is the same too.

Reference: FitNets (Romero et al. 2015, https://arxiv.org/abs/1412.6550), section 2.1, for the two
means.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from datadistill.errors import UsageError, suggest
from datadistill.innerloop.net_mode import NetMode
from datadistill.nets.copying import bare_net, copy_net
from datadistill.runs.canonical import canonical_json
from datadistill.runs.signals import poll
from datadistill.runs.tensors import checksum
from kd_baselines.features import Layer, Outputs, run
from kd_baselines.losses.divergence import SMALL, exp_rest, to_double

__all__ = ["Teacher", "TeacherOutputs", "drop_graphs"]

AVERAGES = ("arithmetic", "geometric")
MODES = ("eval", "batch_stats")


@dataclass(frozen=True, eq=False)
class TeacherOutputs:
    """A teacher's outputs for one batch.

    Args:
        members: (M,B,K) logits of each net; None where logits were not asked for.
        features: outputs of layers by name, and readings of them (`features.Reading`).
        average: how several nets become one: "arithmetic" or "geometric".
    """

    members: Float[Tensor, "m b k"] | None
    features: Mapping[Layer, Tensor] = field(default_factory=dict)
    average: str = "arithmetic"

    @cached_property
    def logits(self) -> Float[Tensor, "b k"] | None:
        """v(1), (B,K); None where logits were not asked for."""
        return None if self.members is None else self.at(1.0)

    def at(self, temperature: float) -> Float[Tensor, "b k"]:
        """v(T): logits whose softmax at temperature T is the teacher's probabilities at T."""
        if not 0 < temperature < float("inf"):
            raise UsageError(
                f"the temperature is {temperature!r}; give a finite number above 0, such as 4"
            )
        if self.members is None:
            raise UsageError("the teacher's logits were not computed; ask for them (logits=True)")
        if len(self.members) == 1:
            return self.members[0]
        if self.average == "geometric":
            return self.members.mean(0)
        return _arithmetic(self.members, float(temperature))


def _arithmetic(members: Float[Tensor, "m b k"], T: float) -> Float[Tensor, "b k"]:
    """v(T) = mean_k v_k + T log mean_k e^(d_k), d_k = log softmax(v_k/T) minus its mean over the
    nets.

    For T to infinity the second summand vanishes as 1/T, and would be rounding alone if it were the
    difference of T times numbers near log K.
    """
    v = to_double(members)
    norm = v.amax(2, keepdim=True)
    norm = norm + T * ((v - norm) / T).logsumexp(2, keepdim=True)
    log_p = v - norm  # T log softmax(v_k/T)
    away = log_p - log_p.mean(0)  # T d_k
    near = (away.abs() <= SMALL * T).all(0)
    small = T * exp_rest(torch.where(near, away / T, 0.0)).mean(0).log1p()
    far = T * ((log_p / T).logsumexp(0) - math.log(len(v))) + norm.mean(0)
    return torch.where(near, v.mean(0) + small, far).to(members.dtype)


class Teacher:
    """One net or an ensemble, in evaluation mode at every forward and without a gradient.

    The nets themselves are used, not copies. Each forward puts a net in evaluation mode and its
    modules back in the modes they were in; `requires_grad` is never touched, and no gradient
    reaches a tensor of the nets. Do not pass the net that is to be trained: give it a
    `copy.deepcopy`.

    Args:
        nets: images (B,C,H,W) to logits (B,K), the same K for all; at least one.
        average: mean of several nets: "arithmetic", of their probabilities, or "geometric", of
            their logits.
        mode: "eval"; or "batch_stats": BatchNorm normalizes with the statistics of the batch,
            without writing its buffers, and everything else (dropout) is in evaluation mode. An
            answer then depends on the whole batch.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.5))
        >>> teacher = Teacher(net)
        >>> out = teacher.outputs(torch.ones(2, 1, 2, 2), ["1"])
        >>> torch.equal(out.features["1"], out.logits), out.logits.requires_grad, net[2].training
        (True, False, True)
    """

    def __init__(self, *nets: nn.Module, average: str = "arithmetic", mode: str = "eval") -> None:
        if not nets:
            raise UsageError("a teacher has no net; pass at least one")
        for net in nets:
            if not isinstance(net, nn.Module):
                raise UsageError(
                    f"a teacher's net is a {type(net).__name__}; pass modules of torch (weights "
                    "in a file: module.load_state_dict(torch.load(FILE)); a file or run of ours: "
                    "kd_baselines.SavedNet.load(FILE).to_teacher())"
                )
        for what, value, known in (("average", average, AVERAGES), ("mode", mode, MODES)):
            if value not in known:
                raise UsageError(f"a teacher has no {what} {value!r}; {suggest(str(value), known)}")
        self.nets, self.average, self.mode = nets, average, mode
        self._digests = _digests(nets)
        self._whole: set[tuple[Layer, ...]] = (
            set()
        )  # layers that a whole forward has been tapped for

    @cached_property
    def hash(self) -> str:
        """'sha256:' and the digest of names, dtypes, shapes and bytes of all parameters and buffers
        of all nets, when the teacher was made."""
        return f"sha256:{hashlib.sha256(canonical_json(self._digests).encode()).hexdigest()}"

    def check(self) -> None:
        """Refuse nets whose tensors are not what they were when the teacher was made, naming
        them."""
        found = _digests(self.nets)
        names = [n for n in {**self._digests, **found} if found.get(n) != self._digests.get(n)]
        if names:
            more = f" and {len(names) - 5} more tensors" if len(names) > 5 else ""
            raise UsageError(
                f"the teacher has changed since it was made: {', '.join(names[:5])}"
                f"{more}; something trains or "
                "writes its net: give whatever does that a net of its own (copy.deepcopy)"
            )

    def to(self, device: torch.device | str) -> Teacher:
        """This teacher where its tensors are all on the device; else a teacher of copies there."""
        device = torch.device(device)
        tensors = (t for net in self.nets for t in (*net.parameters(), *net.buffers()))
        if all(
            t.device.type == device.type and device.index in (None, t.device.index) for t in tensors
        ):
            return self
        return Teacher(
            *(copy_net(n).to(device) for n in self.nets), average=self.average, mode=self.mode
        )

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Logits (B,K), v(1). Where the images require a gradient, the graph to them is kept."""
        graph = images.requires_grad and torch.is_grad_enabled()
        logits = self.outputs(images, input_gradients=graph).logits
        assert logits is not None
        return logits

    def outputs(
        self,
        images: Float[Tensor, "b c h w"],
        layers: Collection[Layer] = (),
        *,
        logits: bool = True,
        input_gradients: bool = False,
        index: Int[Tensor, " b"] | None = None,
        view: int | None = None,
    ) -> TeacherOutputs:
        """The teacher's logits and features for a batch, without a graph unless `input_gradients`.

        Args:
            images: (B,C,H,W), on the nets' device.
            layers: names of layers whose outputs are wanted, or readings of them
                (`kd_baselines.features`); of one net only.
            logits: False computes the layers alone, and nothing after the last of them.
            input_gradients: keep the graph to the images, which must require a gradient; there is
                none to the nets' tensors.
            index, view: not used; a `CachedTeacher` looks up by them.
        """
        poll()
        names = tuple(dict.fromkeys(layers))
        if names and len(self.nets) > 1:
            raise UsageError(
                f"layers {', '.join(map(str, names))} of an ensemble of {len(self.nets)} nets are "
                "asked for, but an ensemble has logits only; take one net as the teacher, or a "
                "method without features"
            )
        if input_gradients and not images.requires_grad:
            raise UsageError(
                "input_gradients is True, but the images do not require a gradient; pass a leaf "
                "that does (images.detach().requires_grad_())"
            )
        if not names and not logits:
            return TeacherOutputs(None, {}, self.average)
        # once whole for each set of layers: a layer that is called again further on is refused then
        whole = logits or names not in self._whole
        each = [self._forward(net, images, names, whole, input_gradients) for net in self.nets]
        self._whole.add(names)
        if not logits:
            return TeacherOutputs(None, each[0].features, self.average)
        found = [out.logits for out in each if out.logits is not None]
        shapes = {tuple(v.shape) for v in found}
        if len(shapes) > 1 or any(len(s) != 2 or s[0] != len(images) for s in shapes):
            raise UsageError(
                f"the teacher's nets make {', '.join(map(str, sorted(shapes)))} of {len(images)} "
                f"images, wanted logits ({len(images)}, classes), the same of all; take nets "
                "trained on the same classes"
            )
        return TeacherOutputs(torch.stack(found), each[0].features, self.average)

    def _forward(
        self, net: nn.Module, images: Tensor, names: tuple[Layer, ...], logits: bool, graph: bool
    ) -> Outputs:
        norm = "batch" if self.mode == "batch_stats" else "frozen"
        net = bare_net(net) if graph else net  # replicas take no other tensors
        try:
            with torch.set_grad_enabled(graph), NetMode(net, norm, training=False):
                own = (*net.named_parameters(), *net.named_buffers())
                # which takes no other tensors
                if graph and isinstance(net, torch.jit.ScriptModule):
                    return _freeze_forward(net, lambda: run(net, images, names, logits=logits))
                tensors = {name: _to_ordinary(tensor) for name, tensor in own} if graph else None
                try:
                    return run(net, images, names, logits=logits, tensors=tensors)
                finally:
                    if graph:
                        drop_graphs(net)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UsageError(
                "the teacher's mode is batch_stats, but a batch has one value a channel in a "
                "BatchNorm layer, which has no variance; pass two images or more, or "
                "take the mode eval"
            ) from error


def _freeze_forward(net: nn.Module, forward: Callable[[], Outputs]) -> Outputs:
    """A forward pass whose graph reaches the images and none of the net's parameters."""
    own = [p for p in net.parameters() if p.requires_grad]
    try:
        for p in own:
            p.requires_grad_(False)
        return forward()
    finally:
        for p in own:
            p.requires_grad_(True)


def drop_graphs(net: nn.Module) -> None:
    """Cut the graph of tensors that a net keeps of its forward pass as attributes, which no copy
    could take."""
    for module in net.modules():
        for name, value in list(vars(module).items()):
            if name.startswith("_"):  # what torch itself keeps
                continue
            vars(module)[name] = _cut(value)


def _cut(value: Any) -> Any:
    """A tensor without its graph; a list or dictionary of such, changed in place."""
    if isinstance(value, Tensor) and value.grad_fn is not None:
        return value.detach()
    if type(value) is list:
        value[:] = [_cut(one) for one in value]
    if type(value) is dict:
        value.update({key: _cut(one) for key, one in value.items()})
    return tuple(_cut(one) for one in value) if type(value) is tuple else value


def _to_ordinary(tensor: Tensor) -> Tensor:
    """Without a graph; one made under inference_mode could not be saved for a gradient."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def _digests(nets: tuple[nn.Module, ...]) -> dict[str, str]:
    """Name -> checksum of name, dtype, shape and bytes, for every parameter and buffer."""
    found = {}
    for k, net in enumerate(nets):
        prefix = f"net {k}: " if len(nets) > 1 else ""
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            found[prefix + name] = checksum({name: tensor})
    return found
