"""The methods: for each, the terms that it adds up, with their weights, in one stage or more.

A method takes a plan and its own arguments (numbers, texts, truths), all with defaults. A weight is
0 or more; a term of weight 0 is left out and costs nothing. The formulas are those of the terms'
loss functions in `kd_baselines.losses`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from datadistill.training.fit_plan import FitPlan
from kd_baselines.heads import lwf_objective
from kd_baselines.losses import (
    CE,
    CWTM,
    DKPP,
    KD,
    AttentionJacobian,
    AttentionTransfer,
    BornAgain,
    FitNetsKD,
    Hint,
    InputNoise,
    JacobianMatching,
    JacobianNorm,
    Linear,
    LogitRegression,
    NoisyLogits,
    Term,
)
from kd_baselines.losses import log_gradient as gradient_log
from kd_baselines.methods.combining import layer_lists, layer_pairs, require_layer, sum_terms
from kd_baselines.stages import Stage

Stages = tuple[Stage, ...]
Activation = Literal["none", "relu", "maxout"]
Kind = Literal["convolution", "linear"]
Form = Literal["squared", "cross-entropy"]
Output = Literal["full", "top", "label", "projected"]


def one_stage(plan: FitPlan, *terms: Term) -> Stages:
    """The only stage, "student", of the weighted sum of terms."""
    return (Stage("student", sum_terms(*terms), plan),)


def plain(plan: FitPlan) -> Stages:
    """CE."""
    return one_stage(plan, CE())


def soft_targets(
    plan: FitPlan, *, temperature: float = 4.0, soft_weight: float = 0.9, label_weight: float = 0.1
) -> Stages:
    """label_weight * CE + soft_weight * KD."""
    return one_stage(plan, CE(weight=label_weight), KD(T=temperature, weight=soft_weight))


def logits(
    plan: FitPlan, *, standardize: bool = False, weight: float = 1.0, label_weight: float = 0.0
) -> Stages:
    """weight * LogitRegression + label_weight * CE; the paper has no labels."""
    return one_stage(plan, CE(weight=label_weight), LogitRegression(standardize, weight))


def noisy_logits(
    plan: FitPlan,
    *,
    sigma: float = 0.1,
    alpha: float = 1.0,
    shared: bool = False,
    weight: float = 1.0,
    label_weight: float = 0.0,
) -> Stages:
    """weight * NoisyLogits + label_weight * CE; sigma, alpha and shared are those of
    `noisy_logits`."""
    return one_stage(plan, CE(weight=label_weight), NoisyLogits(sigma, alpha, shared, weight))


def fitnets_kd(
    plan: FitPlan,
    *,
    temperature: float = 3.0,
    lam_start: float = 4.0,
    lam_end: float = 1.0,
    student_temperature: float | None = None,
) -> Stages:
    """CE + lambda * FitNetsKD.

    lam_start, lam_end     lambda in the first and the last epoch; equal steps between
    student_temperature    None: the teacher's; 1: the student is not softened
    """
    lam = Linear(lam_start, lam_end, epochs=plan.epochs)
    return one_stage(plan, CE(), FitNetsKD(temperature, lam, student_temperature))


def fitnets(
    plan: FitPlan,
    *,
    guided: str = "",
    hint: str = "",
    activation: Activation = "none",
    hint_epochs: int | None = None,
    hint_lr: float | None = None,
    temperature: float = 3.0,
    lam_start: float = 4.0,
    lam_end: float = 1.0,
    student_temperature: float | None = None,
    guided_multiplier: float = 1.0,
    regressor: Kind = "convolution",
) -> Stages:
    """First Hint over the student's layers up to the guided one, then fitnets-kd over the whole
    student.

    guided, hint           the student's layer and the teacher's, whose map must not be larger; "up
                           to" goes by the order in which the student registers its modules.
                           Several with commas between are cascaded: a stage of hints for each pair
                           in turn, which the paper does not have
    activation             of the regressor; the paper gives it that of the hint
    hint_epochs, hint_lr   of a stage of hints; None: as the last stage's
    guided_multiplier      factor on the last stage's learning rate of the layers up to the last
                           guided one, 0 or more; 0 freezes their parameters
    regressor              "linear" is fully connected, what section 2.2 compares the convolution
                           with
    the others             see fitnets-kd
    """
    pairs = layer_lists(guided, hint)
    first = replace(
        plan.with_epochs(plan.epochs if hint_epochs is None else hint_epochs),
        lr=plan.lr if hint_lr is None else hint_lr,
    )
    (second,) = fitnets_kd(
        plan,
        temperature=temperature,
        lam_start=lam_start,
        lam_end=lam_end,
        student_temperature=student_temperature,
    )
    hinted = [
        Stage(
            "hints" if len(pairs) == 1 else f"hints-{n + 1}",
            Hint({mine: theirs}, activation=activation, regressor=regressor),
            first,
            until=mine,
        )
        for n, (mine, theirs) in enumerate(pairs)
    ]
    slower = {} if guided_multiplier == 1 else {pairs[-1][0]: guided_multiplier}
    return (*hinted, replace(second, multipliers_until=slower))


def fitnets_one_stage(
    plan: FitPlan,
    *,
    guided: str = "",
    hint: str = "",
    activation: Activation = "none",
    hint_weight: float = 1.0,
    soft_weight: float = 0.0,
    temperature: float = 4.0,
    label_weight: float = 1.0,
) -> Stages:
    """label_weight * CE + soft_weight * KD + hint_weight * Hint at once, as other libraries do.

    Section 3.1 reports that joint training found no setting in which the deep net learned. Other
    libraries weigh a mean of squares over a map of C x H x W: their weight w is hint_weight 2 w /
    (C H W) here. guided, hint and activation are those of fitnets.
    """
    guided, hint = (
        require_layer("guided", guided, "student"),
        require_layer("hint", hint, "teacher"),
    )
    soft = KD(T=temperature, weight=soft_weight)
    regressed = Hint({guided: hint}, activation=activation, weight=hint_weight)
    return one_stage(plan, CE(weight=label_weight), soft, regressed)


def attention(
    plan: FitPlan,
    *,
    layers: str = "",
    form: Literal["at_paper", "at_code", "jm"] = "at_code",
    beta: float = 10.0,
    p: float = 2,
    pool: Literal["map", "features"] = "map",
    label_weight: float = 1.0,
    soft_weight: float = 0.0,
    temperature: float = 4.0,
) -> Stages:
    """label_weight * CE + soft_weight * KD + AttentionTransfer, whose weight is beta (at_paper:
    beta / 2).

    layers          pairs student:teacher with commas between, such as "group1:group1,group2:group2"
    form, p, pool   see `attention_transfer_loss`
    beta            the default is ours, for at_code, whose share of a map of H x W pixels is beta /
                    (H W): the authors' 1000 for maps of 8 to 32 pixels a side is too much for maps
                    of 2 to 4. The other forms want about 1 / (H W) of it
    """
    weight = beta / 2 if form == "at_paper" else beta
    soft = KD(T=temperature, weight=soft_weight)
    return one_stage(
        plan,
        CE(weight=label_weight),
        soft,
        AttentionTransfer(layer_pairs(layers), form, p, pool, weight),
    )


def attention_jacobian(
    plan: FitPlan,
    *,
    layers: str = "",
    weight: float = 1.0,
    attention_weight: float = 0.0,
    p: float = 2,
    label_weight: float = 1.0,
) -> Stages:
    """label_weight * CE + weight * AttentionJacobian + attention_weight * AttentionTransfer in its
    form "jm". The teacher may know other classes: no logits are compared.

    layers   pairs student:teacher with commas between, for both terms
    p        of the attention maps: 1, or 2 and more
    """
    pairs = layer_pairs(layers)
    maps = AttentionTransfer(pairs, "jm", p, weight=attention_weight)
    return one_stage(plan, CE(weight=label_weight), AttentionJacobian(pairs, p, weight), maps)


def jacobian(
    plan: FitPlan,
    *,
    label_weight: float = 1.0,
    activation_weight: float = 1.0,
    jacobian_weight: float = 1.0,
    output: Output = "label",
    form: Form = "squared",
    normalize: bool = False,
) -> Stages:
    """label_weight * CE + activation_weight * LogitRegression + jacobian_weight * JacobianMatching.
    Squared error under input noise of deviation sigma is, to second order, activation_weight 2 and
    jacobian_weight sigma^2; output "label" is the paper's approximation."""
    matching = JacobianMatching(output, form, jacobian_weight, normalize)
    return one_stage(
        plan, CE(weight=label_weight), LogitRegression(weight=activation_weight), matching
    )


