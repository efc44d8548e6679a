"""T^2 KL at every temperature, against 400 digits; half precision; derivatives of every order."""

from decimal import Decimal, localcontext

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from loss_cases import close

from kd_baselines.losses import fitnets_kd_loss, soft_target_loss
from kd_baselines.losses.divergence import scaled_divergence
from kd_baselines.teachers import TeacherOutputs

TEMPERATURES = [1e-320, 1e-30, 1e-3, 0.1, 1.0, 4.0, 100.0, 3e3, 1e4, 1e8, 1e16, 1e38, 1e150]
K = 5


def draw(scale=3.0, seed=0, b=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(2, b, K, generator=generator, dtype=torch.float64)).to(dtype)


def softmax(row, T):
    top = max(row)
    exps = [((x - top) / T).exp() for x in row]
    return [e / sum(exps) for e in exps], [(x - top) / T - sum(exps).ln() for x in row]


def oracle(z, v, T):
    """Mean T^2 KL and its gradient in z, in 400 digits."""
    with localcontext() as context:
        context.prec = 400
        T, total, gradient = Decimal(T), Decimal(0), []
        for row, theirs in zip(z.double().tolist(), v.double().tolist(), strict=True):
            (p, log_p), (q, log_q) = (
                softmax([Decimal(x) for x in one], T) for one in (theirs, row)
            )
            total += T * T * sum(a * (b - c) for a, b, c in zip(p, log_p, log_q, strict=True))
            gradient.append([float(T * (b - a) / len(z)) for a, b in zip(p, q, strict=True)])
        return float(total / len(z)), torch.tensor(gradient, dtype=torch.float64)


@pytest.mark.parametrize("T", TEMPERATURES)
@pytest.mark.parametrize("scale", [1e-3, 3.0, 1e4])
def test_soft_targets_are_right_to_rounding(T, scale):
    z, v = draw(scale, b=2)
    z.requires_grad_()
    loss = soft_target_loss(z, v, T)
    value, gradient = oracle(z.detach(), v, T)
    assert loss.item() == pytest.approx(value, rel=1e-12, abs=1e-310)
    (found,) = torch.autograd.grad(loss, z)
    torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-15 * min(max(T, 1e-290), scale))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("T", [1e-3, 1.0, 3e3, 1e4, 1e38])
def test_narrow_logits_are_computed_in_float64(dtype, T):
    z, v = draw(dtype=dtype)
    z.requires_grad_()
    loss = soft_target_loss(z, v, T)
    value, gradient = oracle(z.detach(), v, T)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(value, rel=1e-6)
    (found,) = torch.autograd.grad(loss, z)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), gradient, rtol=eps, atol=eps * min(T, 1.0))


@pytest.mark.parametrize("T", [0.3, 4.0, 400.0])
def test_derivatives_are_finite_differences_up_to_the_third(T):
    z, v = draw(b=2)
    z.requires_grad_()

    def loss(z):
        return scaled_divergence(z, v, T)

    def gradient(z):
        return torch.autograd.grad(loss(z).sum(), z, create_graph=True)[0]

    assert torch.autograd.gradcheck(loss, z, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(loss, z)
    assert torch.autograd.gradgradcheck(gradient, z)


def test_the_hessian_is_the_softmax_covariance():
    z, v = draw(b=1)
    found = torch.func.hessian(lambda z: scaled_divergence(z, v, 1e6).sum())(z)[0, :, 0]
    q = (z[0] / 1e6).softmax(0)
    close(found, q.diag() - q.outer(q))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_vmapped_gradient_is_each_nets_own(dtype):
    z, other, v = (x.to(dtype) for x in (*draw(), draw(seed=1)[0]))
    gradient = torch.func.grad(lambda z: scaled_divergence(z, v, 4.0).sum())
    found = torch.func.vmap(gradient)(torch.stack([z, other]))
    torch.testing.assert_close(found, torch.stack([gradient(z), gradient(other)]))


def test_a_gradient_without_a_graph_has_a_forward_derivative():
    z, v = draw()
    direction = v.flip(0)
    wanted = torch.autograd.functional.hvp(lambda z: soft_target_loss(z, v, 2.0), z, direction)[1]
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(z.requires_grad_(), direction)
        (gradient,) = torch.autograd.grad(soft_target_loss(dual, v, 2.0), dual)
        torch.testing.assert_close(forward_ad.unpack_dual(gradient).tangent, wanted)


def test_a_class_that_the_teacher_excludes_costs_its_q():
    z, v = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[0.0, 2.0, -torch.inf]])
    p, log_q = torch.tensor([[0.0, 2.0]]).softmax(1), z.log_softmax(1)[:, :2]
    torch.testing.assert_close(soft_target_loss(z, v, 1.0), (p * (p.log() - log_q)).sum())


@pytest.mark.parametrize("T", [1.0, 3e3, 1e8, 1e30])
def test_fitnets_gradient_is_right_to_rounding(T):
    z, v = draw(dtype=torch.float32)
    z.requires_grad_()
    y = torch.arange(3)
    both, hard = fitnets_kd_loss(z, v, y, T, lam=1.0), fitnets_kd_loss(z, v, y, T, lam=0.0)
    (found,) = torch.autograd.grad(fitnets_kd_loss(z, v, y, T, lam=1e6) - 1e6 * hard.detach(), z)
    assert both > hard
    wanted = 1e6 * oracle(z.detach(), v, T)[1] / T / T + torch.autograd.grad(hard, z)[0].double()
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("T", [1.0, 3e3, 1e8, 1e30])
def test_an_arithmetic_mean_tends_to_the_mean_of_logits(T):
    members = draw(dtype=torch.float32)
    found = TeacherOutputs(members).at(T)
    wide = members.double()
    exact = T * ((wide / T).softmax(2).mean(0).log() + (wide / T).logsumexp(2).mean(0)[:, None])
    wanted = exact.float() if T < 1e6 else members.mean(0)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-5)
