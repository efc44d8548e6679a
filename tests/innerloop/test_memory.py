"""What each adjoint keeps: FullUnroll a graph a step, StepReplay parameters a step and one graph in
all.

Bytes are counted where they are held: those that autograd saves for its backward pass, through
`torch.autograd.graph.saved_tensors_hooks`, and those of all tensors that are alive.
"""

import gc

import pytest
import torch
from inner_cases import case

from datadistill.innerloop import (
    Auto,
    FullUnroll,
    StepReplay,
    Steps,
    Truncated,
    momentum,
    sgd,
    unroll,
)


class Meter(torch.autograd.graph.saved_tensors_hooks):
    """Bytes that autograd has saved and not yet let go: now (`live`), and at most (`peak`)."""

    class Saved:
        def __init__(self, meter, x):
            self.meter, self.x = meter, x
            meter.live += x.nbytes
            meter.peak = max(meter.peak, meter.live)

        def __del__(self):
            self.meter.live -= self.x.nbytes

    def __init__(self):
        self.live = self.peak = 0
        super().__init__(lambda x: self.Saved(self, x), lambda saved: saved.x)

    def __enter__(self):
        super().__enter__()
        return self


def alive():
    """Bytes of the storages of all tensors alive."""
    gc.collect()
    tensors = [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]
    # sparse and lazy ones of other tests have no storage
    tensors = [
        x for x in tensors if x.layout == torch.strided and not torch.nn.parameter.is_lazy(x)
    ]
    return sum(
        {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values()
    )


def measure(adjoint, T, update):
    """(saved bytes after the forward pass, bytes it left alive, most saved bytes up to the
    gradient's end)."""
    problem = case("lenet", T=1, eta=0.01)
    base = {k: problem.inputs[k] for k in ("images.0", "labels.0")}
    etas = torch.full((T,), 0.01, dtype=torch.float64, requires_grad=True)
    steps = Steps(base, lambda b, t: (b["images.0"], b["labels.0"]), T)
    before = alive()
    with Meter() as meter:
        theta_T = unroll(problem.net, problem.theta_0(), steps, etas, update, adjoint)
        saved, kept = meter.live, alive() - before
        outer = problem.outer(theta_T)
        torch.autograd.grad(outer, [base["images.0"], etas])
    size = sum(p.nbytes for p in problem.theta_0().values())
    return saved, kept, meter.peak, size, base["images.0"].nbytes + base["labels.0"].nbytes


@pytest.mark.parametrize(
    "update, copies", [(sgd(), 1), (momentum(0.9), 2)], ids=["sgd", "momentum"]
)
def test_step_replay_keeps_parameters_and_inputs_only(update, copies):
    results = {T: measure(StepReplay(), T, update) for T in (2, 4, 8)}
    for T, (saved, _, _, _, inputs) in results.items():
        assert saved == inputs + 8 * T  # base tensors and step sizes: no graph
    size = results[2][3]
    # theta_t and the rule's state a step, plus a few bytes for the step sizes
    for a, b in [(2, 4), (4, 8)]:
        growth = (results[b][1] - results[a][1]) / (b - a)
        assert copies * size <= growth <= 1.01 * copies * size
    assert results[8][2] <= 1.02 * results[2][2]  # never more than one step's graph


def test_full_unroll_keeps_a_graph_a_step():
    saved = {T: measure(FullUnroll(), T, sgd()) for T in (2, 4, 8)}
    size = saved[2][3]
    a_step = (saved[4][0] - saved[2][0]) / 2
    assert a_step > size  # theta_t and the activations
    assert (saved[8][0] - saved[4][0]) / 4 == pytest.approx(a_step, rel=0.02)
    assert saved[8][2] > 3 * saved[2][2]


def test_auto_replays_where_more_steps_are_differentiated():
    auto = Auto(most=1)
    for adjoint, T, same in (
        (auto, 1, FullUnroll()),
        (auto, 2, StepReplay()),
        (Truncated(1, auto), 3, Truncated(1, FullUnroll())),
        (Truncated(2, auto), 3, Truncated(2, StepReplay())),
    ):
        assert measure(adjoint, T, sgd())[0] == measure(same, T, sgd())[0]


def test_truncation_keeps_the_windows_graphs():
    full = {T: measure(FullUnroll(), T, sgd())[0] for T in (3, 8)}
    window = {T: measure(Truncated(3), T, sgd())[0] for T in (6, 8)}
    assert window[6] == pytest.approx(window[8], rel=0.01)
    assert window[8] <= 1.05 * full[3] < 0.5 * full[8]


def test_no_grad_keeps_nothing():
    problem = case("lenet", T=3)
    before = alive()
    with torch.no_grad(), Meter() as meter:
        theta_T = problem.theta_T()
        assert meter.live == 0
    assert alive() - before <= 1.01 * sum(p.nbytes for p in theta_T.values())


def test_nothing_is_left_after_the_gradient():
    problem = case("lenet", T=3)
    problem.gradients(adjoint=StepReplay())
    before = alive()
    for adjoint in (FullUnroll(), StepReplay(), Truncated(2)):
        problem.gradients(adjoint=adjoint)
        assert alive() == before
