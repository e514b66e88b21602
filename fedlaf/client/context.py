"""One message at one client: what it was told, its rows, its model, its streams."""

from __future__ import annotations

from functools import cached_property

import torch
from flwr.app import Context, Message

from fedlaf.client import private_state
from fedlaf.client.runtime import ClientSpec, client_data, client_id, device_of, resident_model
from fedlaf.core.cost import Cost
from fedlaf.core.request import RowSplit
from fedlaf.core.seeding import seed_for, torch_stream
from fedlaf.core.types import ClientId
from fedlaf.data import LabelledRows, Looked, Rows
from fedlaf.data.federation import ClientData
from fedlaf.models import Density, Gaussian, Vae, build_vae, in_precision
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.objectives.laf_targets import Aim
from fedlaf.protocol.messages import Instruction, decode_instruction

TAUGHT = "taught"
OWN_VAE = "h_f"
AIMED = "aimed"
GOALS = "goals"
LOGITS = "logits"


class Visit:
    """One message at one client: what it was told, its rows, its model, its streams."""

    def __init__(self, spec: ClientSpec, message: Message, context: Context) -> None:
        self.spec, self.context = spec, context
        self.told: Instruction = decode_instruction(message)
        self.client: ClientId = client_id(context)
        self.model = resident_model(spec)
        self.device = device_of(spec)
        self._looked = Looked.nowhere(0)

    @cached_property
    def data(self) -> ClientData:
        """The client's rows, which note when they are looked at."""
        whole = client_data(self.spec, self.client)
        self._looked = Looked.nowhere(len(whole))
        return whole.noting(self._looked)

    def rows_read(self) -> Cost:
        """How many different rows of each kind the client has looked at in this stage so far.

        Which they are stays with the client, and is kept only where it is a part of them: whoever has
        looked at all of a kind has no more to see.
        """
        if not self._looked.marks.any():
            return Cost()
        if self._looked.marks.all() and self.told.rows == RowSplit():  # most often
            return Cost(retained_rows_read=len(self._looked.marks))
        marks = self._looked.marks | private_state.looked_at(
            self.context, self.told.run, len(self._looked.marks)
        )
        forgotten, remaining = torch.zeros_like(marks), torch.ones_like(marks)
        forgotten[list(self.split[0])] = True
        remaining[list(self.split[1])] = False
        far, near = marks[forgotten], marks[~forgotten]
        if not (marks[remaining].all() and (far.all() or not far.any())):
            private_state.keep_looked_at(self.context, self.told.run, marks)
        return Cost(retained_rows_read=int(near.sum()), forgotten_rows_read=int(far.sum()))

    @property
    def split(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Positions of the rows to forget, and of all rows that do not remain."""
        return positions(self.told.rows, len(self.data))

    def stream(self, name: str, *more: str | int) -> torch.Generator:
        """The generator of one purpose: a function of run, stage, purpose and client alone."""
        return torch_stream(self.told.seed, self.told.stage, name, *more, self.client)

    def density(self, settings: Represent | Forget | Aim, name: str) -> Density:
        """What `h` or `h_f` is, by the settings."""
        if settings.density == "gaussian":
            return Gaussian(self.model.dims).to(self.device)
        return self.vae(settings, name)

    def vae(self, settings: Represent | Forget | Aim, name: str) -> Vae:
        """A VAE whose initial weights are the same on all clients."""
        seed = seed_for(self.told.seed, self.told.stage, name)
        vae = build_vae(self.model.dims, settings.latent, settings.decoder, seed).to(self.device)
        return in_precision(vae, self.spec.precision)

    def rows(self, pool: torch.Tensor) -> tuple[Rows, Rows]:
        """The remaining rows in use, at `pool` among all that remain, and the forgotten ones."""
        forget, absent = self.split
        return self.data.inputs(absent).at(pool), self.data.inputs_at(forget)

    def labelled_rows(self, pool: torch.Tensor) -> tuple[LabelledRows, LabelledRows]:
        """The same rows with their labels."""
        forget, absent = self.split
        return self.data.labelled(absent).at(pool), self.data.labelled_at(forget)

    def taught(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Which remaining rows the client uses, and the teacher's representations of both kinds."""
        kept = private_state.kept(self.context, TAUGHT)
        return kept["pool"], kept["retained"].to(self.device), kept["forgotten"].to(self.device)


def positions(rows: RowSplit, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of a client with `size` rows: those to forget, and those that do not remain."""
    if rows.leaves:
        forget = tuple(sorted(set(range(size)) - set(rows.gone)))
        return forget, tuple(range(size))
    return rows.forget, tuple(sorted({*rows.forget, *rows.gone}))
