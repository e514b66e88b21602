"""The import graph is the information barrier: rooms import from lower floors only.

A server method that cannot import data cannot peek at it.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FLOORS = (
    ("core",),
    ("data", "models", "method"),
    ("protocol", "objectives", "evaluation"),
    ("client", "simulation", "report", "strategies"),
    ("experiment",),
    ("__main__", "__init__"),
)
"""Rooms by floor, the ground first; within a floor nobody imports a neighbour."""

STRATEGIES_MAY = {"core", "method", "protocol", "objectives", "models", "strategies"}
OUTSIDE_OF_STRATEGIES = {"numpy", "torch", "flwr"}

SOURCES = sorted(
    path for top in ("fedlaf", "strategies") for path in (ROOT / top).rglob("*.py") if not path.is_symlink()
)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "fedlaf" else ("fedlaf", *parts))


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            # `from fedlaf import report` names the room in its list, not before it.
            found |= {f"fedlaf.{a.name}" for a in node.names} if module == "fedlaf" else {module}
    return found


def test_every_room_is_on_a_floor() -> None:
    rooms = {room_of(module_of(path)) for path in SOURCES}
    assert rooms == {room for floor in FLOORS for room in floor}
    loose = {path.name for path in (ROOT / "fedlaf").glob("*.py")}
    assert loose == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_rooms_import_from_lower_floors_only(path: Path) -> None:
    own = room_of(module_of(path))
    for imported in imports_of(path):
        top = imported.split(".")[0]
        assert top not in ("strategies", "conf", "tests", "benchmarks"), imported
        if top != "fedlaf":
            if own == "strategies":
                assert top in OUTSIDE_OF_STRATEGIES or top in sys.stdlib_module_names, imported
            continue
        theirs = room_of(imported)
        assert theirs == own or floor_of(theirs) < floor_of(own), f"{module_of(path)} imports {imported}"
        if own == "strategies":
            assert theirs in STRATEGIES_MAY, f"{module_of(path)} imports {imported}"
        else:
            assert theirs != "strategies", f"{module_of(path)} imports {imported}"


def test_forgetting_code_has_no_word_for_labels() -> None:
    """LAF's client code takes rows that have no labels; it may not even import those that do."""
    for name in ("laf_loop", "representations"):
        text = (ROOT / "fedlaf" / "client" / "steps" / f"{name}.py").read_text()
        assert "LabelledRows" not in text
        assert ".y" not in text


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_house_rules(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 250, "a file that long holds two things"
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False)
            size = node.end_lineno - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
            assert size <= 40, f"{node.name}: {size} lines"
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            assert room_of(module_of(path)) == "__main__", "only the report and the entry print"
