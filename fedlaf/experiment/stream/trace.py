"""Requests of a file: JSON lines, which every run with a stream leaves in its folder too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from fedlaf.core.errors import InvalidValue, require
from fedlaf.core.stream import Arrival, Cancel, Event, Return
from fedlaf.experiment.stream.arrivals import Moment

KINDS: dict[str, Any] = {"request": Arrival, "cancel": Cancel, "return": Return}


@dataclass(frozen=True)
class Trace:
    """The requests of a JSON-lines `file`, each after the round in which it was issued."""

    file: str

    sees_model: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(Path(self.file).is_file(), "file", "a file of JSON lines", self.file)
        read(Path(self.file).absolute())

    def events(self, now: Moment) -> Sequence[Event]:
        """Those of the round, in the order of the file."""
        return [event for event in read(Path(self.file).absolute()) if event.issued == now.round]


@lru_cache(maxsize=4)
def read(path: Path) -> tuple[Event, ...]:
    """All events of a trace file. Raises InvalidValue, with the number of the line, for what is none."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                found.append(event_of(json.loads(line)))
            except InvalidValue as error:
                raise error.within(f"file, line {number}") from None
            except (json.JSONDecodeError, TypeError, ValueError) as error:
                raise InvalidValue(f"file, line {number}", f"a JSON object ({error})", line) from error
    asked = [event.id for event in found if not isinstance(event, Cancel)]
    twice = sorted({name for name in asked if asked.count(name) > 1})
    require(not twice, "file", "each id once", twice)
    unknown = sorted({event.id for event in found if isinstance(event, Cancel)} - set(asked))
    require(not unknown, "file", "cancelled requests that are there", unknown)
    return tuple(found)


def write(events: Iterable[Event], path: Path) -> None:
    """Write a trace file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text("".join(json.dumps(as_json(event)) + "\n" for event in events), encoding="utf-8")
    draft.replace(path)


def event_of(found: Any) -> Event:
    """An event from a JSON object. Raises InvalidValue."""
    require(isinstance(found, dict), "event", "a JSON object", found)
    kind = found.get("event", "request")
    require(kind in KINDS, "event", " or ".join(KINDS), kind)
    known = {f.name for f in fields(KINDS[kind])}
    for key in found.keys() - known:
        raise InvalidValue(str(key), f"one of {', '.join(sorted(known))}", found[key])
    for key in {"id", "issued"} - found.keys():
        raise InvalidValue(key, f"a value in each {kind}", None)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    event: Event = KINDS[kind](**values)
    return event


def as_json(event: Event) -> dict[str, Any]:
    """An event as a JSON object, without what it leaves at its default."""
    kept = {f.name: getattr(event, f.name) for f in fields(event)}
    usual = {f.name: f.default for f in fields(event)}
    return {
        k: list(v) if isinstance(v, tuple) else v
        for k, v in kept.items()
        if k in ("id", "issued", "client", "scope") or (k == "event" and v != "request") or v != usual[k]
    }
