"""Weights of a vision transformer for images of another size."""

import warnings
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings

from datadistill.errors import DataError
from datadistill.nets.positional_embeddings import POSITIONS
from datadistill.nets.weights import read_weights


def small(size, width=12):
    torch.manual_seed(0)
    return VisionTransformer(size, 8, 1, 2, width, 16, num_classes=3)


@pytest.fixture
def weights(tmp_path):
    """The tensors of a net for 32 px, and their file."""
    tensors = small(32).state_dict()
    torch.save(tensors, tmp_path / "vit.pt")
    return tensors, tmp_path / "vit.pt"


def test_they_are_interpolated_as_torchvision_does(weights):
    tensors, path = weights
    for size in (8, 16, 48):
        with pytest.warns(UserWarning, match=f"32 px .4 x 4 patches. and the net is for {size} px"):
            found = read_weights(path, small(size))
        expected = interpolate_embeddings(size, 8, OrderedDict(tensors))[POSITIONS]
        torch.testing.assert_close(found.tensors[POSITIONS], expected)
        assert found.tensors[POSITIONS].dtype == torch.float32
        theta, _, fresh = found.fit(small(size), fresh_last=False)
        assert theta[POSITIONS].shape == expected.shape and fresh == ()


def test_weights_of_the_same_size_are_read_as_they_are(weights):
    tensors, path = weights
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_weights(path, small(32))
    assert torch.equal(found.tensors[POSITIONS], tensors[POSITIONS])


def test_the_fingerprint_is_that_of_the_file(weights):
    _, path = weights
    with pytest.warns(UserWarning, match="interpolated"):
        assert read_weights(path, small(8)).fingerprint == read_weights(path, small(32)).fingerprint


class OwnTransformer(nn.Module):
    """Another net with embeddings of that name."""

    def __init__(self, patches):
        super().__init__()
        self.encoder = nn.ParameterDict({"pos_embedding": torch.zeros(1, patches + 1, 12)})


@pytest.mark.parametrize("net", [OwnTransformer(4), small(16, width=16)], ids=["own", "wider"])
def test_other_nets_are_refused_as_ever(weights, net):
    with pytest.raises(DataError, match="does not fit the net"):
        read_weights(weights[1], net).fit(net, fresh_last=False)
