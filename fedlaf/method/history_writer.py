"""Writes what the server keeps of training: round by round, so that it can be taken up between two rounds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from fedlaf.core.safe_files import write_arrays, write_text
from fedlaf.core.types import ClientId, Weights
from fedlaf.core.weights import norm
from fedlaf.method.update_history import INDEX, MODEL, TRAINED, HistoryHandle, file_of, largest, of_round

UNDO = "undo"
"""Folder of sums as they were at a checkpoint, for a run that goes back to it."""


class HistoryDamaged(ValueError):
    """A history that lacks something of what a checkpoint says of it."""


@dataclass
class HistoryWriter:
    """Writes what a training stage keeps; what an earlier attempt left in the folder goes, unless it is
    `resumed`.
    """

    handle: HistoryHandle
    resumed: bool = False
    trained: dict[ClientId, int] = field(default_factory=dict, init=False)
    _mark: int = field(default=0, init=False)
    _rows: dict[ClientId, int] = field(default_factory=dict, init=False)
    _norms: dict[ClientId, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.resumed:
            shutil.rmtree(self.handle.folder, ignore_errors=True)
            self.handle.folder.mkdir(parents=True)

    @classmethod
    def at(
        cls, handle: HistoryHandle, round_: int, trained: Mapping[ClientId, int], *, first: int = 1
    ) -> HistoryWriter:
        """A writer that goes on after `round_`, with the folder as it was then. Its first round is `first`.

        Raises HistoryDamaged when the folder lacks what was kept until then.
        """
        writer = cls(handle, resumed=True)
        writer.trained = dict(trained)
        writer._back_to(round_)
        writer._check(first, round_)
        writer.checkpointed(round_)
        return writer

    def take(self, round_: int, client: ClientId, sent: Weights, trained: Weights, *, rows: int) -> None:
        """A client's answer in a round."""
        spec, folder = self.handle.spec, self.handle.folder
        update = {k: np.asarray(trained[k] - sent[k]) for k in sent}
        if spec.models and not self._rows:
            _save(of_round(folder, round_, "models") / MODEL, sent)
        self._rows[client], self._norms[client] = rows, norm(update)
        if spec.at(round_):
            _save(of_round(folder, round_) / file_of(client), update)
        if spec.last:
            _save(folder / "last" / file_of(client), trained)
        if spec.magnitudes:
            path = folder / "magnitudes" / file_of(client)
            before = load_file(path) if path.is_file() else {}
            self._set_aside(path)
            _save(path, {k: np.asarray(np.abs(v) + before.get(k, 0)) for k, v in update.items()})

    def end(self, round_: int) -> None:
        """The round is over: who took part is noted, and updates that are too small go."""
        if self.handle.spec.at(round_):
            folder = of_round(self.handle.folder, round_)
            large = largest(self._norms, self.handle.spec.share)
            for client in set(self._norms) - set(large):
                (folder / file_of(client)).unlink()
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / INDEX, json.dumps({"rows": self._rows, "norms": self._norms}), sync=False)
        if self.handle.spec.models:
            index = of_round(self.handle.folder, round_, "models") / INDEX
            write_text(index, json.dumps({"rows": self._rows}), sync=False)
        for client, rows in self._rows.items():
            self.trained[client] = self.trained.get(client, 0) + rows
        write_text(self.handle.folder / TRAINED, json.dumps(self.trained), sync=False)
        self._rows, self._norms = {}, {}

    def checkpointed(self, round_: int, *, oldest: int | None = None) -> None:
        """A run may go back to the end of `round_` from now on, and to none before `oldest`."""
        self._mark = round_
        for place in self._undo():
            if place[0] < (round_ if oldest is None else oldest):
                shutil.rmtree(place[1])

    def _set_aside(self, path: Path) -> None:
        """Keep a file that is about to change as it was at the last checkpoint."""
        if self._mark and path.is_file():
            kept = self.handle.folder / UNDO / str(self._mark) / path.name
            if not kept.is_file():
                kept.parent.mkdir(parents=True, exist_ok=True)
                path.replace(kept)

    def _undo(self) -> list[tuple[int, Path]]:
        places = (self.handle.folder / UNDO).glob("*")
        return sorted((int(place.name), place) for place in places if place.name.isdecimal())

    def _back_to(self, round_: int) -> None:
        folder = self.handle.folder
        for place in (*(folder / "updates").glob("round-*"), *(folder / "models").glob("round-*")):
            if int(place.name.partition("-")[2]) > round_:
                shutil.rmtree(place)
        # The oldest of what was set aside since then is what there was then.
        for since, place in reversed(self._undo()):
            if since >= round_:
                for kept in place.iterdir():
                    kept.replace(folder / "magnitudes" / kept.name)
                shutil.rmtree(place)
        known = {file_of(client) for client in self.trained}
        for kind in ("last", "magnitudes"):
            for path in (folder / kind).glob("*"):
                if path.name not in known:
                    path.unlink()

    def _check(self, first: int, last: int) -> None:
        spec, folder = self.handle.spec, self.handle.folder
        rounds = [of_round(folder, t) for t in range(first, last + 1) if spec.at(t)]
        models = [of_round(folder, t, "models") for t in range(first, last + 1) if spec.models]
        lacking = [place.name for place in (*rounds, *models) if not (place / INDEX).is_file()]
        kinds = [kind for kind in ("last", "magnitudes") if getattr(spec, kind)]
        wanted = [folder / kind / file_of(client) for kind in kinds for client in self.trained]
        wanted += [place / MODEL for place in models]
        try:
            for place in rounds:
                norms = json.loads((place / INDEX).read_text())["norms"] if place.name not in lacking else {}
                kept = largest({int(k): value for k, value in norms.items()}, spec.share)
                wanted += [place / file_of(client) for client in kept]
            for path in wanted:
                with safe_open(path, "numpy"):
                    pass
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise HistoryDamaged(f"{folder.name}: {error}") from error
        if lacking:
            raise HistoryDamaged(f"{folder.name} lacks {lacking[0]}")


def settle(folder: Path) -> None:
    """Remove from a finished history what only a run that goes back would need."""
    shutil.rmtree(folder / UNDO, ignore_errors=True)


def _save(path: Path, weights: Weights) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, weights, sync=False)
