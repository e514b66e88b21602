"""LAF in closed form: the default. Two rounds of sums over rows, then the server solves; no gradient.

From LAF (Shen et al., ICLR 2024): the frozen teacher, h on its representations, label-free updates of the
extractor alone, alignment of both kinds of rows. Ours: targets, the estimate of class shares, the closed form
(`fedlaf.objectives.laf_closed_form`, `fedlaf.objectives.label_shift`, docs/laf.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fedlaf.core.errors import require, require_count, require_number
from fedlaf.core.seeding import torch_stream
from fedlaf.core.types import ClientId, Weights
from fedlaf.method.contract import ClientRegistry, Finding, Need
from fedlaf.models.arrays import as_tensors, load_weights
from fedlaf.objectives import ClosedForm, label_shift, laf_closed_form, laf_densities, laf_directions
from fedlaf.objectives.laf_closed_form import PROJECTION, unpacked
from fedlaf.objectives.laf_densities import Densities
from fedlaf.objectives.laf_targets import shift_of_representations
from fedlaf.protocol.exact_sum import exact_sum
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.densities import extractor_of, head_of, with_extractor
from fedlaf.strategies.base.phase import Phase, ServerState, Who
from fedlaf.strategies.base.strategy import ForgetStrategy


@dataclass(frozen=True)
class Laf(ForgetStrategy):
    """Features, then targets; with several forgetting clients two rounds in between for the directions that
    they share.

    `ridge` is lambda over the mean diagonal. `strength` multiplies the shift of classes: 1 is the change of
    the log prior, which theory asks for; a class that only one client is left with may need more. `cohort`
    limits how many clients with rows that remain are asked; their sums are weighted up to all. Strict
    throughout, because a missing party biases the result.
    """

    rule: ClosedForm = field(default_factory=ClosedForm)
    ridge: float = 1e-2
    strength: float = 1.0
    cohort: int | None = None

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ONLINE, Need.LINEAR})

    def __post_init__(self) -> None:
        require_number("ridge", self.ridge, above=0)
        require_number("strength", self.strength, at_least=0)
        if self.cohort is not None:
            require_count("cohort", self.cohort)

    def phases(self, registry: ClientRegistry) -> Sequence[Phase]:
        """Two rounds, or four."""
        several = len(_contributing(registry, self.rule)["forget"]) > 1
        return [
            self._phase("features", Who.RETAIN),
            *([self._phase(name, Who.FORGET) for name in ("axes", "marks")] if several else []),
            self._phase("targets", Who.FORGET),
        ]

    def _phase(self, name: str, who: Who) -> Phase:
        return Phase(name, f"laf_{name}", 1, who, self.rule, self.cohort, fixed_cohort=True)

    def check(self, registry: ClientRegistry) -> None:
        """Raise InvalidValue where all rows of a kind are held by clients with too few of them."""
        super().check(registry)
        if not registry.request.clients:
            return
        for kind, clients in _contributing(registry, self.rule).items():
            expected = (
                f"at most the {kind} rows of some client; secure_aggregation=true adds clients up first"
            )
            require(bool(clients), "rule.min_rows", expected, self.rule.min_rows)

    def server_init(self, state: ServerState, registry: ClientRegistry) -> ServerState:
        """Which clients hold enough rows of each kind."""
        return replace(state, aux={**state.aux, "contributing": _contributing(registry, self.rule)})

    def select_clients(self, phase: Phase, state: ServerState, clients: list[ClientId]) -> list[ClientId]:
        """Without the clients whose contribution would be of fewer rows than the floor."""
        kind = "forget" if phase.who is Who.FORGET else "retain"
        return [client for client in clients if client in state.aux["contributing"][kind]]

    def arrays(self, phase: Phase, state: ServerState) -> Mapping[str, Weights]:
        """The extractor and the head; then h, and the sides and directions where the server has them."""
        model = {Part.EXTRACTOR: extractor_of(state.weights), Part.HEAD: head_of(state.weights)}
        if phase.name == "features":
            return model
        names = [name for name in (*Densities._fields, "sides", "directions") if name in state.aux]
        return {Part.WHITENING: {name: state.aux[name] for name in names}, **model}

    def aggregate(self, phase: Phase, state: ServerState, replies: Sequence[Reply]) -> ServerState:
        """Sums become h, then the sides of axes, then the directions, then the solution."""
        sums = as_tensors(exact_sum(reply.arrays[Part.STATISTICS] for reply in replies))
        match phase.name:
            case "features":
                return self._with(state, **self._featured(sums, state))
            case "axes":
                return self._with(state, sides=laf_directions.axes(sums["deviations"]).numpy())
            case "marks":
                marks, directions = laf_directions.directions(sums["kinds"], self.rule)
                kept = {"sides": state.aux["sides"][marks.numpy()]} if "sides" in state.aux else {}
                return self._with(state, directions=directions.numpy(), **kept)
            case _:
                return self._solved(state, sums)

    def _with(self, state: ServerState, **more: Any) -> ServerState:
        return replace(state, aux={**state.aux, **more})

    def _featured(self, sums: Mapping[str, Tensor], state: ServerState) -> dict[str, Any]:
        grams = sums["representations"], sums["class_representations"]
        # Of a panel of clients, or of those that hold enough rows, up to all rows that remain.
        scale = state.aux["retain_rows"] / float(sums["features"][-1])
        h = laf_densities.densities(*grams, sums["classes"])
        return {
            **{name: array.numpy() for name, array in h._asdict().items()},
            "gram": sums["features"] * scale,
            "retain": sums["sureness"] * scale,
        }

    def shares(self, state: ServerState, sums: Mapping[str, Tensor]) -> Tensor:
        """The share of each class that remains [C]."""
        return label_shift.remaining_shares(state.aux["retain"], sums["sureness"])

    def _solved(self, state: ServerState, sums: Mapping[str, Tensor]) -> ServerState:
        whole = unpacked(state.aux["gram"] + sums["features"])
        change = laf_closed_form.ridge_solution(sums["cross"], whole, self.ridge)
        slope = self._of_features(state, change[:, :-1])
        shift = self.strength * label_shift.logit_shift(self.shares(state, sums))
        bias = shift_of_representations(_head(state), shift, torch.from_numpy(state.aux["mean"]))
        extractor = extractor_of(state.weights)
        weight_name, bias_name = list(extractor)[-2:]
        moved = {weight_name: slope, bias_name: change[:, -1] + bias}
        extractor = {
            name: (array + moved[name].numpy()).astype(array.dtype) if name in moved else array
            for name, array in extractor.items()
        }
        return self._with(
            replace(state, weights=with_extractor(state.weights, extractor)), shift=shift.numpy()
        )

    def _of_features(self, state: ServerState, change: Tensor) -> Tensor:
        """The change [D, P] of the layer's weights, from that of the features' projections [D, k]."""
        *_, weight, _ = extractor_of(state.weights).values()
        stream = torch_stream(state.aux["seed"], state.aux["stage"], PROJECTION)
        matrix = self.rule.projected(weight.shape[1], stream)
        return change if matrix is None else change @ matrix.T

    def limits(self, registry: ClientRegistry) -> Sequence[Finding]:
        """Wrong labels, which nothing without labels can see; rows of clients with too few of them."""
        found = []
        if registry.request.wrong_labels and Need.LABELS not in self.needs:
            message = (
                "the rows to forget have wrong labels, and LAF reads none: what they taught is removed only "
                "where representations show it; forget=laf_repair reads a share of the remaining labels"
            )
            found.append(Finding("labels unseen", "features", 0, message))
        for kind, held in _held(registry).items():
            few = {k: rows for k, rows in held.items() if rows < self.rule.floor}
            if few and len(few) < len(held):
                message = (
                    f"{sum(few.values())} {kind} rows of {len(few)} clients are left out: fewer than "
                    f"rule.min_rows={self.rule.min_rows} each"
                )
                found.append(Finding("rows left out", "features", 0, message))
        return found


def _head(state: ServerState) -> nn.Module:
    head: nn.Module = state.inputs.require("fresh")(0).head
    load_weights(head, head_of(state.weights))
    return head.cpu().double()


def _contributing(registry: ClientRegistry, rule: ClosedForm) -> dict[str, list[ClientId]]:
    return {
        kind: [client for client, rows in held.items() if rows >= rule.floor]
        for kind, held in _held(registry).items()
    }


def _held(registry: ClientRegistry) -> dict[str, dict[ClientId, int]]:
    """Rows of each kind by client, where there are any."""
    retain = {client: registry.retain_rows(client) for client in registry.retain_clients}
    return {"retain": retain, "forget": {k: len(registry.request.of(k)) for k in registry.forget_clients}}
