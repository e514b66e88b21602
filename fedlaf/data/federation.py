"""A federation: who holds which rows, and the one description from which any process rebuilds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import torch

from fedlaf.core.errors import require, require_count, within
from fedlaf.core.request import Holdings
from fedlaf.core.seeding import numpy_stream
from fedlaf.core.types import ClientId, Indices
from fedlaf.data.corruption import Backdoor, Backdoors, Trigger, WrongLabels, plant
from fedlaf.data.dataset import Dataset, LabelledRows, Rows
from fedlaf.data.partition import Partition
from fedlaf.data.row_access import RowAccessLog
from fedlaf.data.sources import Source, load_once


@dataclass(frozen=True)
class ClientData:
    """One client's rows, as the client sees them: corrupted where corruption was configured."""

    rows: LabelledRows

    def __len__(self) -> int:
        return len(self.rows)

    def labelled(self, but: Sequence[int] = ()) -> LabelledRows:
        """All rows with labels, except the positions `but`."""
        return self.rows.at(self._kept(but)) if but else self.rows

    def inputs(self, but: Sequence[int] = ()) -> Rows:
        """All rows without labels, except the positions `but`."""
        return self.labelled(but).unlabelled()

    def inputs_at(self, positions: Sequence[int]) -> Rows:
        """The rows at `positions`, without labels."""
        return self.rows.unlabelled().at(torch.tensor(list(positions), dtype=torch.int64))

    def labelled_at(self, positions: Sequence[int]) -> LabelledRows:
        """The rows at `positions`, with labels."""
        return self.rows.at(torch.tensor(list(positions), dtype=torch.int64))

    def logged_in(self, access_log: RowAccessLog) -> ClientData:
        """The same rows, which note in `access_log` when their inputs are taken."""
        return ClientData(self.rows.logged_in(access_log))

    def _kept(self, but: Sequence[int]) -> torch.Tensor:
        kept = torch.ones(len(self.rows), dtype=torch.bool)
        kept[torch.tensor(list(but), dtype=torch.int64)] = False
        return kept.nonzero().flatten()


@dataclass(frozen=True)
class Federation:
    """Indices, labels and marks of every client over one dataset.

    `parts[k]` are client k's rows of the training set (int64 [P]), `labels[k]` the labels it
    holds, `marks[k]` says which of the `triggers` a row carries (int64 [P]; 1 is the first, 0 none),
    `wrong[k]` marks rows with a wrong label. `server` are rows that no client holds.
    """

    dataset: Dataset
    parts: tuple[Indices, ...]
    labels: tuple[npt.NDArray[np.int64], ...]
    marks: tuple[npt.NDArray[np.int64], ...]
    wrong: tuple[npt.NDArray[np.bool_], ...]
    triggers: tuple[Trigger, ...] = ()
    server: Indices | None = None

    def __len__(self) -> int:
        return len(self.parts)

    def client(self, client: ClientId) -> ClientData:
        """The rows of `client`, gathered from the dataset."""
        x = self.dataset.train.x[torch.from_numpy(self.parts[client])]
        for number, trigger in enumerate(self.triggers, start=1):
            x = plant(x, self.marks[client] == number, trigger)
        return ClientData(LabelledRows(x, torch.from_numpy(self.labels[client])))

    def on_server(self) -> Rows:
        """The server's rows, which come without labels."""
        none = np.zeros(0, np.int64)
        held = torch.from_numpy(none if self.server is None else self.server)
        return self.dataset.train.unlabelled().at(held)

    @cached_property
    def planted(self) -> tuple[npt.NDArray[np.bool_], ...]:
        """Which rows of each client carry a trigger, bool [P]."""
        return tuple(marks > 0 for marks in self.marks)

    @cached_property
    def holdings(self) -> Holdings:
        """What requests are stated over."""
        return Holdings(self.labels, self.wrong, self.dataset.num_classes)

    @cached_property
    def sizes(self) -> dict[ClientId, int]:
        """Number of rows of each client."""
        return {k: len(part) for k, part in enumerate(self.parts)}


@dataclass(frozen=True)
class FederationSpec:
    """The description of a federation: small, hashable, equal in every process."""

    source: Source
    partition: Partition
    clients: int
    seed: int
    backdoor: Backdoor | Backdoors | None = None
    wrong_labels: WrongLabels | None = None
    server_rows: int = 0

    def __post_init__(self) -> None:
        require_count("clients", self.clients)
        require_count("server_rows", self.server_rows, at_least=0)


