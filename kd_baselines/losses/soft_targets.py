"""Soft targets: the student learns the teacher's probabilities, both softened by a temperature.

Notation: logits z of the student and v of the teacher, (B,K); temperature T (FitNets: tau);
P_S = softmax(z), P_S^T = softmax(z / T), P_T^T = softmax(v / T); H(p, q) = -sum_i p_i log q_i.

    Hinton et al.   T^2 KL(P_T^T || P_S^T)                          gradient in z: T (P_S^T - P_T^T)
    FitNets         H(y, P_S) + lambda H(P_T^tau, P_S^tau)          gradient of the H: (P_S^tau - P_T^tau) / tau

Conversion: the soft parts have the same gradient in z where the weight of the T^2 form is lambda / tau^2. So
FitNets' lambda from 4 to 1 at tau = 3 is a weight of T^2 KL from 0.444 to 0.111. Values differ by the entropy
of the teacher's soft targets, which the student cannot change.

References:
    Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, section 2;
    Romero et al., FitNets: Hints for Thin Deep Nets, 2015, eq. 1 and 2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from kd_baselines.losses.checks import NOT_GIVEN, at_least_float32, check_softmax, check_temperature, one_name
from kd_baselines.losses.divergence import in_double, scaled_divergence
from kd_baselines.losses.labels import class_labels
from kd_baselines.losses.schedules import Weight, check_weight
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["KD", "FitNetsKD", "fitnets_kd_loss", "soft_cross_entropy", "soft_target_loss"]


def soft_target_loss(
    student_logits: Float[Tensor, "b k"], teacher_logits: Float[Tensor, "b k"], temperature: float
) -> Float[Tensor, ""]:
    """T^2 KL(softmax(v/T) || softmax(z/T)), summed over classes, mean over the batch.

    The factor T^2 keeps the gradient T (q - p) / B of the same size at every T: for T -> infinity the loss goes
    to the squared distance of the centred logits over 2K. Right to rounding at every T (`losses.divergence`).
    No gradient flows to the teacher.

    Args:
        student_logits: z, (B,K), K at least 2.
        teacher_logits: v, (B,K); -inf is probability 0.
        temperature: T, above 0.

    Returns:
        A number, 0 or more; in float32 for logits of half precision.

    Raises:
        UsageError: shapes or classes that do not fit, or a temperature that is not above 0.

    Example:
        >>> import torch
        >>> soft_target_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, -2.0]]), temperature=4.0)
        tensor(1.7751)

    References:
        Hinton et al. 2015, section 2 and 2.1.
    """
    check_softmax(student_logits, teacher_logits)
    check_temperature(temperature)
    mean = scaled_divergence(student_logits, teacher_logits, temperature).mean()
    return mean.to(at_least_float32(student_logits).dtype)


def soft_cross_entropy(
    student_logits: Float[Tensor, "b k"],
    teacher_logits: Float[Tensor, "b k"],
    temperature: float,
    *,
    student_temperature: float | None = None,
) -> Float[Tensor, ""]:
    """H(softmax(v/tau), softmax(z/tau)), mean over the batch: the soft part of FitNets' loss, without tau^2.

    Args:
        student_logits: z, (B,K).
        teacher_logits: v, (B,K); no gradient flows to it.
        temperature: tau, above 0.
        student_temperature: of the student, above 0; None: tau, as in the paper.

    Returns:
        A number, at least the entropy of softmax(v/tau).

    Raises:
        UsageError: shapes or classes that do not fit, or a temperature that is not above 0.

    Example:
        >>> import torch
        >>> soft_cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, -2.0]]), temperature=4.0)
        tensor(0.6931)

    References:
        Romero et al. 2015, eq. 2, second summand.
    """
    check_softmax(student_logits, teacher_logits)
    student_temperature = temperature if student_temperature is None else student_temperature
    for T in (temperature, student_temperature):
        check_temperature(T)
    T = float(temperature)
    # H(p, q) = H(p) + KL(p || q): what depends on z is not rounded at the size of H, which is near log K
    z, v = in_double(student_logits), in_double(teacher_logits.detach())
    entropy = torch.special.entr(((v - v.amax(1, keepdim=True)) / T).softmax(1)).sum(1)
    found = entropy + scaled_divergence(z * (T / float(student_temperature)), v, T) / T / T
    return found.mean().to(at_least_float32(student_logits).dtype)


def fitnets_kd_loss(
    student_logits: Float[Tensor, "b k"],
    teacher_logits: Float[Tensor, "b k"],
    labels: Int[Tensor, " b"],
    temperature: float,
    lam: float,
    *,
    student_temperature: float | None = None,
) -> Float[Tensor, ""]:
    """H(y, P_S) + lambda H(P_T^tau, P_S^tau), mean over the batch. There is no tau^2.

    The same gradient as H(y, P_S) + w `soft_target_loss` with w = lambda / tau^2: 4 -> 1 at tau = 3 is
    w = 0.444 -> 0.111. The values differ by lambda times the entropy of P_T^tau.

    Args:
        student_logits: z, (B,K).
        teacher_logits: v, (B,K); no gradient flows to it.
        labels: y, (B,), 0 to K-1.
        temperature: tau, above 0.
        lam: lambda, 0 or more.
        student_temperature: None: tau, as the paper says. 1 softens the teacher alone, which the authors' code
            seems to do: it sets the student's temperature only while the graph is built.

    Returns:
        A number.

    Raises:
        UsageError: shapes or classes that do not fit, a temperature that is not above 0, or a negative weight.

    Example:
        >>> import torch
        >>> z, v, y = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, -2.0]]), torch.tensor([0])
        >>> fitnets_kd_loss(z, v, y, temperature=3.0, lam=4.0)
        tensor(3.4657)

    References:
        Romero et al. 2015, eq. 2.
    """
    check_weight(lam)
    soft = soft_cross_entropy(
        student_logits, teacher_logits, temperature, student_temperature=student_temperature
    )
    z = at_least_float32(student_logits)
    return F.cross_entropy(z, class_labels(labels, z)) + lam * soft


class KD(Term):
    """`soft_target_loss` with the teacher's probabilities at T: of an ensemble, softened net by net.

    Args:
        temperature: T, above 0.
        weight: see `Term`.
        name: see `Term`.
        T: another name of the temperature.
        alpha: another name of the weight.

    Raises:
        UsageError: a temperature or weight out of range, or two of one.

    Example:
        >>> from kd_baselines.losses import CE
        >>> list((CE(weight=0.1) + KD(temperature=4.0, weight=0.9)).named_terms)
        ['ce', 'kd']
    """

    needs = Needs(student_logits=True, teacher_logits=True)

    def __init__(
        self,
        temperature: float = 4.0,
        weight: Weight = 1.0,
        name: str | None = None,
        *,
        T: float = NOT_GIVEN,
        alpha: Weight = NOT_GIVEN,
    ) -> None:
        super().__init__(one_name("weight", weight, 1.0, alpha=alpha), name)
        self.T = one_name("temperature", temperature, 4.0, T=T)
        check_temperature(self.T)

    def prepare(self, seen: Seen) -> None:
        check_softmax(seen.got("student_logits"), seen.got("teacher_logits"))

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        return soft_target_loss(seen.got("student_logits"), _teacher_at(seen, self.T), self.T)


class FitNetsKD(Term):
    """The soft part of FitNets' second stage, H(P_T^tau, P_S^tau), weighted by lambda. Add it to `CE()`.

    `CE() + FitNetsKD(tau, lam)` is `fitnets_kd_loss`. lambda is this term's weight, so its schedule is too.

    Args:
        temperature: tau, above 0.
        lam: lambda, 0 or more, or a schedule; the paper's is Linear(4.0, 1.0, epochs=500) (MNIST: 150).
        student_temperature: see `fitnets_kd_loss`.
        name: see `Term`.
        T, student_T: other names of the temperatures.
        weight: another name of lambda.

    Raises:
        UsageError: a temperature or lambda out of range, or two of one.

    Example:
        >>> from kd_baselines.losses import CE, Linear
        >>> objective = CE() + FitNetsKD(temperature=3.0, lam=Linear(4.0, 1.0, epochs=500))
        >>> objective.named_terms["fitnetskd"].weight(499)
        1.0
    """

    needs = Needs(student_logits=True, teacher_logits=True)

    def __init__(
        self,
        temperature: float = 3.0,
        lam: Weight = 1.0,
        student_temperature: float | None = None,
        name: str | None = None,
        *,
        T: float = NOT_GIVEN,
        student_T: float | None = NOT_GIVEN,
        weight: Weight = NOT_GIVEN,
    ) -> None:
        super().__init__(one_name("lam", lam, 1.0, weight=weight), name)
        self.T = one_name("temperature", temperature, 3.0, T=T)
        self.student_T = one_name("student_temperature", student_temperature, None, student_T=student_T)
        for one in (self.T, self.T if self.student_T is None else self.student_T):
            check_temperature(one)

    def prepare(self, seen: Seen) -> None:
        check_softmax(seen.got("student_logits"), seen.got("teacher_logits"))

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        z, v = seen.got("student_logits"), _teacher_at(seen, self.T)
        return soft_cross_entropy(z, v, self.T, student_temperature=self.student_T)


def _teacher_at(seen: Seen, T: float) -> Float[Tensor, "b k"]:
    assert seen.teacher_at is not None, "a term reads teacher_at where no teacher's logits were computed"
    return seen.teacher_at(T)
