"""What the server keeps of training for later requests, as methods see it: on disk, nothing held in memory.

A folder holds `updates/round-T/client-K.safetensors` (trained minus sent), `last/client-K` (the
model a client trained last), `magnitudes/client-K` (its sum of absolute updates) and
`models/round-T/model` (the model that a round began with).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, gcd
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from fedlaf.core.errors import require, require_count, require_number
from fedlaf.core.types import ClientId, Weights

KINDS = ("updates", "last", "magnitudes", "models")
TRAINED = "trained.json"
"""File of the rows that each client trained on, over all rounds in which it took part."""
INDEX = "index.json"
"""File of a round's clients: their rows and the norms of their updates."""
MODEL = "model.safetensors"
"""File of the model that a round began with."""


@dataclass(frozen=True)
class HistorySpec:
    """What is kept: updates of every `every`-th round from the first on (0: none) of the `share` of its
    clients whose updates are largest, each client's `last` model, its sum of absolute updates (`magnitudes`),
    the `models` that rounds began with.
    """

    every: int = 0
    share: float = 1.0
    last: bool = False
    magnitudes: bool = False
    models: bool = False

    def __post_init__(self) -> None:
        require_count("every", self.every, at_least=0)
        require_number("share", self.share, above=0, at_most=1)

    @classmethod
    def of(cls, kinds: Iterable[str]) -> HistorySpec:
        """All of the `kinds`, by name. Raises InvalidValue for an unknown one."""
        named = list(kinds)
        unknown = [kind for kind in named if kind not in KINDS]
        require(not unknown, "history", f"auto, or a list of {', '.join(KINDS)}", named)
        return cls(int("updates" in named), 1.0, *(kind in named for kind in KINDS[1:]))

    def __bool__(self) -> bool:
        return bool(self.every or self.last or self.magnitudes or self.models)

    def joined(self, other: HistorySpec) -> HistorySpec:
        """What serves both."""
        share = max((spec.share for spec in (self, other) if spec.every), default=1.0)
        whole = (getattr(self, kind) or getattr(other, kind) for kind in KINDS[1:])
        return HistorySpec(gcd(self.every, other.every), share, *whole)

    def covers(self, other: HistorySpec) -> bool:
        """Whether what this keeps is enough for `other`."""
        updates = self.every > 0 and other.every % self.every == 0 and self.share >= other.share
        enough = not other.every or updates
        return enough and all(getattr(self, kind) >= getattr(other, kind) for kind in KINDS[1:])

    def at(self, round_: int) -> bool:
        """Whether updates of that round are kept."""
        return self.every > 0 and (round_ - 1) % self.every == 0


@dataclass(frozen=True)
class HistoryHandle:
    """A folder of records and what was kept in it."""

    spec: HistorySpec
    folder: Path


