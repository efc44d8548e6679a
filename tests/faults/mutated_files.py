"""Mutated files: seeded damage, and edits with a checksum that holds, read by every loader.

    python tests/faults/mutated_files.py 1000        a table of all loaders, a thousand mutations
                                                     each

A damaged file is refused, or equal by value to the undamaged one. A file whose fields were edited
and whose checksum was made anew is refused, or says what was loaded: saved again, it is the same
bytes.
"""

from __future__ import annotations

import copy
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from file_loaders import LOADERS, Loader, values

from datadistill.errors import DataError, UsageError
from datadistill.runs.canonical import canonical_json, parse_json
from datadistill.runs.tensors import pack, unpack

NASTY: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    7,
    10**6,
    10**9,
    10**12,
    2**63 - 1,
    -(2**63),
    2**64,
    0.5,
    -0.0,
    1e308,
    "",
    "x",
    "..",
    "\x1b[31m",
    "\u202e",
    "\ud800",
    "a" * 5000,
    [],
    {},
    [[]],
    [0],
    [10**12],
    {"a": 1},
    [None],
    ["x", "x"],
    [[0, 1], [2]],
    [1e308] * 3,
    {"": {"": []}},
]


@dataclass
class Figures:
    """What became of the mutations of one loader."""

    refused: int = 0
    equal: int = 0
    """Loaded, and equal to the original."""
    as_said: int = 0
    """Edited with a checksum that holds, and loaded as the file says."""
    wrong: list[str] = field(default_factory=list)
    """Loaded with other values, or ended in a foreign exception."""
    slowest: float = 0.0
    """Seconds."""

    @property
    def mutations(self) -> int:
        return self.refused + self.equal + self.as_said + len(self.wrong)


def damaged(data: bytes, r: random.Random) -> bytes:
    """One of: bits flipped, a cut, bytes put in, a piece gone, moved or doubled, a run of one
    byte."""
    kind, n = r.randrange(8), len(data)
    a, b = sorted((r.randrange(n + 1), r.randrange(n + 1)))
    if kind <= 1:
        out = bytearray(data)
        for _ in range(1 if kind == 0 else r.randrange(2, 9)):
            out[r.randrange(n)] ^= 1 << r.randrange(8)
        return bytes(out)
    if kind == 2:
        return data[:a]
    if kind == 3:
        return data[:a] + r.randbytes(r.randrange(1, 65)) + data[a:]
    if kind == 4:
        return data[:a] + data[b:]
    if kind == 5:
        return data[:a] + data[a:b] * 2 + data[b:]
    if kind == 6:
        return data[b:] + data[a:b] + data[:a]
    return data[:a] + bytes([r.choice((0, 32, 48, 255))]) * (b - a) + data[b:]


def edited(data: bytes, r: random.Random) -> bytes | None:
    """A safetensors file of ours with a field or a tensor changed, and its checksum made anew; or
    None."""
    try:
        tensors, meta = unpack(data, schema=10**6, verify=False, finite=False)
    except DataError:
        return None
    if r.random() < 0.25 and tensors:
        name = r.choice(sorted(tensors))
        t = tensors.pop(name)
        changes = [
            lambda: {},
            lambda: {name: t.reshape(-1)},
            lambda: {name: t[..., None]},
            lambda: {name: t[:0]},
            lambda: {name: t.double()},
            lambda: {name: t.long()},
            lambda: {r.choice(NAMES): t},
            lambda: {name: t * float("nan")},
            lambda: {name: t, "more": t},
            lambda: {name: t.bool()},
        ]
        tensors |= r.choice(changes)() if t.dim() else {}
    else:
        meta = edited_json(meta, r)
    try:
        return pack(tensors, meta)
    except (DataError, TypeError, ValueError):
        return None


NAMES = ["", ".", "..", "0.", "images", "theta_0.", "weight.", "9" * 30, "\x1b[31m", "\u202ename"]


def edited_json(document: Any, r: random.Random) -> Any:
    """A value swapped for a nasty one, a key gone, doubled under another name, or two values
    exchanged."""
    document = copy.deepcopy(document)
    places = [place for place in _places(document) if place[1] != "checksum"]
    if not places:
        return document
    owner, key = r.choice(places)
    kind = r.randrange(5)
    if kind == 0 and isinstance(owner, dict):
        del owner[key]
    elif kind == 1 and isinstance(owner, dict):
        owner[r.choice([*NAMES, "size", "nets"])] = copy.deepcopy(owner[key])
    elif kind == 2:
        other, place = r.choice(places)
        owner[key] = copy.deepcopy(other[place])
    else:
        owner[key] = copy.deepcopy(r.choice(NASTY))
    return document


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = (
        value.keys()
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])


def swapped(data: bytes, r: random.Random) -> bytes | None:
    """A JSON file with a value changed; or None."""
    try:
        document = parse_json(data)
        return canonical_json(edited_json(document, r), indent=2).encode()
    except (ValueError, TypeError):
        return None


def run(loader: Loader, count: int, seed: int = 0) -> Figures:
    """Read `count` mutated files."""
    figures, r = Figures(), random.Random(f"mutations {seed}")
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        loader.make(folder)
        original = values(loader.load(folder))
        contents = {file: (folder / file).read_bytes() for file in loader.files}
        for number in range(count):
            file = loader.files[number % len(loader.files)]
            whole = contents[file]
            new = edited(whole, r) if number % 2 else None
            signed = new is not None
            if new is None and number % 2:
                new = swapped(whole, r)
            if new is None:
                new = damaged(whole, r)
            (folder / file).write_bytes(new)
            began = time.perf_counter()
            _read(loader, folder, f"mutation {number} of {file}", new, original, signed, figures)
            figures.slowest = max(figures.slowest, time.perf_counter() - began)
            (folder / file).write_bytes(whole)
    return figures


def _read(
    loader: Loader,
    folder: Path,
    what: str,
    new: bytes,
    original: Any,
    signed: bool,
    figures: Figures,
) -> None:
    try:
        found = loader.load(folder)
        if values(found) == original:
            figures.equal += 1
        elif signed:
            if loader.save is not None:
                loader.save(found, folder / "again")
            if loader.save is None or (folder / "again").read_bytes() == new:
                figures.as_said += 1
            else:
                figures.wrong.append(f"{what}: loaded is not what the file says")
        else:
            figures.wrong.append(f"{what}: loaded with other values")
    except (DataError, UsageError) as error:
        figures.refused += 1
        if "\n" in str(error) or len(str(error)) > 2000:
            figures.wrong.append(f"{what}: {len(str(error))} characters of refusal")
    except Exception as error:
        figures.wrong.append(f"{what}: {type(error).__name__}: {error}"[:300])


def peak() -> float:
    """Megabytes this process had at most."""
    unit = 1_000_000 if sys.platform == "darwin" else 1_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    count, names = int(sys.argv[1]), sys.argv[2:] or list(LOADERS)
    print(
        "| loader | mutations | refused | equal | as the file says | wrong | slowest "
        "(s) | peak (MB) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        f = run(LOADERS[name], count)
        counts = f"{f.mutations} | {f.refused} | {f.equal} | {f.as_said} | {len(f.wrong)}"
        print(f"| {name} | {counts} | {f.slowest:.2f} | {peak():.0f} |", flush=True)
        for line in f.wrong[:10]:
            print(f"    {line!r}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
