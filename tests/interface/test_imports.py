"""Imports run one way, the command line answers without torch, and every public name is
documented."""

import ast
import functools
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import datadistill as dd

ROOT = Path(dd.__file__).parent
BOTTOM = {"allocator", "errors", "config", "streams", "runs", "progress", "stats"}
BUILDING = {"innerloop", "nets", "data", "device", "precision", "torch_defaults", "synthetic"}
SETS = {
    "objectives",
    "starts",
    "theta",
    "distilled",
    "distilled_file",
    "distilled_checks",
    "distilled_prefix",
    "distilled_start",
    "distilled_training",
    "earlier_files",
    "features",
    "pool",
    "pool_checks",
    "pool_from_modules",
    "pretrained_values",
    "quantization",
    "real_features",
    "teacher_labels",
    "unfinished",
}
BELOW_METHODS = BOTTOM | BUILDING | SETS
# room -> the rooms it may import from, itself apart. A new room needs a line.
MAY_IMPORT = {
    **{room: {"errors"} for room in BOTTOM},
    "runs": {"errors", "config", "progress"},
    **{room: BOTTOM | BUILDING for room in BUILDING},
    **{room: BELOW_METHODS for room in SETS},
    "recipes": {"config", "errors"},
    "studies": BOTTOM,
    "evaluation": BELOW_METHODS,
    "visualize": BELOW_METHODS,
    "export": BELOW_METHODS,
    "methods": BELOW_METHODS,
    "training": BELOW_METHODS | {"methods", "evaluation"},
    "reproduce": BELOW_METHODS | {"recipes", "studies", "training", "evaluation", "visualize"},
    "cli": BELOW_METHODS
    | {"recipes", "training", "evaluation", "visualize", "export", "reproduce", "studies", "cli"},
    "__main__": {"cli"},
}


def imported(tree, module, is_package, for_types=True):
    """Dotted names a module imports, relative ones resolved, at the top or inside functions."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree if for_types else WithoutTypes().visit(tree)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                stem = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{stem}.{base}".rstrip(".")
            # `from datadistill import streams` names a module in the names, not in the base
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


class WithoutTypes(ast.NodeTransformer):
    """Takes out what is imported for type checkers alone."""

    def visit_If(self, node):
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def modules(root=ROOT):
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield path, ".".join(parts[:-1] if is_package else parts), is_package


@functools.cache
def edges():
    """(importing module, line, imported dotted name) for the imports within the two packages."""
    return [
        (module, line, name)
        for path, module, is_package in modules()
        for name, line in imported(ast.parse(path.read_text(encoding="utf-8")), module, is_package)
        if name.split(".")[0] in ("datadistill", "kd_baselines")
    ]


def room(dotted):
    return dotted.split(".")[1] if "." in dotted else ""


def test_relative_imports_are_resolved():
    source = (
        "from ..errors import A\nfrom . import b\nfrom .c import d\nimport datadistill.nets.spec\n"
    )
    found = [name for name, _ in imported(ast.parse(source), "datadistill.runs.x", False)]
    assert found == [
        "datadistill.errors.A",
        "datadistill.runs.b",
        "datadistill.runs.c.d",
        "datadistill.nets.spec",
    ]
    found = [name for name, _ in imported(ast.parse(source), "datadistill.runs", True)]
    assert found[:2] == ["datadistill.errors.A", "datadistill.runs.b"]


def test_every_room_has_its_place():
    rooms = {room(module) for _, module, _ in modules()} - {""}
    assert rooms == set(MAY_IMPORT)


def test_imports_run_one_way():
    wrong = [
        f"{module}:{line} imports {name}"
        for module, line, name in edges()
        # the package itself is a lazy table of names
        if module != "datadistill"
        and room(name) not in MAY_IMPORT[room(module)] | {room(module)}
        # `from datadistill import __version__` is no import of a room
        and name != "datadistill.__version__"
    ]
    assert wrong == []


def test_there_are_imports_to_look_at():
    found = {(room(module), room(name)) for module, _, name in edges()}
    assert {("training", "evaluation"), ("evaluation", "innerloop"), ("nets", "streams")} <= found
    assert len(found) > 30


def test_no_room_imports_itself_by_way_of_others():
    graph = {}
    for module, _, name in edges():
        if module != "datadistill" and room(name) != room(module):
            graph.setdefault(room(module), set()).add(room(name))
    for start in set(MAY_IMPORT) - SETS:  # a set and its file know each other
        seen, ahead = set(), set(graph.get(start, ()))
        while ahead:
            there = ahead.pop()
            seen.add(there)
            ahead |= graph.get(there, set()) - seen
        assert start not in seen


def test_no_module_imports_itself_by_way_of_others():
    """Neither at the top nor inside functions."""
    found = [*modules(), *modules(ROOT.parent / "kd_baselines")]
    names, graph = {module for _, module, _ in found}, {}
    for path, module, is_package in found:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name, _ in imported(tree, module, is_package, for_types=False):
            # `from datadistill import data` names a module, `from datadistill.data import load`
            # what is in one
            there = name if name in names else name.rpartition(".")[0]
            if there in names and there != module:
                graph.setdefault(module, set()).add(there)
    tuple(TopologicalSorter(graph).static_order())  # CycleError names the circle
    assert len(graph) > 200


def test_drawing_and_exporting_never_need_training():
    assert [
        e for e in edges() if room(e[0]) in ("visualize", "export") and room(e[2]) == "training"
    ] == []


def test_datadistill_never_imports_its_sibling():
    assert [e for e in edges() if e[2].split(".")[0] == "kd_baselines"] == []


def test_what_answers_help_imports_torch_inside_functions_only():
    for path, module, _ in modules():
        if room(module) not in ("", "config", "errors", "recipes", "cli", "progress"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    [a.name for a in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                )
                assert not [n for n in names if n.split(".")[0] == "torch"], (
                    f"{module}:{node.lineno}"
                )


# --- public names

CONTRACT = {
    "DistillConfig",
    "DistilledDataset",
    "Evaluation",
    "FullUnroll",
    "Higher",
    "StepReplay",
    "Steps",
    "Truncated",
    "adam",
    "distill",
    "evaluate",
    "momentum",
    "sgd",
    "unroll",
}


def test_the_contracts_names_are_there():
    assert set(dd.__all__) >= CONTRACT
    assert len(set(dd.__all__)) == len(dd.__all__)
    assert set(dd.__all__) <= set(dir(dd))


@pytest.mark.parametrize("name", [n for n in dd.__all__ if not n.startswith("__")])
def test_every_public_name_is_documented(name):
    thing = getattr(dd, name)
    text = thing.__doc__ or ""
    assert len(text.strip().splitlines()[0]) > 15, f"dd.{name} has no docstring"
    # a dataclass without one gets its signature for a docstring
    assert not text.startswith(f"{name}("), f"dd.{name} has no docstring"
    assert thing.__module__.startswith("datadistill.")


def test_the_lazy_names_are_those_that_type_checkers_see():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    seen = {name.rpartition(".")[2] for name, _ in imported(tree, "datadistill", True)}
    assert {n for n in dd.__all__ if not n.startswith("__")} <= seen


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        _ = dd.distil
