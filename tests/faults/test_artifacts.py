"""Every kind of file refuses the same things in the same words: one table."""

import pytest
from file_loaders import LOADERS

from datadistill.distilled_file import SET
from datadistill.errors import DataError
from datadistill.nets.export import NET as EXPORTED
from datadistill.pool import POOL
from datadistill.runs.file_kinds import FILE_KINDS
from datadistill.runs.folder import RunFolder
from datadistill.runs.tensors import pack, unpack
from datadistill.training.finished_nets import NETS
from kd_baselines.cache_rows import CACHE
from kd_baselines.language.netfile import LANGUAGE_NET
from kd_baselines.ledger.payload_file import PAYLOAD
from kd_baselines.netfile import NET

# name in LOADERS -> its declaration
ARTIFACTS = {
    "distilled set": SET,
    "pool": POOL,
    "nets of an unfinished pool": NETS,
    "kd net": NET,
    "language net": LANGUAGE_NET,
    "teacher cache": CACHE,
    "payload of images": PAYLOAD,
}


def edit(artifact, data, **changes):
    """The file with other values (None: without that key) and a checksum that holds."""
    tensors, meta = unpack(data, schema=artifact.schema, finite=False)
    return pack(tensors, {k: v for k, v in {**meta, **changes}.items() if v is not None})


# what happens to the file -> (artifact, content) -> the new content; words of the refusal
CASES = {
    "empty": (lambda a, data: b"", "not a complete safetensors file: it has 0 bytes"),
    "cut": (lambda a, data: data[:-1], "not a complete safetensors file"),
    "cut in the header": (lambda a, data: data[:100], "not a complete safetensors file"),
    "junk after it": (lambda a, data: data + b"\0", "not a complete safetensors file"),
    "a flipped bit": (lambda a, data: data[:-1] + bytes([data[-1] ^ 1]), "damaged or was edited"),
    "newer": (lambda a, data: edit(a, data, schema=9), "written by schema 9, this reads up to"),
    "no kind": (
        lambda a, data: edit(a, data, **{a.name_key: None, "what": None}),
        "something else, wanted",
    ),
    "no such kind": (
        lambda a, data: edit(a, data, **{a.name_key: "house"}),
        "holds 'house', wanted",
    ),
    "of another kind": (
        lambda a, data: edit(a, data, **{a.name_key: "net"}),
        "holds the weights of a net, wanted .*; to use it: datadistill inspect .*file",
    ),
    "a key gone": (
        lambda a, data: edit(a, data, **{k: None for k in sorted(a.fields or ["layers"])[-1:]}),
        r"lacks \['|is stale: layers was None",
    ),
    "a key more": (
        lambda a, data: edit(a, data, author="me"),
        r"unknown \['author'\]|is stale: author",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_file_is_refused_with_its_name_and_the_reason(name, case, tmp_path):
    loader, (change, words) = LOADERS[name], CASES[case]
    loader.make(tmp_path)
    path = tmp_path / loader.files[0]
    path.write_bytes(change(ARTIFACTS[name], path.read_bytes()))
    with pytest.raises(DataError, match=words) as refusal:
        loader.load(tmp_path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "name", [name for name, loader in LOADERS.items() if loader.save is not None]
)
def test_saving_and_loading_is_the_identity(name, tmp_path):
    loader = LOADERS[name]
    loader.make(tmp_path)
    found = loader.load(tmp_path)
    loader.save(found, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / loader.files[0]).read_bytes()


def test_every_kind_of_file_is_in_the_table():
    kinds = {artifact.kind for artifact in (*ARTIFACTS.values(), EXPORTED)}
    assert kinds == FILE_KINDS.keys()


@pytest.mark.parametrize("name", [name for name in ARTIFACTS if ARTIFACTS[name].file_name])
def test_a_folder_without_the_file_says_what_it_is(name, tmp_path):
    artifact = ARTIFACTS[name]
    with pytest.raises(
        DataError,
        match=f"is a folder without {artifact.file_name}; pass a file of {artifact.words}",
    ):
        artifact.find(tmp_path)
    for kind, words in (
        (artifact.runs[0], f"go on with it .{artifact.command} --resume"),
        ("house", "run of house"),
    ):
        RunFolder.create(tmp_path / kind, {}, {}, kind)
        with pytest.raises(DataError, match=words):
            artifact.find(tmp_path / kind)
    assert artifact.find(tmp_path / "a file") == tmp_path / "a file"