@dataclass(frozen=True)
class UpdateHistory:
    """What training kept, as a method sees it: as much of it as `spec` says, nothing of clients that
    have withdrawn (`removed`), whatever else is there.
    """

    folders: Sequence[Path]
    spec: HistorySpec
    removed: frozenset[ClientId] = frozenset()

    @property
    def rounds(self) -> list[int]:
        """Rounds with updates, in order."""
        return sorted(self._places)

    def rows(self, round_: int) -> dict[ClientId, int]:
        """Rows of each client that took part in a round, its weight in the mean."""
        index = json.loads((self._places[round_] / INDEX).read_text())["rows"]
        return {int(k): rows for k, rows in sorted(index.items(), key=lambda kv: int(kv[0]))
                if int(k) not in self.removed}  # fmt: skip

    def clients(self, round_: int) -> list[ClientId]:
        """Clients whose updates of a round are there, in partition order."""
        norms = json.loads((self._places[round_] / INDEX).read_text())["norms"]
        large = largest({int(k): value for k, value in norms.items()}, self.spec.share)
        return [k for k in large if k not in self.removed]

    def update(self, round_: int, client: ClientId) -> Weights:
        """Trained minus sent, of a client in a round."""
        return load_file(self._places[round_] / file_of(client))

    def last(self, client: ClientId) -> Weights | None:
        """The model that a client trained last; None when it never trained."""
        for folder in reversed(self.folders):
            path = folder / "last" / file_of(client)
            if path.is_file():
                return load_file(path)
        return None

    def trained_rows(self) -> dict[ClientId, int]:
        """Rows that each client trained on: its rows times the rounds in which it took part."""
        total: Counter[ClientId] = Counter()
        for folder in self.folders:
            total.update({int(k): rows for k, rows in json.loads((folder / TRAINED).read_text()).items()})
        return {client: rows for client, rows in sorted(total.items()) if client not in self.removed}

    def magnitudes(self) -> Iterator[tuple[ClientId, Weights]]:
        """Each client's sum of absolute updates, over all of training."""
        for client in self._recorded("magnitudes"):
            paths = [folder / "magnitudes" / file_of(client) for folder in self.folders]
            parts = [load_file(path) for path in paths if path.is_file()]
            yield client, {k: np.asarray(sum(part[k] for part in parts)) for k in parts[0]}

    def before_use(self, clients: Iterable[ClientId], trained: int) -> tuple[int, Weights | None]:
        """The first of `trained` rounds in which one of `clients`, or one that has withdrawn, took part, and
        the model that it began with: nothing of theirs is in it. Where none did, the round after the last,
        and no model.

        A round whose model is gone ends the search at the one before. Raises LookupError without the first.
        """
        theirs, places, last = {*clients, *self.removed}, self._models, 0
        for round_ in range(1, trained + 1):
            if round_ not in places:
                break
            last = round_
            if theirs & _took_part(places[round_]):
                break
        else:
            return trained + 1, None
        if not last:
            raise LookupError("the model that training began with is not in its history")
        return last, load_file(places[last] / MODEL)

    @property
    def nbytes(self) -> int:
        """Bytes of arrays that the server must hold for `spec`: those of all clients, for it cannot
        know who will leave.
        """
        size = sum(_size(self._places[t] / file_of(k)) for t in self.rounds for k in self.clients(t))
        for kind in ("last", "magnitudes"):
            if getattr(self.spec, kind):
                files = {file.name: file for folder in self.folders for file in (folder / kind).iterdir()}
                size += sum(_size(files[file_of(k)]) for k in self._recorded(kind))
        return size + sum(_size(place / MODEL) for place in self._models.values() if self.spec.models)

    def _recorded(self, kind: str) -> list[ClientId]:
        names = {file.stem for folder in self.folders for file in (folder / kind).iterdir()}
        return [k for k in sorted(int(name.partition("-")[2]) for name in names) if k not in self.removed]

    @cached_property
    def _places(self) -> dict[int, Path]:
        return {
            round_: path
            for round_, path in _numbered(self.folders, "updates").items()
            if self.spec.at(round_)
        }

    @cached_property
    def _models(self) -> dict[int, Path]:
        return {t: path for t, path in _numbered(self.folders, "models").items() if (path / MODEL).is_file()}


def largest(norms: dict[ClientId, float], share: float) -> list[ClientId]:
    """The `share` of the clients with the largest norms, in partition order."""
    most = ceil(share * len(norms))
    return sorted(sorted(norms, key=lambda k: (-norms[k], k))[:most])


def of_round(folder: Path, round_: int, kind: str = "updates") -> Path:
    """The folder of a round's updates, or of the model that it began with (`models`)."""
    return folder / kind / f"round-{round_:04d}"


def contaminated(folders: Iterable[Path], clients: Iterable[ClientId]) -> list[Path]:
    """Files of the models in the folders of a training's stages to which any of `clients` had contributed."""
    theirs, used, found = set(clients), False, []
    for _, place in sorted(_numbered(folders, "models").items()):
        if used:
            found.append(place / MODEL)
        used = used or bool(theirs & _took_part(place))
    return found


def _numbered(folders: Iterable[Path], kind: str) -> dict[int, Path]:
    """Folders of rounds, by round."""
    found = (path for folder in folders for path in (folder / kind).glob("round-*"))
    return {int(path.name.partition("-")[2]): path for path in found}


def _took_part(place: Path) -> set[ClientId]:
    return {int(client) for client in json.loads((place / INDEX).read_text())["rows"]}


def file_of(client: ClientId) -> str:
    """The name of a client's file."""
    return f"client-{client:04d}.safetensors"


def _size(path: Path) -> int:
    """Bytes of the arrays in a file: all that follows its header, whose length comes first."""
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    return path.stat().st_size - 8 - header
