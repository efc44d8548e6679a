"""Decoders that make more images than they store: mosaics, and combinations of bases."""

import pytest
import torch
from training_cases import assert_resumes, config

import datadistill as dd
from datadistill.cli import main
from datadistill.errors import DataError, UsageError
from datadistill.synthetic import DECODERS
from datadistill.synthetic.bases import Bases
from datadistill.synthetic.mosaic import Mosaic

SHAPE = (1, 8, 8)
DECODED = [
    ("mosaic", {"factor": 2}),
    ("bases", {"bases": 3}),
    ("bases", {"bases": 2, "random": True}),
]


def start(n, generator=None):
    return torch.randn(n, *SHAPE, generator=generator or torch.Generator().manual_seed(0))


def test_a_tile_is_an_image_of_half_the_side():
    images = start(12)
    tensors = Mosaic(2).init(images, torch.Generator())
    assert tensors["mosaics"].shape == (3, *SHAPE)
    for j in range(12):
        stored, tile = j % 3, j // 3
        row, column = 4 * (tile // 2), 4 * (tile % 2)
        cut = tensors["mosaics"][stored, :, row : row + 4, column : column + 4]
        small = torch.nn.functional.interpolate(
            images[j : j + 1], (4, 4), mode="bilinear", antialias=True
        )
        assert torch.equal(cut, small[0])
        enlarged = torch.nn.functional.interpolate(cut[None], (8, 8), mode="bilinear")
        assert torch.equal(Mosaic(2).images(tensors, torch.tensor([j])), enlarged)


@pytest.mark.parametrize(("shape", "rows"), [((3, 32, 32), 115), ((1, 28, 28), 29)])
def test_bases_make_as_many_images_as_published(shape, rows):
    assert Bases(16).count(1, shape, 10) == rows  # Deng and Russakovsky: 115 for CIFAR-10


def test_bases_start_at_the_nearest_combination():
    images = start(20)
    tensors = Bases(5, downsample=1).init(images, torch.Generator())
    made = Bases(5, downsample=1).images(tensors, torch.arange(20))
    # Eckart and Young: the rest is that of the smaller singular values
    rest = torch.linalg.svdvals(images.flatten(1))[5:].square().sum()
    assert torch.allclose((made - images).square().sum(), rest, rtol=1e-4)


def test_more_bases_than_images_start_at_the_images():
    images = start(4)
    tensors = Bases(9, downsample=1).init(images, torch.Generator())
    made = Bases(9, downsample=1).images(tensors, torch.arange(4))
    assert tensors["bases"].shape == (9, *SHAPE)
    assert torch.allclose(made, images, atol=1e-5)


@pytest.mark.parametrize(("name", "args"), DECODED)
def test_gradients_against_finite_differences(name, args):
    decoder = DECODERS[name](**args)
    n = decoder.count(2, SHAPE, 2) * 2
    tensors = {k: x.double() for k, x in decoder.init(start(n), torch.Generator()).items()}
    index = torch.tensor([0, n - 1, 1])

    def images(*values):
        return decoder.images(dict(zip(tensors, values, strict=True)), index)

    leaves = [x.detach().requires_grad_() for x in tensors.values()]
    assert torch.autograd.gradcheck(images, leaves)


@pytest.mark.parametrize(("name", "args"), DECODED)
def test_no_image_beyond_the_last(name, args):
    decoder = DECODERS[name](**args)
    n = decoder.count(2, SHAPE, 2) * 2
    tensors = decoder.init(start(n), torch.Generator())
    assert decoder.images(tensors, torch.tensor([n - 1])).shape == (1, *SHAPE)
    with pytest.raises((IndexError, RuntimeError)):
        decoder.images(tensors, torch.tensor([n]))


@pytest.mark.parametrize(("name", "args"), DECODED)
def test_a_set_is_learned_saved_and_trained_on(digits, tmp_path, name, args):
    images_from = "noise" if args.get("random") else "real"
    small = config(
        decoder=name, decoder_args=args, images_from=images_from, ipc=4, iterations=3, minibatch=64
    )
    d = dd.distill(small, data=digits, out=tmp_path / "run")
    again = dd.DistilledDataset.load(tmp_path / "run")
    assert len(d.images) == 10 * DECODERS[name](**args).count(4, SHAPE, 10) == len(again.images)
    assert torch.equal(d.images, again.images) and torch.equal(d.labels, again.labels)
    assert d.labels.tolist() == (torch.arange(len(d.labels)) % 10).tolist()
    stored = sum(x.numel() for x in again.coded.values())
    assert stored <= 4 * 10 * 64
    assert 0 <= dd.evaluate(again, nets=2, plain_nets=0, data=digits).accuracy_mean <= 100


@pytest.mark.parametrize(("name", "args"), DECODED)
def test_a_stopped_run_is_resumed_to_the_same_bytes(digits, tmp_path, name, args):
    assert_resumes(
        digits, tmp_path, decoder=name, decoder_args=args, ipc=4, minibatch=16, labels="soft"
    )


REFUSED = [
    ({"decoder": "mosaic", "decoder_args": {"factor": 3}}, UsageError, "does not divide"),
    ({"decoder": "mosaic", "decoder_args": {"factor": 1}}, UsageError, "2 or more"),
    ({"decoder": "bases", "decoder_args": {"bases": 400}}, UsageError, "leave no room"),
    ({"decoder": "bases", "decoder_args": {"downsample": 3}}, UsageError, "does not divide"),
    ({"decoder": "mosaic", "ipc": 60, "images_from": "real"}, DataError, "240"),
    ({"decoder": "bases", "ipc": 4, "steps": 2, "decoder_args": {"bases": 3}}, UsageError, "steps"),
]


@pytest.mark.parametrize(("changes", "error", "said"), REFUSED)
def test_refusals(digits, changes, error, said):
    with pytest.raises(error, match=said):
        dd.distill(config(**changes), data=digits)


def test_a_mosaic_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--decoder", "mosaic", "--decoder-args", "factor", "2", "--iterations", "2"]
    quick = ["--no-evaluate", "--no-figures", "--quiet"]
    assert main(["distill", "digits-random", *options, *quick]) == 0
    assert main(["inspect", "runs/digits-random-s0", "--json"]) == 0
    refused = ["--decoder", "mosaic", "--decoder-args", "factor", "3", "--out", "other"]
    assert main(["distill", "digits-random", *refused]) == 2
    assert not (tmp_path / "other").exists()
