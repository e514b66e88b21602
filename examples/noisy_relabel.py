"""A method with a client step of its own: forgetting clients train on wrong labels, the others repair.

After Graves et al., "Amnesiac Machine Learning", AAAI 2021. From this repository's folder:

    PYTHONPATH=examples fedlaf --config-dir examples/conf forget=noisy_relabel
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedlaf.client.context import ClientContext
from fedlaf.client.registry import client_step
from fedlaf.client.steps.training import train
from fedlaf.core.errors import require_count
from fedlaf.data import LabelledRows
from fedlaf.data.federation import build
from fedlaf.method.contract import ClientRegistry
from fedlaf.models.arrays import load_weights, weights_of
from fedlaf.objectives import Fit
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.local_steps import Recovering
from fedlaf.strategies.base.phase import Phase, Who


@client_step("fit_noisy_labels", Fit)
def fit_noisy_labels(context: ClientContext, settings: Fit) -> Reply:
    """Train the global model on the forget rows, each with a random label other than its own."""
    load_weights(context.model, context.instruction.weights(Part.MODEL))
    rows = context.data.labelled_at(context.forget_positions)
    stream = context.stream("noisy labels", context.instruction.round)
    classes = build(context.spec.federation).dataset.num_classes
    shift = torch.randint(1, classes, (len(rows),), generator=stream).to(rows.y.device)
    noisy = LabelledRows(rows.x, (rows.y + shift) % classes)
    numbers, cost = train(context.model, noisy, settings, stream)
    return Reply({Part.MODEL: weights_of(context.model)}, numbers, cost)


@dataclass(frozen=True)
class NoisyRelabel(Recovering):
    """`relabel_rounds` by the forgetting clients, whose models are averaged by their forget rows; then
    `recover_rounds` of federated averaging by the clients with retain rows.
    """

    relabel: Fit = Fit()  # noqa: RUF009 (frozen)
    relabel_rounds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("relabel_rounds", self.relabel_rounds)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Training on wrong labels, then recovery."""
        step = "fit_noisy_labels"
        relabel = self._phase("relabel", step, Who.FORGET, self.relabel, self.relabel_rounds, Part.MODEL)
        return [relabel, *self.recovery()]
