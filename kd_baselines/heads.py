"""A student with two heads: transfer from a net for other classes, without forgetting them.

Target classes are those to be learned, source classes those that the teacher knows. Only images of
the target data are seen. The trunk and both heads train on `lwf_objective`.

References:
    Li and Hoiem, Learning without forgetting, 2016, https://arxiv.org/abs/1606.09282
    Srinivas and Fleuret, Knowledge transfer with Jacobian matching, 2018,
        https://arxiv.org/abs/1803.00443,
    section 5
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.copying import bare_net, copy_net
from datadistill.nets.initialization import draw
from datadistill.nets.weights import last_layer
from kd_baselines.losses.cross_entropy import CE
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.term import Objective, Term

if TYPE_CHECKING:
    from kd_baselines.losses.input_gradients import Output

__all__ = ["TwoHeaded", "lwf_objective", "two_headed"]


class TwoHeaded(nn.Module):
    """A trunk, and two heads beside each other on its features.

    The output is the target logits. Each forward pass also runs the layer `source`, whose output is
    the source logits: terms read them there.

    Args:
        trunk: images (B,C,H,W) to features, (B,features) once flattened.
        features: numbers that the trunk makes of an image.
        target_classes: logits of the head `target`, trained with labels.
        source_classes: logits of the head `source`, trained with the teacher's.
    """

    def __init__(
        self, trunk: nn.Module, features: int, target_classes: int, source_classes: int
    ) -> None:
        super().__init__()
        for what, number in (
            ("features", features),
            ("target_classes", target_classes),
            ("source_classes", source_classes),
        ):
            _at_least_one(what, number)
        self.trunk = trunk
        self.target: nn.Module = nn.Linear(features, target_classes)
        self.source: nn.Module = nn.Linear(features, source_classes)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b target"]:
        found = self.trunk(images).flatten(1)
        wanted = getattr(self.target, "in_features", found.shape[1])
        if found.shape[1] != wanted:
            raise UsageError(
                f"the trunk makes {found.shape[1]} features of an image, but the heads were made "
                f"for {wanted}; pass features={found.shape[1]}"
            )
        self.source(found)  # for whoever listens at this layer
        logits: Tensor = self.target(found)
        return logits


class _Part(nn.Module):
    """Columns `start` to `stop` - 1."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, both: Tensor) -> Tensor:
        return both[:, self.start : self.stop]


class _Beside(nn.Module):
    """Two layers on the same input, their outputs in one tensor."""

    def __init__(self, target: nn.Module, source: nn.Module, dim: int) -> None:
        super().__init__()
        self.target, self.source, self.dim = target, source, dim

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([self.target(inputs), self.source(inputs)], self.dim)


