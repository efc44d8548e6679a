"""Exported nets: weights that plain modules load strictly, and graphs with the same logits."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from datadistill.data import Normalization
from datadistill.errors import Unavailable, UsageError
from datadistill.nets import build
from datadistill.nets.export import META
from datadistill.nets.spec import CUSTOM, NetSpec
from kd_baselines import KdConfig, SavedNet, export, train, two_headed
from kd_baselines.cli import main
from kd_baselines.language.netfile import SavedLanguageModel
from kd_baselines.language.nets import build_language

ARGS = {"channels": 3, "size": 32, "classes": 4}
SCALE = Normalization((0.5,) * 3, (0.25,) * 3, 32, 3)
X = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
WEIGHTS = {
    "net.safetensors": load_file,
    "net.pt": lambda path: torch.load(path, weights_only=True),
    "net.pth": lambda path: torch.load(path, weights_only=True),
}
LOADERS = {
    "net.pt2": lambda path: torch.export.load(path).module(),
    "net.torchscript": torch.jit.load,
}
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def saved(name="convnet", *, nets=1, **args):
    """Nets with random values, as a training would keep them."""
    args = {**ARGS, **args}
    states = []
    for seed in range(nets):
        torch.manual_seed(seed)
        state = build(name, **args).state_dict()
        states.append({k: torch.rand(x.shape).to(x.dtype) for k, x in state.items()})
    return SavedNet(tuple(states), NetSpec(name, args), "toy", tuple("abcd"), SCALE)


@pytest.mark.parametrize("file", WEIGHTS)
def test_weights_load_strictly_into_a_plain_module(file, tmp_path):
    one = saved(width=4, depth=1)
    export(one, tmp_path / file)
    net = build("convnet", **ARGS, width=4, depth=1).eval()
    net.load_state_dict(WEIGHTS[file](tmp_path / file), strict=True)
    assert torch.equal(net(X), one.net()(X))


def test_weights_of_torchvisions_nets_load_into_torchvisions_own(tmp_path):
    from torchvision.models import squeezenet1_1

    one = saved("torchvision", model="squeezenet1_1")
    export(one, tmp_path / "net.pt")
    squeezenet1_1(num_classes=4).load_state_dict(torch.load(tmp_path / "net.pt"), strict=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("file", LOADERS)
def test_a_graph_gives_the_logits_of_the_net(file, tmp_path):
    one = saved("mlp", width=6)
    export(one, tmp_path / file)
    found, wanted = LOADERS[file](str(tmp_path / file)), one.net()
    for images in (X, X[:1]):
        torch.testing.assert_close(found(images), wanted(images))
    said = {META: ""}
    if file == "net.pt2":
        torch.export.load(tmp_path / file, extra_files=said)
    else:
        torch.jit.load(str(tmp_path / file), _extra_files=said)
    assert json.loads(said[META])["normalization"] == SCALE.as_dict()


@pytest.mark.skipif(HAS_ONNX, reason="onnx is installed")
def test_a_missing_package_is_named(tmp_path):
    with pytest.raises(Unavailable, match=r"pip install .*onnx"):
        export(saved("mlp", width=2), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not HAS_ONNX, reason="onnx, onnxscript or onnxruntime is not installed")
def test_onnx_gives_the_logits_of_the_net(tmp_path):
    import onnxruntime

    one = saved("mlp", width=6)
    export(one, tmp_path / "net.onnx")
    found = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    logits = torch.tensor(found.run(None, {"images": X.numpy()})[0])
    torch.testing.assert_close(logits, one.net()(X).detach())


def test_of_two_heads_the_target_classifier_is_written(tmp_path):
    torch.manual_seed(0)
    args = {**ARGS, "width": 4, "depth": 1}
    student = two_headed(build("convnet", **args), 7).eval()
    spec = NetSpec("convnet", args)
    one = SavedNet((student.state_dict(),), spec, "toy", tuple("abcd"), SCALE, source_classes=7)
    export(one, tmp_path / "net.safetensors")
    net = build("convnet", **args).eval()
    net.load_state_dict(load_file(tmp_path / "net.safetensors"), strict=True)
    torch.testing.assert_close(net(X), student(X))
    export(one, tmp_path / "net.pt2")
    torch.testing.assert_close(torch.export.load(tmp_path / "net.pt2").module()(X), student(X))


def test_one_net_of_an_ensemble_is_written(tmp_path):
    both = saved("mlp", nets=2, width=3)
    export(both, tmp_path / "net.pt", number=1)
    found = torch.load(tmp_path / "net.pt")
    assert all(torch.equal(x, both.states[1][k]) for k, x in found.items())


def test_a_module_of_ones_own_has_weights_and_with_it_a_graph(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)).eval()
    one = SavedNet((net.state_dict(),), NetSpec(CUSTOM, ARGS, "given"), "toy", tuple("abcd"), SCALE)
    export(one, tmp_path / "net.pth")
    assert torch.load(tmp_path / "net.pth").keys() == net.state_dict().keys()
    export(one, tmp_path / "net.pt2", net=net)
    torch.testing.assert_close(torch.export.load(tmp_path / "net.pt2").module()(X), net(X))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3072, 4)

    def forward(self, x):
        return self.fc(x.flatten(1)) if x[0, 0, 0, 0] < 2 and len(x) == 2 else x.flatten(1)[:, :4]


OWN = NetSpec(CUSTOM, ARGS, "given")
REFUSED = [
    (lambda: saved("mlp", width=2), "net.zip", {}, r"ends in '\.zip', .* \.pt2, \.torchscript"),
    (lambda: saved("mlp", nets=2, width=2), "net.pt", {}, "pass number, from 0 to 1"),
    (lambda: saved("mlp", nets=2, width=2), "net.pt", {"number": 2}, "have the numbers 0 to 1"),
    (
        lambda: SavedNet((Branching().state_dict(),), OWN, "toy", tuple("abcd"), SCALE),
        "net.pt2",
        {},
        "a module of the user's own",
    ),
    *(
        (
            lambda: SavedNet((Branching().state_dict(),), OWN, "toy", tuple("abcd"), SCALE),
            file,
            {"net": Branching()},
            rf"Branching cannot be written as {file.removeprefix('net')}.* write its weights",
        )
        for file in LOADERS
    ),
]


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize(("make", "file", "options", "said"), REFUSED)
def test_refused(make, file, options, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        export(make(), tmp_path / file, **options)
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path, capsys):
    config = KdConfig(dataset="digits", method="plain", net_args={"width": 4}, epochs=1)
    trained, out = train(config, out=tmp_path / "run"), tmp_path / "net.safetensors"
    assert main(["export", str(tmp_path / "run"), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "datadistill.nets.build('mlp', channels=1, " in said and "normalized by mean (" in said
    assert said.splitlines()[-1] == (
        f'next: net.load_state_dict(safetensors.torch.load_file("{out}"))'
    )
    assert main(["export", str(tmp_path / "run"), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "run"), "--out", f"{out}.pt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["out"] == f"{out}.pt" and found["net"]["name"] == "mlp"
    taught = config.with_changes(method="soft-targets", teacher_args={"width": 4})
    for file in (out, f"{out}.pt"):
        assert train(taught, teacher=file).teacher.hash == trained.saved.to_teacher().hash


def test_of_a_language_model_the_weights_are_written(tmp_path):
    words = ("<eos>", "a", "b")
    net = build_language("lstm", words, seed=0, width=2)
    one = SavedLanguageModel(net.state_dict(), "lstm", {"width": 2}, words, "toy")
    export(one, tmp_path / "net.pt")
    build_language("lstm", words, seed=1, width=2).load_state_dict(torch.load(tmp_path / "net.pt"))
    with pytest.raises(UsageError, match="the graph of a language model"):
        export(one, tmp_path / "net.pt2")
