"""FedOSD's direction and way back, and unrolling's sum: by hand, and by properties."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedlaf.core.errors import InvalidValue
from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import Weights
from fedlaf.method.contract import ClientRegistry, MethodInputs, Need
from fedlaf.objectives.classification import Fit
from fedlaf.objectives.gradients import Unroll
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.base import aggregate
from fedlaf.strategies.base.phase import ServerState
from fedlaf.strategies.fedosd import FedOsd, direction
from fedlaf.strategies.unroll import SingleGradient

SIZES = {0: 10, 1: 30, 2: 60}


def vector(*values: float) -> Weights:
    """In two arrays, so that names and shapes matter."""
    return {"a": np.array([values[:2]], np.float32), "b": np.array(values[2:], np.float32)}


def flat(weights: Weights) -> list[float]:
    return [float(x) for array in weights.values() for x in array.ravel()]


def test_a_gradient_orthogonal_to_one_axis_keeps_its_length() -> None:
    """(3, 4, 12) without its part along the first axis is (0, 4, 12); 13 / sqrt(160) times that."""
    found = aggregate.orthogonal_to(vector(3, 4, 12), [vector(2, 0, 0)])
    scale = 13 / sqrt(160)
    assert flat(found) == pytest.approx([0, 4 * scale, 12 * scale])
    assert [array.shape for array in found.values()] == [(1, 2), (1,)]


def test_dependent_and_empty_gradients_count_once_or_not_at_all() -> None:
    others = [vector(1, 1, 0), vector(0, 0, 0), vector(2, 2, 0), vector(-1, -1, 0), vector(1, 2, 0)]
    found = aggregate.orthogonal_to(vector(3, 4, 12), others)
    assert flat(found) == pytest.approx([0, 0, 13])


def test_without_others_it_is_the_gradient_and_within_their_span_there_is_no_direction() -> None:
    assert flat(aggregate.orthogonal_to(vector(3, 4, 12), [])) == pytest.approx([3, 4, 12])
    assert flat(aggregate.orthogonal_to(vector(3, 4, 0), [vector(1, 0, 0), vector(1, 1, 0)])) == [0, 0, 0]
    assert flat(aggregate.orthogonal_to(vector(0, 0, 0), [vector(1, 0, 0)])) == [0, 0, 0]


@settings(deadline=None)
@given(arrays(np.float64, (5, 12), elements=st.integers(-20, 20).map(float)))
def test_the_direction_is_orthogonal_to_all_and_as_long_as_the_gradient(rows: np.ndarray) -> None:
    gradient, *others = ({"w": row} for row in rows)
    found = aggregate.orthogonal_to(gradient, others)["w"]
    length = np.linalg.norm(rows[0])
    distance, *_ = np.linalg.lstsq(rows[1:].T, rows[0], rcond=1e-9)
    apart = np.linalg.norm(rows[0] - rows[1:].T @ distance)
    if apart > 1e-4 * length:
        assert np.linalg.norm(found) == pytest.approx(length)
        for other in rows[1:]:
            if np.linalg.norm(other) > 1e-3:
                assert abs(found @ other) <= 1e-4 * length * np.linalg.norm(other)


def test_moving_leaves_what_has_no_direction() -> None:
    weights = {"w": np.array([1.0, 2.0], np.float32), "count": np.array(7, np.int64)}
    found = aggregate.moved(weights, {"w": np.array([10.0, -10.0])}, -0.1)
    assert found["w"].tolist() == pytest.approx([0, 3])
    assert (found["w"].dtype, found["count"].dtype, found["count"].shape) == (np.float32, np.int64, ())
    assert found["count"] == 7


def replies() -> list[Reply]:
    """One who withdraws, one who forgets a third of his rows, one who forgets nothing."""
    return [
        Reply({Part.FORGET_GRADIENT: vector(0, 1, 9)}, {"retain": 0, "forget": 10}),
        Reply(
            {Part.RETAIN_GRADIENT: vector(1, 0, 0), Part.FORGET_GRADIENT: vector(0, 4, 0)},
            {"retain": 40, "forget": 20},
        ),
        Reply({Part.RETAIN_GRADIENT: vector(0, 1, 0)}, {"retain": 30, "forget": 0}),
    ]


def test_fedosd_takes_the_mean_of_the_forget_gradients_orthogonal_to_each_retain_one() -> None:
    """The mean by rows is (0, 3, 3); orthogonal to both axes it is (0, 0, sqrt(18))."""
    assert flat(direction(replies())) == pytest.approx([0, 0, sqrt(18)])
    method = FedOsd(lr=0.5)
    gradients = method.phases(ClientRegistry({}, SIZES))[0]
    state = method.aggregate(gradients, ServerState(vector(1, 1, 1)), replies())
    assert flat(state.weights) == pytest.approx([1, 1, 1 - 0.5 * sqrt(18)])
    again = method.aggregate(gradients, state, replies())
    assert flat(again.weights) == pytest.approx([1, 1, 1 - sqrt(18)])
    assert flat(again.aux["origin"]) == [1, 1, 1]  # the model that the request found


def test_in_fedosds_recovery_each_client_loses_what_leads_back() -> None:
    """From (1, 0, 0), with home at 0: (-1/2, 1, 0) leads back and keeps (0, 1, 0); (1/2, 0, 0) is kept."""
    method = FedOsd()
    recover = method.phases(ClientRegistry({}, SIZES))[-1]
    assert (recover.step, recover.mean) == ("fit", None)
    state = ServerState(vector(1, 0, 0), aux={"origin": vector(0, 0, 0)})
    trained = [
        Reply({Part.MODEL: vector(0.5, 1, 0)}, {"rows": 30}),
        Reply({Part.MODEL: vector(1.5, 0, 0)}, {"rows": 90}),
    ]
    found = method.aggregate(recover, state, trained)
    assert flat(found.weights) == pytest.approx([0.25 * 1 + 0.75 * 1.5, 0.25, 0])


def test_unrolling_adds_the_clients_weighted_gradients() -> None:
    method = SingleGradient(eta=0.1)
    (phase,) = method.phases(ClientRegistry({}, SIZES, ForgetRequest.of_clients([0], SIZES)))
    state = ServerState(vector(1, 1, 1), inputs=MethodInputs(vector(5, 5, 5)))
    assert flat(method.arrays(phase, state)[Part.MODEL]) == [5, 5, 5]
    sent = [Reply({Part.FORGET_GRADIENT: vector(*g)}) for g in ((0.5, 0, 1), (1.5, 0, -3))]
    assert flat(method.aggregate(phase, state, sent).weights) == pytest.approx([1.2, 1, 0.8])


def test_unrolling_tells_how_many_rows_there_are_that_are_not_gone() -> None:
    removed = ForgetRequest.of_clients([1], SIZES)
    registry = ClientRegistry({}, SIZES, ForgetRequest.of_samples({0: [1]}, SIZES), removed)
    (phase,) = SingleGradient(unroll=Unroll(batch_size=8)).phases(registry)
    assert phase.settings == Unroll(batch_size=8, whole=70)
    assert SingleGradient.needs == {Need.ONLINE, Need.LABELS, Need.START}


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda: SingleGradient(eta=0.0), "eta"),
        (lambda: FedOsd(lr=0.0), "lr"),
        (lambda: FedOsd(gradient_rounds=0), "gradient_rounds"),
        (lambda: FedOsd(recover=Fit(), recover_rounds=-1), "recover_rounds"),
        (lambda: FedOsd(cohort=0), "cohort"),
    ],
)
def test_wrong_values_are_refused(call: object, key: str) -> None:
    with pytest.raises(InvalidValue, match=rf"^{key}: expected"):
        call()  # type: ignore[operator]