class _Split(nn.Module):
    """A classifier whose last layer is a `_Beside`: its columns are the logits of both heads."""

    def __init__(self, trunk: nn.Module, target_classes: int, source_classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.target = _Part(0, target_classes)
        self.source = _Part(target_classes, target_classes + source_classes)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b target"]:
        both = self.trunk(images)
        if both.ndim != 2 or both.shape[1] != self.source.stop:
            raise UsageError(
                f"the net with two heads makes {tuple(both.shape)} of a batch; wanted (batch, "
                f"{self.source.stop}), the columns of its last layer: build a TwoHeaded(trunk, "
                "...) of your own"
            )
        self.source(both)  # for whoever listens at this layer
        logits: Tensor = self.target(both)
        return logits


def two_headed(
    net: nn.Module, source_classes: int, generator: torch.Generator | None = None
) -> nn.Module:
    """A copy of a classifier with a second head beside its last layer, drawn by torch's default.

    The last layer is the last linear or convolution layer that the net registers, as for pretrained
    weights (`datadistill.nets.weights.last_layer`). What the net computes behind it (SqueezeNet:
    ReLU and pooling) is computed for both heads. The logits of the old head stay exactly what they
    were.

    Its modules are `trunk` (the copy; where `fc` was, `trunk.fc.target` is the old layer and
    `trunk.fc.source` the new one), `target` and `source`, whose outputs are the logits of the two
    heads.

    Args:
        net: a classifier of the target classes, such as one with pretrained weights and a fresh
            last layer. It is not changed.
        source_classes: logits of the second head, 1 or more: the teacher's classes.
        generator: on the CPU, of the new head; None: torch's global one, as in module constructors.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> student, images = two_headed(net, source_classes=10), torch.ones(2, 1, 4, 4)
        >>> torch.equal(student(images), net(images))
        True
    """
    _at_least_one("source_classes", source_classes)
    net = bare_net(net)
    path = last_layer(net)
    trunk = copy_net(net)
    old = trunk.get_submodule(path)
    behind = [name for name, _ in net.named_modules()]
    behind = behind[behind.index(path) + 1 :]
    mixing = [name for name in behind if isinstance(net.get_submodule(name), _MIXING)]
    if mixing:
        raise UsageError(
            f"the net has a {type(net.get_submodule(mixing[0])).__name__} ({mixing[0]}) behind its "
            f"last layer ({path}), which would mix the two heads; take it out, so that the "
            "net gives logits"
        )
    new = _make_like(old, path, source_classes)
    if generator is not None:
        new.load_state_dict(draw(new, "default", generator))
    beside = _Beside(old, new, dim=-1 if isinstance(old, nn.Linear) else 1)
    beside.train(old.training)
    # a compiled layer is replaced with its wrapper
    while path.endswith("._orig_mod"):
        path = path.removesuffix("._orig_mod")
    if path:
        trunk.set_submodule(path, beside)
    else:
        trunk = beside
    classes = old.out_features if isinstance(old, nn.Linear) else old.out_channels
    assert isinstance(classes, int)
    student = _Split(trunk, classes, source_classes)
    for module in (student, student.target, student.source):
        module.training = net.training
    return student


def take_target(student: nn.Module) -> nn.Module:
    """A copy of the classifier of the target classes in a student that `two_headed` made: the net
    that it was given, as it is trained now."""
    assert isinstance(student, _Split)
    net = copy_net(student.trunk)
    for path, module in list(net.named_modules()):
        if isinstance(module, _Beside):
            if not path:
                return module.target
            net.set_submodule(path, module.target)
    return net


_MIXING = (nn.Softmax, nn.LogSoftmax, nn.Softmax2d, nn.Softmin)


def _make_like(layer: nn.Module, path: str, outputs: int) -> nn.Module:
    """A fresh layer of the same kind with another number of outputs."""
    if type(layer) is nn.Linear:
        new: nn.Module = nn.Linear(layer.in_features, outputs, layer.bias is not None)
    elif type(layer) is nn.Conv2d and layer.groups == 1:
        new = nn.Conv2d(
            layer.in_channels,
            outputs,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            bias=layer.bias is not None,
            padding_mode=layer.padding_mode,
        )
    else:
        raise UsageError(
            f"the net's last layer {path!r} is {layer}; a second head goes beside a Linear or an "
            "ungrouped Conv2d: build a TwoHeaded(trunk, ...) of your own"
        )
    like = layer.weight
    assert isinstance(like, Tensor)
    return new.to(like.device, like.dtype)


def lwf_objective(
    *,
    activations: Weight = 1.0,
    jacobian: Weight = 0.0,
    attention: Weight = 0.0,
    attention_jacobian: Weight = 0.0,
    layers: Mapping[str, str] | None = None,
    output: Output = "top",
    balanced: bool = True,
) -> Objective:
    """Cross-entropy on the target head, and any of four terms that keep what the teacher knows, by
    weight.

    Srinivas and Fleuret 2018, section 5; the columns of its table on MIT Scenes. As plain sums of
    squares the terms are of any size: the logits of an ImageNet SqueezeNet on photographs of 64 px
    begin at 87,000, beside 3.0 of the labels of 20 classes. Balanced, a fresh student begins with
    numbers that depend neither on the number of classes, nor on the size of images and maps, nor on
    the scale of the teacher's logits:

        labels                 log K of K target classes
        activations            near 1: 1 for no knowledge, 0 at the end (`relative`)
        Jacobian               near 2: 2 - 2 cos, from 0 to 4 (`normalize`)
        attention              below sqrt(2), a pair of layers
        attention-Jacobian     near 2: 2 - 2 cos, from 0 to 4, a pair of layers

    so that weights of 1 give all terms a say.

    Args:
        activations: of `LogitRegression` on the source head; 0 leaves a term out, here and below.
        jacobian: of `JacobianMatching` on the source head.
        attention: of `AttentionTransfer` of `layers`, form "jm".
        attention_jacobian: of `AttentionJacobian` of `layers`.
        layers: the student's layer -> the teacher's. In a student made by `two_headed` they are
            below `trunk`.
        output: of `JacobianMatching`: "top", "full" or "projected"; the labels are no source
            classes.
        balanced: False takes half the squared distance of the logits and the squared distance of
            the Jacobians as they are; the other two terms are normalized anyway.
    """
    from kd_baselines.losses.attention import AttentionTransfer
    from kd_baselines.losses.attention_jacobian import AttentionJacobian
    from kd_baselines.losses.jacobian import JacobianMatching
    from kd_baselines.losses.logit_regression import LogitRegression

    if output == "label":
        raise UsageError(
            'output is "label", but the labels are target classes and the Jacobian is of source '
            'classes; give "top", "full" or "projected"'
        )
    terms: list[Term] = [CE()]
    if activations != 0:
        terms.append(LogitRegression(weight=activations, output="source", relative=balanced))
    if jacobian != 0:
        terms.append(JacobianMatching(output, weight=jacobian, normalize=balanced, logits="source"))
    if attention != 0:
        terms.append(AttentionTransfer(layers or {}, form="jm", weight=attention))
    if attention_jacobian != 0:
        terms.append(AttentionJacobian(layers or {}, weight=attention_jacobian))
    return Objective(*terms)


def _at_least_one(what: str, number: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise UsageError(f"{what} is {number!r}; give a whole number, at least 1")
