"""The import graph is the information barrier: a server method that cannot import data cannot peek."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LAYERS = {
    1: ("fedlaf.types", "fedlaf.seeding", "fedlaf.request", "fedlaf.demand", "fedlaf.held", "fedlaf.wire",
        "fedlaf.cost", "fedlaf.exact", "fedlaf.replies", "fedlaf.records",
        "fedlaf.stage", "fedlaf.relay", "fedlaf.ledger", "fedlaf.memory"),
    2: ("fedlaf.data", "fedlaf.models", "fedlaf.losses", "fedlaf.objectives", "fedlaf.aims",
        "fedlaf.logit_losses", "fedlaf.logit_objectives", "fedlaf.federation", "fedlaf.enrolment"),
    3: ("fedlaf.client", "fedlaf.evaluation"),
    5: ("fedlaf.simulation", "fedlaf.report"),
    6: ("fedlaf.config", "fedlaf.plan", "fedlaf.stages", "fedlaf.curve", "fedlaf.needs", "fedlaf.judge",
        "fedlaf.pipeline", "fedlaf.flower", "fedlaf.comparison", "fedlaf.__main__"),
}  # fmt: skip
STRATEGIES_MAY = (*LAYERS[1], "fedlaf.models", "fedlaf.losses", "fedlaf.objectives", "fedlaf.aims",
                  "fedlaf.logit_objectives", "strategies")  # fmt: skip
OUTSIDE_OF_STRATEGIES = {"numpy", "torch", "flwr"}


def layer_of(module: str) -> int | None:
    for layer, names in LAYERS.items():
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return layer
    return None


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            # `from fedlaf import wire` names the module in its list, not before it.
            found |= {f"{module}.{a.name}" for a in node.names} if module in PACKAGES else {module}
    return found


PACKAGES = {"fedlaf", "strategies", "fedlaf.client", "fedlaf.data", "fedlaf.evaluation"}
SOURCES = sorted((ROOT / "fedlaf").rglob("*.py"))
METHODS = sorted((ROOT / "strategies").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_fedlaf_imports_from_lower_layers_only(path: Path) -> None:
    module = module_of(path)
    own = layer_of(module)
    assert own is not None or module in ("fedlaf", "fedlaf.data.make_fashion_sample"), (
        f"{module} has no layer"
    )
    if own is None:
        return
    package = module.split(".")[1]
    for imported in imports_of(path):
        assert not imported.startswith("strategies"), f"{module} imports {imported}"
        if imported.startswith("fedlaf."):
            theirs = layer_of(imported)
            same_room = imported.split(".")[1] == package
            # Within a layer, files of one room and the files of layers 1, 2 and 6 know each other.
            allowed = same_room or (theirs is not None and (theirs < own or theirs == own in (1, 2, 6)))
            known = theirs is not None or imported == "fedlaf.__version__"
            assert known, f"{module} imports {imported}, which has no layer"
            assert allowed or theirs is None, f"{module} imports {imported}"


@pytest.mark.parametrize("path", METHODS, ids=module_of)
def test_strategies_never_see_data_clients_or_measures(path: Path) -> None:
    for imported in imports_of(path):
        if imported.startswith(("fedlaf", "strategies")):
            may = any(imported == m or imported.startswith(f"{m}.") for m in STRATEGIES_MAY)
            assert may, f"{module_of(path)} imports {imported}"
        else:
            standard = imported.split(".")[0] in __import__("sys").stdlib_module_names
            assert standard or imported.split(".")[0] in OUTSIDE_OF_STRATEGIES, imported


def test_forgetting_code_has_no_word_for_labels() -> None:
    """LAF's client code takes rows that have no labels; it may not even import those that do."""
    for name in ("forgetting", "representing"):
        text = (ROOT / "fedlaf" / "client" / f"{name}.py").read_text()
        assert "LabelledRows" not in text
        assert ".y" not in text


@pytest.mark.parametrize("path", [*SOURCES, *METHODS], ids=module_of)
def test_house_rules(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 290, "a file that long holds two things"
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False)
            size = node.end_lineno - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
            assert size <= 40, f"{node.name}: {size} lines"
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            assert module_of(path) == "fedlaf.__main__", "only the report and the entry print"
