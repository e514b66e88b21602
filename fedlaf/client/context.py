"""All that a client step may know: the instruction, the client's rows, its model, its private state."""

from __future__ import annotations

from functools import cached_property

import torch
from flwr.app import Context, Message

from fedlaf.client.private_state import PrivateState
from fedlaf.client.runtime import ClientSpec, client_data, client_id, device_of, resident_model
from fedlaf.core.cost import Cost
from fedlaf.core.request import RowSplit
from fedlaf.core.seeding import seed_for, torch_stream
from fedlaf.core.types import ClientId
from fedlaf.data import LabelledRows, RowAccessLog, Rows
from fedlaf.data.federation import ClientData
from fedlaf.models import Density, Gaussian, Vae, build_vae, in_precision
from fedlaf.objectives import ClosedForm, Forget, Represent, TargetRule
from fedlaf.protocol.messages import Instruction, decode_instruction

TEACHER = "teacher"
"""Private state: positions of the retain rows in use, the original model's representations of both kinds."""


class ClientContext:
    """One message at one client."""

    def __init__(self, spec: ClientSpec, message: Message, context: Context) -> None:
        self.spec = spec
        self.instruction: Instruction = decode_instruction(message)
        self.client: ClientId = client_id(context)
        self.state = PrivateState(context.state)
        self.model = resident_model(spec)
        self.device = device_of(spec)
        self._access = RowAccessLog.empty(0)

    @cached_property
    def data(self) -> ClientData:
        """The client's rows; reading inputs is logged."""
        whole = client_data(self.spec, self.client)
        self._access = RowAccessLog.empty(len(whole))
        return whole.logged_in(self._access)

    @property
    def forget_positions(self) -> tuple[int, ...]:
        """Positions of the rows to forget."""
        return positions(self.instruction.rows, len(self.data))[0]

    @property
    def absent_positions(self) -> tuple[int, ...]:
        """Positions of all rows that are not retained: to forget now, or removed earlier."""
        return positions(self.instruction.rows, len(self.data))[1]

    @property
    def retain_count(self) -> int:
        """Number of the client's retain rows."""
        return len(self.data) - len(self.absent_positions)

    def stream(self, name: str, *more: str | int) -> torch.Generator:
        """The random generator of one purpose: a function of seed, stage, phase, purpose and client alone."""
        stage, phase = self.instruction.stage, self.instruction.phase
        # Training has one phase of its own name; its streams are those of retraining.
        names = (stage,) if phase == stage else (stage, phase)
        return torch_stream(self.instruction.seed, *names, name, *more, self.client)

    def density(self, settings: Represent | Forget | TargetRule, name: str) -> Density:
        """A new density `h` or `h_f` of the kind that the settings name."""
        if settings.density == "gaussian":
            return Gaussian(self.model.dims).to(self.device)
        return self.vae(settings, name)

    def vae(self, settings: Represent | Forget | TargetRule | ClosedForm, name: str) -> Vae:
        """A VAE with the same initial weights on all clients."""
        seed = seed_for(self.instruction.seed, self.instruction.stage, name)
        vae = build_vae(self.model.dims, settings.latent, settings.decoder, seed).to(self.device)
        return in_precision(vae, self.spec.precision)

    def rows(self, pool: torch.Tensor) -> tuple[Rows, Rows]:
        """Retain rows at the positions `pool` among all retain rows, and forget rows, without labels."""
        return self.data.inputs(self.absent_positions).at(pool), self.data.inputs_at(self.forget_positions)

    def labelled_rows(self, pool: torch.Tensor) -> tuple[LabelledRows, LabelledRows]:
        """The same rows with their labels."""
        retain = self.data.labelled(self.absent_positions).at(pool)
        return retain, self.data.labelled_at(self.forget_positions)

    def teacher(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Positions of the retain rows in use, and the original model's representations [N, D] of retain
        and forget rows. Raises LookupError before the phase that computes them.
        """
        kept = self.state.get(TEACHER)
        return kept["pool"], kept["retain"].to(self.device), kept["forget"].to(self.device)

    def access_cost(self) -> Cost:
        """Labels read for this message, and different rows of each kind read in this stage so far.

        Which rows these are stays with the client, and is kept only where it is a part of a kind: a client
        that has read all of a kind can read nothing new.
        """
        here, instruction, labels = self._access.marks, self.instruction, int(self._access.labels)
        if not here.any():
            return Cost(labels_read=labels)
        if here.all() and instruction.rows == RowSplit():  # most often
            return Cost(retain_rows_read=len(here), labels_read=labels)
        marks = here | self.state.rows_read(instruction.run, len(here))
        is_forget, is_retain = torch.zeros_like(marks), torch.ones_like(marks)
        is_forget[list(self.forget_positions)] = True
        is_retain[list(self.absent_positions)] = False
        forget = marks[is_forget]
        if not (marks[is_retain].all() and (forget.all() or not forget.any())):
            self.state.put_rows_read(instruction.run, marks)
        retain = int(marks[~is_forget].sum())
        return Cost(retain_rows_read=retain, forget_rows_read=int(forget.sum()), labels_read=labels)


def positions(rows: RowSplit, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of a client with `size` rows: positions of the rows to forget, and of all that are not retained."""
    if rows.withdraws:
        forget = tuple(sorted(set(range(size)) - set(rows.removed)))
        return forget, tuple(range(size))
    return rows.forget, tuple(sorted({*rows.forget, *rows.removed}))
