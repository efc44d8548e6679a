"""The attention-map Jacobian: against torch.func, by hand, and for each mistake that others made."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from datadistill.errors import UsageError
from kd_baselines.features import run
from kd_baselines.losses.attention import attention_map
from kd_baselines.losses.attention_jacobian import AttentionJacobian, attention_jacobian_loss
from kd_baselines.losses.term import Seen


def images(seed=0, batch=4, channels=2, side=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, side, side, dtype=torch.float64, generator=generator)


def convolutions(seed, activation=nn.Softplus, widths=(2, 3, 4), norm=False):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3), *([nn.BatchNorm2d(after)] if norm else []), activation()]
        return nn.Sequential(*layers).double()


def maps_of(net, p=2):
    return lambda x: attention_map(net(x), p)


def by_jacrev(student_maps, teacher_maps, x):
    """2 - 2 cos, a sample at a time, from whole Jacobians."""
    found = []
    for image in x.split(1):
        pixel = int(teacher_maps(image).flatten().argmax())
        u, v = (
            jacrev(lambda image, maps=maps: maps(image).flatten())(image)[pixel].flatten().detach().numpy()
            for maps in (student_maps, teacher_maps)
        )
        found.append(2 - 2 * u @ v / (np.linalg.norm(u) * np.linalg.norm(v)))
    return np.mean(found)


@pytest.mark.parametrize("activation", [nn.Softplus, nn.ReLU])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_it_is_two_minus_two_cosines_of_whole_jacobians(activation, p):
    student, teacher = maps_of(convolutions(0, activation), p), maps_of(convolutions(1, activation), p)
    expected = by_jacrev(student, teacher, images())
    assert 0.1 < expected < 4
    assert attention_jacobian_loss(student, teacher, images()).item() == pytest.approx(expected, rel=1e-10)


def test_one_by_one_convolution_by_hand():
    # A = (w . x)^2 at a pixel, so grad = 2 (w . x) w there: cos = sign((w . x)(v . x)) w . v / (|w| |v|)
    w = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    v = torch.tensor([1.0, 0.0], dtype=torch.float64)
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)[None, :, None, None]  # both products above 0

    def maps(weight):
        return lambda x: attention_map(torch.einsum("c,bchw->bhw", weight, x)[:, None])

    loss = attention_jacobian_loss(maps(w), maps(v), x)
    loss.backward()
    assert loss.item() == pytest.approx(2 - 2 * 3 / 5, abs=1e-14)
    # d(-2 cos)/dw = -2 (v - cos w/|w|) / |w|
    expected = -2 * (v - 0.6 * w.detach() / 5) / 5
    assert torch.allclose(w.grad, expected, rtol=1e-12)


def test_the_double_backward_is_what_finite_differences_say():
    student, teacher, x = convolutions(2), maps_of(convolutions(3)), images(1, batch=2, side=5)
    names = [name for name, _ in student.named_parameters()]

    def loss(*values):
        parameters = dict(zip(names, values, strict=True))
        return attention_jacobian_loss(
            lambda x: attention_map(functional_call(student, parameters, (x,))), teacher, x
        )

    start = tuple(p.detach().requires_grad_() for p in student.parameters())
    assert torch.autograd.gradcheck(loss, start)


@pytest.mark.parametrize("activation", [nn.Softplus, nn.ReLU])
def test_every_convolution_up_to_the_layer_learns_and_the_teacher_does_not(activation):
    student, teacher = convolutions(4, activation), convolutions(5, activation)
    x = images(2).requires_grad_()
    attention_jacobian_loss(maps_of(student), maps_of(teacher), x).backward()
    for module in student:
        if isinstance(module, nn.Conv2d):
            assert float(module.weight.grad.abs().max()) > 1e-4
    assert all(p.grad is None for p in teacher.parameters())
    assert x.grad is None


def test_samples_are_kept_apart():
    student, teacher, x = maps_of(convolutions(6)), maps_of(convolutions(7)), images(3)
    alone = [attention_jacobian_loss(student, teacher, image) for image in x.split(1)]
    assert len({int(teacher(image).flatten().argmax()) for image in x.split(1)}) > 1  # pixels differ
    whole = attention_jacobian_loss(student, teacher, x)
    assert torch.allclose(whole, torch.stack(alone).mean(), rtol=1e-12)


def test_it_is_a_sum_over_the_inputs_and_reaches_from_0_to_4():
    x = images(4).abs() + 0.1
    bright = maps_of(convolutions(8))
    # both look at one pixel, through another channel: unit vectors at a right angle
    across = attention_jacobian_loss(lambda x: x[:, 0], lambda x: x[:, 1], x)
    assert float(across) == pytest.approx(2, abs=1e-14)
    assert attention_jacobian_loss(lambda x: -5 * bright(x), bright, x).item() == pytest.approx(4, abs=1e-12)
    assert attention_jacobian_loss(lambda x: 5 * bright(x), bright, x).item() == pytest.approx(0, abs=1e-12)


def test_the_pixel_is_the_teachers():
    x = torch.tensor([[[[1.0, 2.0]]]], dtype=torch.float64)

    def student(x):  # brightest on the left; on the right it follows the left of x
        return torch.stack([100 * x[:, 0, :, 0], x[:, 0, :, 0]], -1)

    assert attention_jacobian_loss(student, lambda x: x[:, 0], x).item() == pytest.approx(2)


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-150, 1e-12])
def test_vanishing_gradients_stay_finite(scale):
    student, teacher, x = convolutions(9), convolutions(10), images(5)
    maps = maps_of(student)
    loss = attention_jacobian_loss(lambda x: scale * maps(x), maps_of(teacher), x)
    loss.backward()
    assert 0 <= loss.item() <= 4
    assert all(bool(torch.isfinite(p.grad).all()) for p in student.parameters())


@pytest.mark.parametrize("small", [0.0, 1e-9])
def test_a_sample_with_hardly_a_gradient_does_not_drown_the_others(small):
    # maps of one pixel, w_b . x_b, so that the input gradient of sample b is w_b
    w = torch.zeros(4, 2, dtype=torch.float64)
    w[:, 0] = torch.tensor([1.0, 1.0, small, 1.0])
    w.requires_grad_()
    v = torch.tensor([0.0, 1.0], dtype=torch.float64)

    def one_pixel(weight):
        return lambda x: (weight * x[:, :, 0, 0]).sum(1)[:, None, None]

    loss = attention_jacobian_loss(one_pixel(w), one_pixel(v), images(side=1))
    loss.backward()
    shortest = 1e-3 * 0.75**0.5  # the root mean square of norms 1, 1, 0, 1
    assert loss.item() == pytest.approx((3 * 2 + 1 + (small / shortest) ** 2) / 4, rel=1e-12)
    # 2 (w / shortest - v) / shortest, mean over 4; its own norm instead would give 1 / small
    expected = (torch.tensor([small / shortest, 0.0], dtype=torch.float64) - v) / shortest / 2
    assert torch.allclose(w.grad[2], expected, rtol=1e-9)
    assert torch.allclose(w.grad[0], -v / 2, rtol=1e-9)


def test_larger_maps_are_averaged_down():
    large, small = maps_of(convolutions(13, widths=(2, 3))), maps_of(convolutions(14))
    pooled = lambda x: nn.functional.avg_pool2d(large(x), 2)  # noqa: E731
    x = images(7)
    for pair, expected in (((large, small), (pooled, small)), ((small, large), (small, pooled))):
        assert torch.allclose(attention_jacobian_loss(*pair, x), attention_jacobian_loss(*expected, x))


def seen_by(student, teacher, x, layer):
    x = x.detach().requires_grad_()
    features = run(student, x, [layer], logits=False).features
    theirs = run(teacher.requires_grad_(False), x, [layer], logits=False).features
    return Seen(
        x, torch.zeros(len(x)).long(), student_features=features, teacher_features=theirs, student=student
    )


def test_the_term_uses_the_pass_that_was_made():
    student, teacher, x = convolutions(15), convolutions(16).eval(), images(8)
    term, calls = AttentionJacobian({"2": "2"}), []
    seen = seen_by(student, teacher, x, "2")
    term.prepare(seen)
    student.register_forward_hook(lambda *_: calls.append(1))
    loss = term(seen)
    assert not calls
    assert torch.equal(loss, attention_jacobian_loss(maps_of(student[:3]), maps_of(teacher[:3]), x))
    loss.backward()
    assert float(student[0].weight.grad.abs().max()) > 1e-4
    assert all(p.grad is None for p in teacher.parameters())
    needs = term.needs
    assert needs.student_input_gradients and needs.teacher_input_gradients and needs.student


@pytest.mark.parametrize("own", ["term", "function"])
def test_batchnorm_in_training_mode_is_run_with_its_running_statistics(own):
    student, teacher, x = convolutions(17, norm=True), convolutions(18, norm=True).eval(), images(9)
    for norm in (student[1], student[4]):
        norm.running_mean.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
        norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))

    class Maps(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = student

        def forward(self, x):
            return attention_map(self.net(x))

    seen = seen_by(student, teacher, x, "5")  # the step's own pass, which writes the statistics
    expected = by_jacrev(maps_of(student.eval()), maps_of(teacher), x)
    student.train()
    before = {name: buffer.clone() for name, buffer in student.named_buffers()}
    if own == "term":
        found = AttentionJacobian({"5": "5"})(seen)
    else:
        found = attention_jacobian_loss(Maps(), maps_of(teacher), x)
    assert found.item() == pytest.approx(expected, rel=1e-10)
    found.backward()
    assert all(float(m.weight.grad.abs().max()) > 1e-4 for m in student if isinstance(m, nn.Conv2d))
    assert all(module.training for module in student.modules())
    assert all(torch.equal(before[name], buffer) for name, buffer in student.named_buffers())


def without_gradient(x):
    with torch.no_grad():
        return x[:, 0]


def channel(x):
    return x[:, 0]


@pytest.mark.parametrize(
    ("student", "teacher", "words"),
    [
        (lambda x: x, channel, r"student's maps are of shape \(4, 2, 6, 6\) for 4 images"),
        (channel, lambda x: x[:2, 0], r"teacher's maps are of shape \(2, 6, 6\) for 4 images"),
        (without_gradient, channel, "student's maps do not depend on the images"),
        (lambda x: torch.ones(4, 2, 2, requires_grad=True), channel, "student's maps do not depend"),
        (channel, without_gradient, "teacher's maps do not depend"),
    ],
)
def test_maps_that_do_not_fit_are_refused(student, teacher, words):
    with pytest.raises(UsageError, match=words):
        attention_jacobian_loss(student, teacher, images())


def test_images_of_whole_numbers_are_refused():
    with pytest.raises(UsageError, match=r"torch\.int64"):
        attention_jacobian_loss(channel, channel, images().long())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layers": {}}, "name pairs of layers"),
        ({"layers": {"a": "a"}, "p": 1.5}, "p is 1.5, .* give 1, or 2 and more"),
        ({"layers": {"a": "a"}, "weight": -2.0}, "weight is -2.0"),
    ],
)
def test_terms_that_cannot_be_are_refused(arguments, words):
    with pytest.raises(UsageError, match=words):
        AttentionJacobian(**arguments)


def test_batchnorm_without_running_statistics_is_refused():
    student, x = (
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)).double(),
        images(),
    )
    with pytest.raises(UsageError, match="without running statistics"):
        AttentionJacobian({"1": "1"})(seen_by(student, convolutions(0), x, "1"))


def test_a_teacher_module_is_asked_in_evaluation_mode():
    """Dropout of a teacher that was left in training mode draws nothing."""
    from kd_baselines.losses import attention_jacobian_loss

    torch.manual_seed(0)
    teacher = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.Dropout(0.5), torch.nn.Flatten(0, 0))
    student = torch.nn.Conv2d(1, 3, 3)
    x = torch.randn(4, 1, 6, 6)

    class Maps(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, images):
            return self.net(images).square().sum(1)

    values = [attention_jacobian_loss(Maps(student), Maps(teacher), x).item() for _ in range(2)]
    assert values[0] == values[1] and teacher.training
