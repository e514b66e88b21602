"""Means, projections and Adam on hand-made numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlaf.strategies.base.aggregate import adam_step, blend, remove_reverting_component, weighted_mean


def one(*values: float) -> dict[str, np.ndarray]:
    return {"w": np.array(values, np.float32)}


def test_weighted_mean_of_three_numbers() -> None:
    mean = weighted_mean([one(1.0), one(2.0), one(6.0)], [1, 2, 1])
    assert mean["w"].tolist() == [2.75]
    assert mean["w"].dtype == np.float32


def test_a_mean_needs_weight() -> None:
    with pytest.raises(ValueError, match="positive weight"):
        weighted_mean([one(1.0)], [0.0])


def test_blend() -> None:
    assert blend(one(0.0), one(10.0), 0.3)["w"].tolist() == [3.0]


def test_the_way_back_is_closed_and_the_rest_of_the_update_kept() -> None:
    # The model stands at (2, 0), home is (0, 0); an update of (-1, 1) points home by -1.
    kept = remove_reverting_component(one(2, 0), one(1, 1), one(2, 0), one(0, 0))
    assert kept["w"].tolist() == [2.0, 1.0]
    # An update that leads away is left alone.
    assert remove_reverting_component(one(2, 0), one(3, 1), one(2, 0), one(0, 0))["w"].tolist() == [3.0, 1.0]
    # Without a way back there is nothing to close.
    assert remove_reverting_component(one(0, 0), one(-1, 1), one(0, 0), one(0, 0))["w"].tolist() == [
        -1.0,
        1.0,
    ]


def test_an_array_without_dimensions_stays_an_array_of_its_type() -> None:
    def with_count(count: int, *values: float) -> dict[str, np.ndarray]:
        return {**one(*values), "count": np.array(count)}

    now, proposed, home = with_count(7, 2, 0), with_count(7, 1, 1), with_count(7, 0, 0)
    kept = remove_reverting_component(now, proposed, now, home)
    assert type(kept["count"]) is np.ndarray
    assert (kept["count"].shape, kept["count"].dtype, int(kept["count"])) == ((), np.int64, 7)
    assert kept["w"].tolist() == [2.0, 1.0]


def test_closing_uses_the_frozen_way_not_the_present_one() -> None:
    # Forgetting went along x; the model now stands elsewhere. Only the x part of the update goes.
    kept = remove_reverting_component(one(2, 5), one(1, 4), one(2, 0), one(0, 0))
    assert kept["w"].tolist() == [2.0, 4.0]


coordinates = st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3)


@given(coordinates, coordinates, coordinates)
def test_what_is_kept_never_points_home(now: list[float], proposed: list[float], origin: list[float]) -> None:
    kept = remove_reverting_component(one(*now), one(*proposed), one(*now), one(*origin))["w"].astype(float)
    away = np.array(one(*now)["w"], float) - np.array(one(*origin)["w"], float)
    assert np.dot(kept - np.array(one(*now)["w"], float), away) >= -1e-3


def test_adam_steps_are_torchs() -> None:
    start = torch.tensor([1.0, -2.0, 3.0])
    parameter = torch.nn.Parameter(start.clone())
    adam = torch.optim.Adam([parameter], lr=0.1)
    weights, state = one(1.0, -2.0, 3.0), None
    before = None
    for gradient in ([0.5, -1.0, 2.0], [1.0, 1.0, 1.0], [-3.0, 0.0, 0.1]):
        parameter.grad = torch.tensor(gradient)
        adam.step()
        before = state
        weights, state = adam_step(weights, one(*gradient), 0.1, state)
    assert np.array_equal(weights["w"], parameter.detach().numpy())
    # Pure: the state that went in is as it was.
    assert before is not None
    assert float(before["state"][0]["step"]) == 2
