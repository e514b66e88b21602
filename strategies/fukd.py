"""FUKD (Wu et al., 2022): the withdrawn client is subtracted, the trained model distilled into the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedlaf.core.cost import Cost
from fedlaf.core.seeding import seed_for, torch_stream
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry, Need
from fedlaf.models.normalisation import train_mode
from fedlaf.objectives.classification import Distil
from fedlaf.strategies.base.history import mean_update, moved, share_of, with_trainable
from fedlaf.strategies.base.phase import ServerState
from fedlaf.strategies.base.server_only import ServerOnly


@dataclass(frozen=True)
class Fukd(ServerOnly):
    """theta_T - sum_t p_u Delta_u^t, then distillation on rows of the server that have no labels."""

    distil: Distil = field(default_factory=Distil)

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WHOLE, Need.UPDATES, Need.SERVER_ROWS})

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """The distilled model."""
        history, withdrawing = state.inputs.require("history"), registry.request.clients
        erased = state.weights
        for round_ in history.rounds:
            update = mean_update(history, round_, withdrawing)
            if update is not None:
                share = share_of(history.rows(round_), withdrawing)
                erased = with_trainable(erased, moved(erased, update, -share))
        seed, stage = state.aux["seed"], state.aux["stage"]
        teacher, student = (
            _loaded(state.inputs.require("fresh")(seed_for(seed, stage, "network")), weights)
            for weights in (state.weights, erased)
        )
        inputs, stream = state.inputs.require("server_rows"), torch_stream(seed, stage, "distil")
        with one_thread():
            distilled(teacher, student, inputs, self.distil, stream)
        passes = len(inputs) * (1 + self.distil.epochs)
        weights = {k: v.detach().cpu().contiguous().numpy().copy() for k, v in student.state_dict().items()}
        return replace(state, weights=weights, cost=Cost(server_passes=passes))


def distilled(
    teacher: nn.Module, student: nn.Module, inputs: Tensor, settings: Distil, stream: torch.Generator
) -> None:
    """Train the student in place towards the teacher's softened predictions of the inputs [N, ...]."""
    teacher.eval()
    with torch.no_grad():
        targets = torch.cat([teacher(part).logits for part in inputs.split(settings.batch_size)])
    optimiser = torch.optim.Adam(student.parameters(), lr=settings.lr)
    for _ in range(settings.epochs):
        for batch in torch.randperm(len(inputs), generator=stream).split(settings.batch_size):
            train_mode(student, len(batch))
            loss = settings.loss(student(inputs[batch]).logits, targets[batch])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()


@contextmanager
def one_thread() -> Iterator[None]:
    """As in every worker: bits must not depend on the machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _loaded(network: nn.Module, weights: Weights) -> nn.Module:
    network.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()})
    return network