@lru_cache(maxsize=2)
def build(spec: FederationSpec) -> Federation:
    """The federation that `spec` describes, built once per process; pure in `spec`.

    Raises InvalidValue, with the section's key, for what does not fit the dataset.
    """
    dataset = load_once(spec.source)
    right = dataset.train.y.numpy()
    held, server = _divided(len(right), spec)
    stream = numpy_stream(spec.seed, "partition")
    groups = None if dataset.groups is None else dataset.groups.numpy()[held]
    parts = tuple(held[part] for part in spec.partition(right[held], spec.clients, stream, groups=groups))
    labels = [right[part] for part in parts]
    marks = [np.zeros(len(part), np.int64) for part in parts]
    triggers: list[Trigger] = []
    if spec.wrong_labels is not None:
        _mislabel(spec, spec.wrong_labels, labels, dataset.num_classes)
    wrong = tuple(held != right[part] for held, part in zip(labels, parts, strict=True))
    if spec.backdoor is not None:
        expected = "null (corruption=none) where inputs are neither images nor series"
        require(len(dataset.shape) in (2, 3), "corruption.backdoor", expected, dataset.shape)
        with within("corruption.backdoor"):
            triggers = _planted(spec, spec.backdoor, dataset, marks, labels)
    return Federation(dataset, parts, tuple(labels), tuple(marks), wrong, tuple(triggers), server)


def _divided(rows: int, spec: FederationSpec) -> tuple[Indices, Indices]:
    """Which rows clients hold, and which the server."""
    expected = f"fewer than the {rows} rows of the training set"
    require(spec.server_rows < rows, "server_rows", expected, spec.server_rows)
    stream = numpy_stream(spec.seed, "server rows")
    server = np.sort(stream.permutation(rows)[: spec.server_rows]).astype(np.int64)
    return np.setdiff1d(np.arange(rows, dtype=np.int64), server), server


def _planted(
    spec: FederationSpec, backdoor: Backdoor | Backdoors, dataset: Dataset,
    marks: list[npt.NDArray[np.int64]], labels: list[npt.NDArray[np.int64]],
) -> list[Trigger]:  # fmt: skip
    """The triggers; marks of rows and their labels are changed in place."""
    if isinstance(backdoor, Backdoors):
        triggers = []
        for number, one in enumerate(backdoor.each, start=1):
            with within(f"each.{number - 1}"):
                triggers.append(_plant_one(spec, one, number, dataset, marks, labels))
        return triggers
    return [_plant_one(spec, backdoor, 1, dataset, marks, labels)]


def _plant_one(
    spec: FederationSpec, one: Backdoor, number: int, dataset: Dataset,
    marks: list[npt.NDArray[np.int64]], labels: list[npt.NDArray[np.int64]],
) -> Trigger:  # fmt: skip
    trigger = one.trigger(dataset.shape, dataset.num_classes, white=dataset.largest_input)
    rows = 0
    for k in _known(one.clients, spec.clients):
        names = ("backdoor", k) if number == 1 else ("backdoor", k, number)
        stream = numpy_stream(spec.seed, *names)
        marked = one.planted(len(labels[k]), stream, taken=marks[k] > 0)
        marks[k] = np.where(marked, number, marks[k])
        labels[k] = np.where(marked, one.target, labels[k])
        rows += int(marked.sum())
    _require_some("share", one.share, rows)
    return trigger


def _mislabel(
    spec: FederationSpec,
    wrong: WrongLabels,
    labels: list[npt.NDArray[np.int64]],
    num_classes: int,
) -> None:
    chosen = range(spec.clients) if wrong.clients is None else wrong.clients
    changed = 0
    with within("corruption.wrong_labels"):
        for k in _known(chosen, spec.clients):
            stream = numpy_stream(spec.seed, "wrong_labels", k)
            corrupted = wrong.corrupted(labels[k], num_classes, stream)
            changed += int((corrupted != labels[k]).sum())
            labels[k] = corrupted
        _require_some("share", wrong.share, changed)


def _require_some(key: str, share: float, rows: int) -> None:
    """A share that rounds to no row of any client would corrupt nothing, silently."""
    require(rows > 0, key, "a share that is at least one row of a client", share)


def _known(named: Sequence[ClientId], clients: int) -> Sequence[ClientId]:
    for client in named:
        require(0 <= client < clients, "clients", f"client ids from 0 to {clients - 1}", client)
    return named
