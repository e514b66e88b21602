"""A cohort of the retain clients: what it says stands for all of them."""

from __future__ import annotations

import numpy as np
import pytest

from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base.phase import Phase, ServerState, Who
from fedlaf.strategies.laf_adam import LafAdam


def counted(cohort: int | None) -> np.ndarray:
    """The classes of the retain rows, as two clients of 4 and 8 rows count them; 60 rows remain in all."""
    replies = [
        Reply(
            {Part.PREDICTED_COUNTS: {"predicted_counts": np.array(counts)}},
            {"threshold": 1.0, "rows": sum(counts)},
            client=client,
        )
        for client, counts in enumerate(([1.0, 3.0, 0.0], [2.0, 2.0, 4.0]))
    ]
    state = ServerState({}, aux={"retain_rows": 60})
    phase = Phase("score", "score", 1, Who.RETAIN, None)
    return LafAdam(cohort=cohort).aggregate(phase, state, replies).aux["retain"]


@pytest.mark.parametrize(("cohort", "expected"), [(None, [3, 5, 4]), (2, [15, 25, 20])])
def test_a_cohorts_counts_stand_for_all_rows_that_remain(cohort: int | None, expected: list[int]) -> None:
    """Else many who leave would seem to outweigh the few who were asked, and shift every class."""
    assert counted(cohort).tolist() == expected