def jacobian_norm(
    plan: FitPlan,
    *,
    weight: float = 1.0,
    output: Output = "label",
    form: Form = "squared",
    label_weight: float = 1.0,
) -> Stages:
    """label_weight * CE + weight * JacobianNorm, for nets that bear noise on their input."""
    return one_stage(plan, CE(weight=label_weight), JacobianNorm(output, form, weight))


def input_noise(
    plan: FitPlan,
    *,
    sigma: float = 0.1,
    loss: Literal["logits", "kd"] = "logits",
    temperature: float = 1.0,
    weight: float = 1.0,
    label_weight: float = 1.0,
) -> Stages:
    """label_weight * CE + weight * InputNoise: Jacobian matching by sampling; the arguments are
    those of `input_noise_loss`."""
    return one_stage(
        plan, CE(weight=label_weight), InputNoise(sigma, loss, temperature, weight=weight)
    )


def lwf(
    plan: FitPlan,
    *,
    activation_weight: float = 1.0,
    jacobian_weight: float = 0.0,
    attention_weight: float = 0.0,
    attention_jacobian_weight: float = 0.0,
    layers: str = "",
    output: Output = "top",
    balanced: bool = True,
) -> Stages:
    """CE on the target head, and on the same images any of four terms that follow the teacher: its
    logits on the source head (LogitRegression), their Jacobian (JacobianMatching), attention maps
    (AttentionTransfer), the Jacobian of these (AttentionJacobian).

    layers   pairs student:teacher with commas between, for the last two; the student's names are
             those that the net has without a second head
    output   which rows of the Jacobian; the labels are no source classes, so "label" is of no use
             here
    balanced terms begin at numbers near 1, whatever the teacher; see `lwf_objective`
    """
    wanted = attention_weight or attention_jacobian_weight
    objective = lwf_objective(
        activations=activation_weight,
        jacobian=jacobian_weight,
        attention=attention_weight,
        attention_jacobian=attention_jacobian_weight,
        layers={f"trunk.{mine}": theirs for mine, theirs in layer_pairs(layers).items()}
        if wanted
        else None,
        output=output,
        balanced=balanced,
    )
    return (Stage("student", objective, plan),)


