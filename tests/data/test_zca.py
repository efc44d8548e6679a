"""ZCA whitening: its three kinds, where they are measured, and where their matrix goes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from picture_folder import write_pictures
from PIL import Image

import datadistill as dd
from datadistill.cli import main
from datadistill.config import DistillConfig, PoolConfig
from datadistill.config.zca import ZcaChoice, parse_zca
from datadistill.data import RealData, load, load_folder
from datadistill.data.normalization import Normalization, normalization_from
from datadistill.data.whitening_matrix import measure_zca
from datadistill.data.zca import ZCA
from datadistill.errors import DataError, OutOfMemory, UsageError
from datadistill.evaluation.own_data import check_data, load_own_data
from datadistill.nets.spec import NetSpec
from datadistill.pool import Pool
from datadistill.training.normalization_from_config import read_normalization
from kd_baselines.evaluation import score
from kd_baselines.netfile import SavedNet

KINDS = tuple(ZCA)
CHANNELWISE = Normalization((0.5, 0.4, 0.6), (0.2, 0.3, 0.25), 4, 3)
QUICK = {
    "theta_0": "random",
    "iterations": 1,
    "epochs": 1,
    "validate_every": 1,
    "validate_nets": 1,
    "device": "cpu",
}
NET = {"net": "mlp", "net_args": {"width": 4, "depth": 1}}


def correlated(n=200, channels=3, size=4, seed=0):
    """Images in 0..1 whose pixels are correlated."""
    generator = torch.Generator().manual_seed(seed)
    d = channels * size**2
    mix = torch.randn(d, d, generator=generator) / d**0.5
    x = torch.randn(n, d, generator=generator) @ mix * 0.1 + torch.rand(d, generator=generator)
    return x.sigmoid().view(n, channels, size, size)


def whitening(kind, regularization=0.1):
    return measure_zca(ZcaChoice(kind, regularization), correlated(), CHANNELWISE)


def features(kind, pixels):
    """z of the formula, by numpy."""
    x = pixels.double().numpy()
    if kind == "zca-kip":
        flat = 255 * x.reshape(len(x), -1)  # as the authors have it; the norm takes the scale away
        flat = flat - flat.mean(1, keepdims=True)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)
    if kind == "zca-frepo":
        mean, std = (np.array(v)[:, None, None] for v in (CHANNELWISE.mean, CHANNELWISE.std))
        x = (x - mean) / std
    return x.reshape(len(x), -1)


def by_singular_values(kind, pixels, regularization):
    """m and W of the formula by the singular values of the images, without a covariance."""
    z = features(kind, pixels)
    centre = np.zeros(z.shape[1]) if kind == "zca-kip" else z.mean(0)
    _, s, rows = np.linalg.svd(z - centre, full_matrices=False)
    values = s**2 / (len(z) - (kind == "zca-kornia"))
    unit = 1 if kind == "zca-kornia" else values.sum() / z.shape[1]
    return centre, rows.T @ np.diag((values + regularization * unit) ** -0.5) @ rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("regularization", [0.1, 100.0])
def test_each_kind_agrees_with_its_singular_values(kind, regularization):
    whiten = whitening(kind, regularization)
    centre, matrix = by_singular_values(kind, correlated(), regularization)
    new = correlated(7, seed=1)
    expected = (features(kind, new) - centre) @ matrix
    torch.testing.assert_close(
        whiten(new), torch.from_numpy(expected).float().view(new.shape), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(whiten.matrix, torch.from_numpy(matrix).float())


@pytest.mark.parametrize("kind", KINDS)
def test_whitened_training_images_have_the_stated_covariance(kind):
    pixels = correlated()
    y = whitening(kind)(pixels).flatten(1).double().numpy()
    z = features(kind, pixels)
    n, d = z.shape
    z = z if kind == "zca-kip" else z - z.mean(0)
    values, vectors = np.linalg.eigh(z.T @ z / (n - (kind == "zca-kornia")))
    r = 0.1 * (1 if kind == "zca-kornia" else values.sum() / d)
    expected = vectors @ np.diag(values / (values + r)) @ vectors.T
    found = y.T @ y / (n - (kind == "zca-kornia"))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_matrix_is_symmetric_whatever_the_eigenvectors_signs(monkeypatch):
    first = whitening("zca-kornia")
    eigh = torch.linalg.eigh
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(24)

    def flipped(covariance):
        values, vectors = eigh(covariance)
        return values, vectors * signs

    monkeypatch.setattr(torch.linalg, "eigh", flipped)
    again = whitening("zca-kornia")
    assert torch.equal(first.matrix, again.matrix) and first == again
    assert torch.equal(first.matrix, first.matrix.T)


@pytest.mark.parametrize("kind", ["zca-frepo", "zca-kornia"])
def test_inverse_brings_the_pixels_back(kind):
    whiten, x = whitening(kind), correlated(5, seed=2)
    torch.testing.assert_close(whiten.inverse(whiten(x)), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(whiten.inverse(whiten(x)[0]), x[0], rtol=0, atol=1e-5)


def test_inverse_of_kip_gives_the_mean_brightness_and_contrast():
    whiten, x = whitening("zca-kip"), correlated(5, seed=2)
    found = whiten.inverse(whiten(x)).flatten(1)
    unit = torch.from_numpy(features("zca-kip", x)).float()
    centred = correlated().flatten(1) - correlated().flatten(1).mean(1, keepdim=True)
    brightness, contrast = correlated().mean(), centred.norm(dim=1).mean()
    torch.testing.assert_close(found, brightness + contrast * unit, rtol=0, atol=1e-5)
    again = whiten(found.view(x.shape).clamp(0, 1))
    torch.testing.assert_close(again, whiten(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_floats_pictures_and_single_images_agree(kind):
    whiten = whitening(kind)
    x = torch.randint(0, 256, (3, 3, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    expected = whiten(x)
    assert expected.dtype == torch.float32 and expected.is_contiguous()
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in x]
    for found in (whiten(x.double() / 255), whiten(pictures)):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(whiten(x[1]), expected[1])
    assert whiten(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 4, 4)
    large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert whiten(large).shape == expected.shape  # brought to its size, as by any normalization


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_pass_and_a_flat_image_stays_finite(kind):
    x = torch.cat([correlated(1), torch.full((1, 3, 4, 4), 0.3)]).requires_grad_()
    y = whitening(kind)(x)
    y.square().sum().backward()
    assert bool(y.isfinite().all()) and bool(x.grad.isfinite().all())
    assert kind != "zca-kip" or not y[1].any()


def test_the_whole_training_part_is_measured():
    data, other = (load("digits", normalization="zca", seed=seed) for seed in (0, 1))
    assert data.normalization == other.normalization and data.normalization.images == 1438
    everything = torch.cat([data.train.images, data.validation.images]).flatten(1).double()
    values = torch.linalg.eigvalsh(everything.T @ everything / len(everything))
    assert 0.9 < float(values.max()) < 1 and float(values.min()) > -1e-6
    assert data.test.images.shape == (359, 1, 8, 8)


def test_the_same_data_give_the_same_bytes():
    found = [load("digits", normalization="zca-kornia") for _ in range(2)]
    assert torch.equal(found[0].normalization.matrix, found[1].normalization.matrix)
    assert found[0].fingerprint == found[1].fingerprint


def test_another_rounding_leaves_the_data_the_same():
    """As another number of threads gives it."""
    data = load("digits", normalization="zca")
    other = replace(data.normalization, matrix=data.normalization.matrix * (1 + 1e-7))
    again = load("digits", normalization=other)
    assert not torch.equal(again.train.images, data.train.images)
    assert other == data.normalization and again.fingerprint == data.fingerprint
    found = {load("digits", normalization="zca", **o).fingerprint for o in ({}, {"seed": 1})}
    found |= {load("digits", normalization=n).fingerprint for n in (None, "zca:1", "zca-frepo")}
    assert len(found) == 5


def test_frepo_takes_the_data_sets_own_mean_and_deviation():
    own = load("mnist5k", size=8).normalization
    found = load("mnist5k", size=8, normalization="zca-frepo").normalization
    assert (found.mean, found.std) == (own.mean, own.std)


def test_every_door_takes_a_kind(tmp_path):
    write_pictures(tmp_path / "pets", 16, 8)
    folder = load_folder(tmp_path / "pets", size=2, channels=1, normalization="zca-kornia:0.5")
    x, y = correlated(), torch.arange(200) % 2
    tensors = RealData.from_tensors(
        x, y, test_images=x[:9], test_labels=y[:9], normalization="zca-kornia:0.5"
    )
    pairs = torch.utils.data.TensorDataset(x, y)
    dataset = RealData.from_dataset(pairs, normalization=ZcaChoice("zca-kornia", 0.5))
    for data in (folder, tensors, dataset):
        assert (data.normalization.kind, data.normalization.regularization) == ("zca-kornia", 0.5)
    expected = tensors.normalization(x[:9])
    assert torch.equal(tensors.test.images, expected)


def test_a_choice_in_a_text():
    assert parse_zca("zca") == parse_zca("zca-kip:0.1") == ZcaChoice("zca-kip", 0.1)
    assert parse_zca("zca-frepo:1e-3") == ZcaChoice("zca-frepo", 0.001)
    assert parse_zca("0.5/0.2") is parse_zca("zcas") is None


def test_a_set_carries_its_matrix(tmp_path):
    config = DistillConfig(dataset="digits", normalization="zca", **NET, **QUICK)
    d = dd.distill(config, out=tmp_path / "run")
    found = dd.DistilledDataset.load(tmp_path / "run")
    assert found.normalization == d.normalization
    assert torch.equal(found.normalization.matrix, d.normalization.matrix)
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(found.normalization(x), d.normalization(x))
    found.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "run" / "distilled.safetensors"
    ).read_bytes()
    assert dd.distill(config).normalization == d.normalization
    assert read_normalization(tmp_path / "run") == d.normalization
    real = load_own_data(found)
    assert torch.equal(real.test.images, load("digits", normalization="zca").test.images)
    small = found.quantized(8)
    small.save(tmp_path / "small.safetensors")
    assert dd.DistilledDataset.load(tmp_path / "small.safetensors").normalization == d.normalization
    dd.evaluate(found, nets=1)
    adapted = dd.finetune(found, found.build(), data=real, reach=False)
    adapted.save(tmp_path / "net.safetensors")
    with pytest.raises(DataError, match="zca-kip whitening, and its matrix is not in this file"):
        read_normalization(tmp_path / "net.safetensors")


def test_pictures_of_a_set_are_unwhitened():
    data = load("digits", normalization="zca-kornia")
    d = dd.distill(DistillConfig(normalization="zca-kornia", dataset="digits", **NET, **QUICK))
    d = d._replace(images=data.train.images[:10])
    x = data.normalization.inverse(data.train.images[:10])
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(d.pixels(), (x - low) / (high - low))


def test_a_pool_carries_its_matrix(tmp_path):
    quick = {"nets": 1, "validation_nets": 1, "held_out": 1, "epochs": 1, "device": "cpu"}
    config = PoolConfig(dataset="digits", normalization="zca-frepo", **NET, **quick)
    pool = dd.pretrain(config, out=tmp_path / "pool")
    assert Pool.load(tmp_path / "pool").normalization == pool.normalization
    assert read_normalization(tmp_path / "pool") == pool.normalization
    plain = DistillConfig(dataset="digits", pool=str(tmp_path / "pool"), **QUICK)
    with pytest.raises(UsageError, match=r"zca-frepo whitening.*choose one kind for both"):
        dd.distill(plain.with_changes(**NET))
    d = dd.distill(plain.with_changes(normalization=str(tmp_path / "pool"), **NET))
    assert d.normalization == pool.normalization


def test_a_net_of_kd_baselines_carries_its_matrix_and_refuses_noise(tmp_path):
    data = load("digits", normalization="zca-kornia")
    spec = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10, "width": 4, "depth": 1})
    net = spec.build()
    saved = SavedNet((net.state_dict(),), spec, data.name, data.classes, data.normalization)
    saved.save(tmp_path / "net.safetensors")
    assert SavedNet.load(tmp_path / "net.safetensors").normalization == data.normalization
    found = read_normalization(tmp_path / "net.safetensors")
    assert torch.equal(found.matrix, data.normalization.matrix)
    with pytest.raises(UsageError, match=r"went through zca-kornia whitening.*leave noise out"):
        score(net, data, noise=(0.3,))


def test_a_stopped_run_is_drawn_without_its_images(tmp_path, capsys):
    config = DistillConfig(dataset="digits", normalization="zca", **NET, **QUICK)
    dd.distill(config, out=tmp_path / "run")
    (tmp_path / "run" / "distilled.safetensors").unlink()
    assert main(["show", str(tmp_path / "run")]) == 0
    assert "no images.png before the run has finished" in capsys.readouterr().out


def test_data_whitened_otherwise_are_refused():
    d = dd.distill(DistillConfig(dataset="digits", normalization="zca", **NET, **QUICK))
    check_data(d, load("digits", normalization="zca", seed=1))
    for other in (None, "zca-kornia", "zca:0.2"):
        with pytest.raises(DataError, match="those of the set by zca-kip whitening"):
            check_data(d, load("digits", normalization=other))


def test_the_command_line_distills_and_evaluates(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = ["distill", "digits-random", "--normalization", "zca", "--iterations", "2"]
    assert main([*argv, "--no-evaluate", "--out", "run"]) == 0
    assert (tmp_path / "run/figures/images.png").exists()
    assert main(["evaluate", "run", "--nets", "1"]) == 0
    capsys.readouterr()
    assert main(["inspect", "run"]) == 0
    found = capsys.readouterr().out
    assert "zca-kip whitening, regularization 0.1, measured on 1,438 images" in found
    assert main([*argv[:3], "zca:-1", "--out", "other"]) == 2
    assert main([*argv[:3], "zca", "--size", "40", "--out", "other"]) == 3
    assert "needs more than 1,600 training images" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def refusals():
    x = correlated(48)
    flat = torch.full((60, 1, 2, 2), 0.5)

    def of(images, kind="zca"):
        labels = torch.arange(len(images)) % 2
        return lambda: RealData.from_tensors(
            images, labels, test_images=images, test_labels=labels, normalization=kind
        )

    return [
        (of(x), DataError, "needs more than 48 training images.* there are 48"),
        (of(torch.rand(9, 3, 65, 65)), UsageError, "12,675 x 12,675 numbers; lower the size"),
        (of(torch.rand(60, 1, 2, 3)), UsageError, "not square; pass a size"),
        (of(flat), DataError, "all without contrast"),
        (of(flat, "zca-frepo"), DataError, "all without contrast"),
        (of(x, "zca:0"), UsageError, "wanted zca:REGULARIZATION, a number from 1e-06 to 1e"),
        (of(x, "zca:nan"), UsageError, "wanted zca:REGULARIZATION"),
        (of(x, "zca-mtt"), UsageError, "wanted own, imagenet, numbers.*zca-kornia"),
        (lambda: whitening("zca")(x), KeyError, "zca"),
        (lambda: whitening("zca-kip")(x[:, :1]), DataError, "for 3 channel"),
        (lambda: whitening("zca-kip").inverse(x[..., :3]), DataError, "wanted .N, 3, 4, 4."),
    ]


@pytest.mark.parametrize("number", range(11))
def test_what_cannot_be_whitened_is_refused(number):
    call, error, words = refusals()[number]
    with pytest.raises(error, match=words):
        call()


def test_a_matrix_beyond_memory_is_refused(monkeypatch):
    monkeypatch.setattr("datadistill.device.memory", lambda device="cpu": 10**4)
    with pytest.raises(OutOfMemory, match="are needed for the ZCA whitening of images 3x4x4"):
        whitening("zca-kip")


@pytest.mark.parametrize("kind", KINDS)
def test_the_dict_is_strict_and_goes_round(kind):
    whiten = whitening(kind)
    values = {**whiten.as_dict(), "tensors": whiten.tensors}
    assert normalization_from(values) == whiten and hash(whiten) == hash(normalization_from(values))
    assert whiten != replace(whiten, regularization=0.2) and whiten != CHANNELWISE
    matrix = whiten.matrix.clone()
    matrix[0, 1] += 1
    changed = [
        ({"extra": 1}, "extra"),
        ({"size": None}, "size"),
        ({"size": 5}, "not float32"),
        ({"regularization": 0}, "regularization"),
        ({"std": [0.0] * 3}, "std"),
        ({"tensors": {"matrix": whiten.matrix}}, "matrix is missing"),
        ({"tensors": {**whiten.tensors, "matrix": matrix}}, "not symmetric"),
        ({"tensors": {**whiten.tensors, "matrix": matrix.double()}}, "not float32"),
    ]
    for change, words in changed:
        with pytest.raises(DataError, match=words):
            normalization_from({**values, **change})
    for field in values.keys() - {"kind"}:
        with pytest.raises(DataError, match=field if field != "tensors" else "not in this file"):
            normalization_from({k: v for k, v in values.items() if k != field})
