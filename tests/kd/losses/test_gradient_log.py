"""What the gradient of BAN's loss is made of, reported beside it."""

import pytest
import torch
import torch.nn.functional as F
from loss_cases import close, gradient, labels, logits, seen

from datadistill.training.fit_plan import FitPlan
from kd_baselines.losses import BornAgain, born_again_loss, log_gradient
from kd_baselines.methods import stages_of

B, K = 6, 5
FOUR = ["dark_knowledge", "ground_truth", "least_weight", "most_weight"]


def logged(z, v):
    return {k: x for k, x in (BornAgain() + log_gradient())(seen(z, v)).items() if k in FOUR}


@pytest.mark.parametrize("seed", range(3))
def test_the_parts_add_up_to_the_square_of_the_gradient(seed):
    z, v = logits(seed)
    found = logged(z, v)
    whole = B * gradient(lambda z: born_again_loss(z, v), z)  # of each image's own loss
    close(found["dark_knowledge"] + found["ground_truth"], whole.square().sum(1).mean())
    at_label = whole.gather(1, labels().unsqueeze(1))
    close(found["ground_truth"], at_label.square().mean())


def test_weights_are_the_confidences_over_their_mean():
    z, v = logits()
    p = F.softmax(v, 1).amax(1)
    found = logged(z, v)
    close(found["least_weight"], p.min() / p.mean())
    close(found["most_weight"], p.max() / p.mean())
    equal = logged(z, v.sort(1).values[:1].expand(B, K))
    assert float(equal["least_weight"]) == pytest.approx(1) == float(equal["most_weight"])


def test_without_dark_knowledge_the_label_has_half_the_square():
    """Two classes: the parts are the same number with the other sign."""
    z, v = logits(k=2)
    batch = seen(z, v, labels=labels(k=2))
    found = (BornAgain() + log_gradient())(batch)
    close(found["dark_knowledge"], found["ground_truth"])


@pytest.mark.parametrize("method", ["born-again", "cwtm", "dkpp"])
def test_the_log_is_beside_the_loss_and_not_in_it(method):
    z, v = logits()
    with_log, without = (
        stages_of(method, FitPlan(epochs=1, lr=0.1), {"log_gradient": log})[0].objective
        for log in (True, False)
    )
    assert list(with_log(seen(z, v)))[-4:] == FOUR
    one, other = (gradient(lambda z, o=o: o(seen(z, v))["loss"], z) for o in (with_log, without))
    assert torch.equal(one, other)
