"""LAF with targets on the server: thresholds, counts, the logit shift, the blend; a pure function."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.federations import same_bits

from fedlaf.core.errors import InvalidValue
from fedlaf.core.types import Weights
from fedlaf.objectives.laf_targets import TargetRule
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.phase import Phase, ServerState, Who
from fedlaf.strategies.laf_adam import LafAdam

METHOD = LafAdam(target_rule=TargetRule(strength=0.5, negative_weight=0.2))


def phase_of(step: str) -> Phase:
    return Phase(step, step, 1, Who.BOTH, TargetRule())


def predicted_counts(*numbers: float) -> dict[str, Weights]:
    return {Part.PREDICTED_COUNTS: {"predicted_counts": np.array(numbers)}}


def test_the_threshold_is_the_mean_by_rows_and_counts_are_sums() -> None:
    state = ServerState({"head.bias": np.zeros(2)}, aux={"h": {"shift": np.array([7.0, 8.0])}, "kept": 1})
    before = deepcopy(state)
    replies = [
        Reply(predicted_counts(10, 4.5), {"threshold": 1.0, "rows": 30}),
        Reply(predicted_counts(0, 1), {"threshold": 5.0, "rows": 10}),
    ]
    scored = METHOD.aggregate(phase_of("score"), state, replies)
    assert scored.aux["threshold"] == pytest.approx(2.0)
    assert scored.aux["retain"].tolist() == [10, 5.5]
    assigned = METHOD.aggregate(
        phase_of("assign_targets"),
        scored,
        [Reply(predicted_counts(3, -1)), Reply(predicted_counts(0.5, -1))],
    )
    assert assigned.aux["forget"].tolist() == [3.5, -2]
    assert METHOD.aggregate(phase_of("apply_logit_shift"), assigned, [Reply(), Reply()]) == assigned
    assert METHOD.config(phase_of("assign_targets"), assigned)["threshold"] == pytest.approx(2.0)
    assert METHOD.config(phase_of("score"), assigned)["threshold"] == 0
    sent = METHOD.arrays(phase_of("apply_logit_shift"), assigned)
    raw = np.array([-METHOD.target_rule.strength * 3.5 / 11, METHOD.target_rule.negative_weight * 2 / 6.5])
    np.testing.assert_allclose(sent[Part.SHIFT]["shift"], raw - raw.mean(), rtol=1e-6)
    assert sent[Part.SHIFT]["anchor"].tolist() == [7, 8]
    # Pure: what went in is as it was, and comes out the same a second time.
    assert state.aux.keys() == before.aux.keys()
    again = METHOD.aggregate(phase_of("score"), state, replies)
    assert same_bits(again.aux["h"], before.aux["h"])
    assert again.aux["retain"].tolist() == scored.aux["retain"].tolist()


def test_forgetting_clients_weigh_their_share_by_rows() -> None:
    def reply(value: float, retain: int, forget: int) -> Reply:
        arrays = {Part.EXTRACTOR: {"w": np.array([float(value)])}}
        return Reply(arrays, {"retain": retain, "forget": forget})

    state = ServerState({"extractor.w": np.array([0.0]), "head.b": np.array([9.0])})
    replies = [reply(1, 0, 30), reply(5, 80, 10), reply(10, 100, 0), reply(40, 50, 0)]
    method = replace(METHOD, forget_share=0.25)
    found = method.aggregate(phase_of("align"), state, replies)
    assert found.weights["extractor.w"].tolist() == [pytest.approx(0.25 * 2 + 0.75 * 20)]
    assert found.weights["head.b"] is state.weights["head.b"]
    assert state.weights["extractor.w"].tolist() == [0]


@pytest.mark.parametrize(
    ("key", "value"),
    [("warmup_steps", -1), ("align_rounds", 0), ("forget_share", 0), ("forget_share", 1.1),
     ("represent_rounds", 0), ("cohort", 0)],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(InvalidValue, match=f"^{key}: "):
        replace(METHOD, **{key: value})