def born_again(plan: FitPlan, *, label_weight: float = 0.0, log_gradient: bool = False) -> Stages:
    """BornAgain + label_weight * CE; 0 is BAN, 1 is BAN+L (the paper does not tell the weight).

    log_gradient   whether the metrics of each epoch tell what the gradient of BornAgain is made of,
                   dark knowledge and the rest (`kd_baselines.losses.log_gradient`); it costs a few
                   percent of the time of small nets, and changes no number of the training
    """
    return _logged(one_stage(plan, CE(weight=label_weight), BornAgain()), log_gradient)


def cwtm(plan: FitPlan, *, log_gradient: bool = False) -> Stages:
    """CWTM; log_gradient is as in born-again."""
    return _logged(one_stage(plan, CWTM()), log_gradient)


def dkpp(
    plan: FitPlan, *, redraw: bool = True, label_weight: float = 0.0, log_gradient: bool = False
) -> Stages:
    """DKPP + label_weight * CE. `redraw` draws new permutations in each step; else each image keeps
    one (the paper does not tell which). log_gradient is as in born-again, of the teacher's
    probabilities in their places."""
    return _logged(one_stage(plan, CE(weight=label_weight), DKPP(redraw)), log_gradient)


def _logged(stages: Stages, log: bool) -> Stages:
    """The only stage, with the numbers of `log_gradient` reported where they are asked for."""
    (stage,) = stages
    return (replace(stage, objective=stage.objective + gradient_log()),) if log else stages
