"""The board: one page that lists every run and comparison below a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from os.path import relpath
from pathlib import Path
from typing import Any

from fedlaf.core.errors import require
from fedlaf.evaluation.catalogue import CATALOGUE
from fedlaf.report.page.html import document, plain

KINDS = {"report.json": "run", "comparison.json": "comparison"}
SHOWN = ("unlearned", "retrained")


def board_page(folder: Path) -> str:
    """The HTML of the board over `folder`.

    Raises InvalidValue when it is no folder or has nothing to show.
    """
    require(folder.is_dir(), "board", "a folder with runs or comparisons", str(folder))
    entries = sorted(_entries(folder), key=lambda entry: str(entry["path"]))
    require(bool(entries), "board", "a folder with a report.json or comparison.json in it", str(folder))
    _keep_differences([entry["config"] for entry in entries])
    titles = {name: {"title": found.label, "digits": found.digits} for name, found in CATALOGUE.items()}
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    data = {"folder": folder.resolve().name, "made": now, "entries": entries, "titles": titles}
    return document(f"fedlaf: board of {folder.resolve().name}", "board", plain(data))


def _entries(folder: Path) -> Iterator[dict[str, Any]]:
    for path in (path for name in KINDS for path in folder.rglob(name)):
        try:
            found = json.loads(path.read_text())
            kind = KINDS[path.name]
            yield _entry(folder, path, kind) | (_run(found) if kind == "run" else _comparison(found))
        except (json.JSONDecodeError, KeyError, TypeError):
            continue  # a file of the same name that is not ours


def _entry(folder: Path, path: Path, kind: str) -> dict[str, Any]:
    page = path.with_name("report.html" if kind == "run" else "comparison.html")
    parent = relpath(path.parent.parent, folder) if path.parent != folder else "."
    made = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M")
    return {
        "kind": kind, "path": relpath(path.parent, folder), "group": parent, "made": made,
        "page": relpath(page, folder) if page.is_file() else None,
    }  # fmt: skip


def _run(found: Mapping[str, Any]) -> dict[str, Any]:
    config = dict(_flat(found["config"]))
    entry = {"method": found["method"], "seed": found["seed"], "config": config, "measures": {}}
    entry["data"] = str(config.get("data._target_", "")).rpartition(".")[2] or config.get("data.name", "")
    if not found["requests"]:
        return {**entry, "verdict": "nothing asked"}
    last = found["requests"][-1]
    models = {model: last["models"].get(model, {}) for model in SHOWN}
    names = dict.fromkeys(name for measures in models.values() for name in measures)
    measures = {name: {m: v.get(name) for m, v in models.items()} for name in names}
    return {
        **entry, "measures": measures, "gap": models["unlearned"].get("gap"),
        "passes": last["share_of_retraining_percent"].get("passes"),
        "verdict": "stopped" if last["stopped"] else ", ".join((last["verdict"] or {}).get("outcome", ())),
    }  # fmt: skip


def _comparison(found: Mapping[str, Any]) -> dict[str, Any]:
    methods = {row["method"] for row in found["rows"]} - {"nothing"}
    seeds = f"{len(found['seeds'])} seeds"
    return {
        "method": f"{len(methods)} methods", "title": found["title"], "data": found["title"],
        "verdict": seeds, "config": {},
    }  # fmt: skip


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield key, value if isinstance(value, (int, float, str, bool, type(None))) else json.dumps(value)
        return
    for name, held in value.items():
        yield from _flat(held, f"{key}.{name}" if key else str(name))


def _keep_differences(configs: Sequence[dict[str, Any]]) -> None:
    """Leave only the keys in which any two runs differ: the page needs no others."""
    runs = [config for config in configs if config]
    every = {key for config in runs for key in config}
    same = {key for key in every if len({json.dumps(config.get(key)) for config in runs}) == 1}
    for config in runs:
        for key in same & config.keys():
            del config[key]
