"""LAF+R: repair reads the labelled share of the remaining rows, the same in every round, no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import enrolled, initial_weights, same_bits, small_spec

from fedlaf.client import training
from fedlaf.data import LabelledRows
from fedlaf.federation import build
from fedlaf.objectives import Fit, Forget, Represent
from fedlaf.request import ForgetRequest
from fedlaf.stage import Outcome, Stage
from strategies.laf import Laf
from strategies.laf_repair import LafRepair

LAF = {"represent": Represent(latent=4), "represent_rounds": 1, "forget": Forget(), "forget_steps": 2}
SIZES = dict.fromkeys(range(4), 100)
REQUEST = ForgetRequest.of_samples({0: range(100), 2: range(60, 100)}, SIZES)


def run(method: Laf) -> Outcome:
    spec = small_spec(4)
    grid, roster = enrolled(spec)
    return method.run(grid, initial_weights(spec), Stage("request-1", 0, replace(roster, request=REQUEST)))


def keys(rows: LabelledRows) -> list[bytes]:
    return [x.numpy().tobytes() for x in rows.x]


@pytest.mark.parametrize("share", [0.05, 0.25, 1.0])
def test_repair_never_touches_a_row_outside_the_labelled_share(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[bytes]] = []
    real = training.fit

    def watched(model, rows, settings, stream):  # type: ignore[no-untyped-def]
        seen.append(keys(rows))
        return real(model, rows, settings, stream)

    monkeypatch.setattr(training, "fit", watched)
    outcome = run(LafRepair(**LAF, repair=Fit(labels=share), repair_rounds=2))
    federation = build(small_spec(4).federation)
    asked = [record.asked for record in outcome.records if record.phase == "repair"]
    assert asked == [(1, 2, 3), (1, 2, 3)]  # whoever withdrew is not asked
    first, second = seen[:3], seen[3:]
    assert first == second  # the same rows in every round
    for client, rows in zip((1, 2, 3), first, strict=True):
        remaining = keys(federation.client(client).labelled(REQUEST.of(client)))
        assert len(rows) == round(share * len(remaining))
        assert set(rows) <= set(remaining)
    assert outcome.cost.labels_read == sum(len(rows) for rows in seen)


def test_without_labels_it_is_plain_laf() -> None:
    plain = run(Laf(**LAF))
    assert same_bits(plain.weights, run(LafRepair(**LAF, repair=Fit(labels=0))).weights)
    assert plain.cost.labels_read == 0


def test_repair_is_federated_averaging_from_where_laf_ended() -> None:
    from strategies.fedavg import FedAvg

    fit = Fit(lr=1e-2)
    repaired = run(LafRepair(**LAF, repair=fit))
    spec = small_spec(4)
    grid, roster = enrolled(spec)
    after = replace(roster, gone=REQUEST)
    plain = FedAvg(1, fit=fit).run(grid, run(Laf(**LAF)).weights, Stage("request-1", 0, after))
    assert same_bits(repaired.weights, plain.weights)
    head = [k for k in repaired.weights if k.startswith("head.")]
    assert any(not np.array_equal(repaired.weights[k], initial_weights(spec)[k]) for k in head)
