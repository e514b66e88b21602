"""Checkpoints between the rounds of one stage: values and arrays in files that are whole or not there.

A folder holds `round-N.json` for the last two checkpoints and the safetensors files that they refer to, each
named by the hash of its content: what has not changed since the checkpoint before is not written again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load

from fedlaf.core.safe_files import DRAFT, array_bytes, write_bytes, write_text
from fedlaf.core.trees import put_together, taken_apart
from fedlaf.method.history_writer import UNDO

KEPT = 2
"""Checkpoints that stay: where the last is damaged, the one before is taken."""


@dataclass(frozen=True)
class Checkpoint:
    """Groups of values by name, as they were after `number` rounds."""

    number: int
    groups: Mapping[str, Any]


@dataclass
class RoundCheckpoints:
    """The checkpoints of one stage in a folder of its own, `made_from` what a stage depends on.

    `notes` says in a line each what was found and could not be used.
    """

    folder: Path
    made_from: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)
    _known: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _used: dict[str, list[str]] = field(default_factory=dict, init=False)

    def save(self, number: int, groups: Mapping[str, Any], *, constant: Collection[str] = ()) -> None:
        """Save groups of values after `number` rounds; those named in `constant` never change.

        Raises NotStorable for a value that no file holds, and OSError, with the checkpoint before intact.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        saved = {name: self._group(name, value, constant) for name, value in groups.items()}
        body = json.dumps({"number": number, "made_from": dict(self.made_from), "groups": saved})
        digest = hashlib.sha256(body.encode()).hexdigest()
        path = self._file(number)
        write_text(path, f'{{"sha256": "{digest}", "body": {body}}}')
        self._used[path.name] = [group["sha256"] for group in saved.values() if group["sha256"]]
        self._prune()

    def back_to(self, number: int) -> None:
        """Remove the checkpoints after `number` rounds: the stage goes on from there (0: it begins again)."""
        if number == 0:
            return self.clear()
        for path in self.folder.glob("round-*.json"):
            if path.name > self._file(number).name:
                path.unlink()
        return None

    @property
    def oldest(self) -> int:
        """The number of rounds of the oldest checkpoint that is there; 0 where there is none."""
        return min((int(path.stem.partition("-")[2]) for path in self.folder.glob("round-*.json")), default=0)

    def newest_first(self) -> Iterator[Checkpoint]:
        """The checkpoints that can be used: whole, and of a stage that is made from the same."""
        for path in sorted(self.folder.glob("round-*.json"), reverse=True):
            try:
                found = self._read(path)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                self.notes.append(f"{path.parent.name}/{path.name} is damaged ({_line(error)})")
                continue
            if found is not None:
                yield found

    def clear(self) -> None:
        """Remove all of it: the stage has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._known.clear()
        self._used.clear()

    def _group(self, name: str, value: Any, constant: Collection[str]) -> dict[str, Any]:
        if name in constant and name in self._known:
            return self._known[name]
        plain, arrays = taken_apart(value)
        found: dict[str, Any] = {"plain": plain, "sha256": None}
        if arrays:
            content = array_bytes(arrays)
            found["sha256"] = hashlib.sha256(content).hexdigest()
            if not self._arrays(found["sha256"]).is_file():
                write_bytes(self._arrays(found["sha256"]), content, entry=False)
        if name in constant:
            self._known[name] = found
        return found

    def _read(self, path: Path) -> Checkpoint | None:
        whole = json.loads(path.read_text())
        body = whole["body"]
        if hashlib.sha256(json.dumps(body).encode()).hexdigest() != whole["sha256"]:
            raise ValueError("its hash is another")
        changed = [name for name, value in self.made_from.items() if body["made_from"].get(name) != value]
        if changed:
            self.notes.append(f"{path.parent.name}/{path.name} is of another run: {', '.join(changed)}")
            return None
        groups = {name: self._value(group) for name, group in body["groups"].items()}
        return Checkpoint(int(body["number"]), groups)

    def _value(self, group: Mapping[str, Any]) -> Any:
        if group["sha256"] is None:
            return put_together(group["plain"], {})
        content = self._arrays(group["sha256"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != group["sha256"]:
            raise ValueError(f"{group['sha256'][:12]} has another content")
        return put_together(group["plain"], load(content))

    def _prune(self) -> None:
        paths = sorted(self.folder.glob("round-*.json"))
        for path in paths[:-KEPT]:
            path.unlink()
            self._used.pop(path.name, None)
        for path in paths[-KEPT:]:
            self._used.setdefault(path.name, _files_of(path))
        used = {self._arrays(name).name for names in self._used.values() for name in names}
        for path in (*self.folder.glob("*.safetensors"), *self.folder.glob(f"*{DRAFT}")):
            if path.name not in used:
                path.unlink()

    def _file(self, number: int) -> Path:
        return self.folder / f"round-{number:06d}.json"

    def _arrays(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def settle_all(stages: Path) -> None:
    """Remove what only a run that goes back would need: all stages are finished."""
    for place in (*stages.glob("*.rounds"), *stages.glob(f"*.history/{UNDO}")):
        shutil.rmtree(place)


def _files_of(path: Path) -> list[str]:
    try:
        groups = json.loads(path.read_text())["body"]["groups"].values()
        return [group["sha256"] for group in groups if group["sha256"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
