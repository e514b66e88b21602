"""Methods that use what training left on the server, by hand: models of three numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.histories import leaving, numbers, recorded, state_of, three
from torch import Tensor, nn

from fedlaf.method.contract import MethodInputs
from fedlaf.method.update_history import HistorySpec
from fedlaf.models.classifier import Output
from fedlaf.objectives.classification import Distil, Fit
from fedlaf.protocol.messages import Part, Reply
from fedlaf.strategies.conda import ConDa
from fedlaf.strategies.fast_fedul import FastFedUl
from fedlaf.strategies.fedaccum import FedAccum
from fedlaf.strategies.federaser import FedEraser, calibrated
from fedlaf.strategies.fukd import Fukd, distilled

EQUAL = {0: 10, 1: 10, 2: 10}
UNEQUAL = {0: 10, 1: 10, 2: 30}
TWO_ROUNDS = [
    {0: (3, 0, 6), 1: (0, 4, 2), 2: (2, 8, 4)},
    {0: (9, 0, 0), 1: (1, 1, 1), 2: (3, 5, 7)},
]


# ---- FedAccum: theta_0 + sum of the others' means


def test_fedaccum_sums_the_others(tmp_path: Path) -> None:
    """Start (1, 1, 1). Round 1 without client 0: mean of (0,4,2), (2,8,4) = (1,6,3); round 2: (2,3,4)."""
    history = recorded(tmp_path, TWO_ROUNDS, EQUAL)
    state = state_of(three(0, 0, 0), history, start=three(1, 1, 1))
    found = FedAccum().server_init(state, leaving(EQUAL, 0))
    assert numbers(found.weights) == [4, 10, 8]


def test_fedaccum_weighs_by_rows_and_skips_rounds_of_the_withdrawing_client_alone(tmp_path: Path) -> None:
    """Client 2 weighs three times client 1: (0,4,2)/4 + 3(2,8,4)/4 = (1.5, 7, 3.5)."""
    history = recorded(tmp_path, [TWO_ROUNDS[0], {0: (9, 9, 9)}], UNEQUAL)
    state = state_of(three(0, 0, 0), history, start=three(0, 0, 0))
    assert numbers(FedAccum().server_init(state, leaving(UNEQUAL, 0)).weights) == [1.5, 7, 3.5]


def test_nobody_who_left_before_is_in_a_sum(tmp_path: Path) -> None:
    history = replace(recorded(tmp_path, TWO_ROUNDS, EQUAL), removed=frozenset({1}))
    state = state_of(three(0, 0, 0), history, start=three(0, 0, 0))
    assert numbers(FedAccum().server_init(state, leaving(EQUAL, 0)).weights) == [5, 13, 11]  # client 2 alone


# ---- Fast-FedUL: D_t = (1 + a) D_{t-1} + 1/(K(K-1)) sum of others - 1/K Delta_u


def test_fast_fedul_by_hand(tmp_path: Path) -> None:
    """K = 3. D_1 = ((0,4,2) + (2,8,4)) / 6 - (3,0,6) / 3 = (-2/3, 2, -1).
    D_2 = 1.5 D_1 + ((1,1,1) + (3,5,7)) / 6 - (9,0,0) / 3 = (-1, 3, -1.5) + (-7/3, 1, 4/3).
    """
    history = recorded(tmp_path, TWO_ROUNDS, EQUAL)
    found = FastFedUl(alpha=0.5).server_init(state_of(three(10, 10, 10), history), leaving(EQUAL, 0))
    assert numbers(found.weights) == pytest.approx([10 - 10 / 3, 14, 10 - 1 / 6], abs=1e-5)


def test_fast_fedul_without_growth_is_the_mean_of_the_others(tmp_path: Path) -> None:
    """One round from zero: theta_T = (5/3, 4, 4); without client 0 it is (1, 6, 3), any rows."""
    for rows, expected in ((EQUAL, [1, 6, 3]), (UNEQUAL, [1.5, 7, 3.5])):
        history = recorded(tmp_path / str(rows[2]), TWO_ROUNDS[:1], rows)
        whole = sum(rows.values())
        mean = [sum(rows[k] * TWO_ROUNDS[0][k][i] for k in rows) / whole for i in range(3)]
        found = FastFedUl(alpha=0.0).server_init(state_of(three(*mean), history), leaving(rows, 0))
        assert numbers(found.weights) == pytest.approx(expected, abs=1e-5)


def test_fast_fedul_skips_rounds_whose_withdrawing_client_was_too_small_to_keep(
    tmp_path: Path,
) -> None:
    """Norms in round 1: 6.7, 4.5, 9.2; a third of three is the largest alone, not the withdrawing one."""
    method = FastFedUl(share=1 / 3)
    history = recorded(tmp_path, TWO_ROUNDS[:1], EQUAL, method.history_spec)
    assert history.clients(1) == [2]
    found = method.server_init(state_of(three(1, 2, 3), history), leaving(EQUAL, 0))
    assert numbers(found.weights) == [1, 2, 3]


# ---- ConDa: theta_i <- min(lambda rho_i, ub) theta_i where rho_i < alpha


def test_conda_by_hand(tmp_path: Path) -> None:
    """Sums of absolute updates: client 0 (12,0,6), 1 (1,5,3), 2 (5,13,11); means (6, 6, 20/3).
    rho = (6/12, inf, 20/18): only the first is below 0.6, and beta = 0.8 * 0.5 = 0.4.
    """
    history = recorded(tmp_path, TWO_ROUNDS, EQUAL)
    state = state_of(three(10, 10, 10), history)
    found = ConDa(cutoff=0.6, dampening=0.8).server_init(state, leaving(EQUAL, 0))
    assert numbers(found.weights) == [4, 10, 10]
    bounded = ConDa(cutoff=2.0, dampening=0.8, most=0.3).server_init(state, leaving(EQUAL, 0))
    assert numbers(bounded.weights) == [3, 10, 3]


def test_conda_adds_absolute_values() -> None:
    """Signs do not cancel: contributions are lengths of paths, not where they lead."""
    method = ConDa(cutoff=1.0, dampening=1.0)
    of_all, of_them = three(1, 2, 4), three(2, 2, 2)
    found = method.dampened({**three(8, 8, 8), "a.running_mean": np.ones(3)}, {**of_all}, {**of_them})
    assert numbers(found) == [4, 8, 8]
    assert found["a.running_mean"].tolist() == [1, 1, 1]


# ---- FedEraser: ||U|| u / ||u||


def test_calibration_keeps_the_length_and_takes_the_direction_of_updates() -> None:
    """||(0,3,4)|| = 5, the direction of (8,0,6) is (0.8, 0, 0.6); each array for itself."""
    stored = {**three(0, 3, 4), "b.weight": np.array([2.0])}
    new = {**three(8, 0, 6), "b.weight": np.array([-0.5])}
    found = calibrated(stored, new)
    assert numbers(found) == [4, 0, 3]
    assert found["b.weight"].tolist() == [-2]
    assert numbers(calibrated(three(1, 2, 3), three(0, 0, 0))) == [0, 0, 0]


def test_federaser_replays_kept_rounds(tmp_path: Path) -> None:
    """From (1,1,1): the first kept round adds (1,6,3) as it was. In the second (the third of training),
    client 1 kept (0,0,5) and answers (2,7,4) + (3,0,4): u = (3,0,4), calibrated (3,0,4); client 2 kept
    (6,8,0) and answers (2,7,4) + (0,0,-1): (0,0,-10). Their mean is (1.5, 0, -3).
    """
    rounds = [TWO_ROUNDS[0], TWO_ROUNDS[1], {0: (7, 7, 7), 1: (0, 0, 5), 2: (6, 8, 0)}]
    method = FedEraser(every=2, ratio=0.5, fit=Fit(epochs=2))
    history = recorded(tmp_path, rounds, EQUAL, method.history_spec)
    assert history.rounds == [1, 3]
    registry = leaving(EQUAL, 0, trained=3)
    (phase,) = method.phases(registry)
    assert (phase.rounds, phase.settings) == (1, Fit(epochs=2, share=0.5))
    state = method.server_init(state_of(three(9, 9, 9), history, start=three(1, 1, 1)), registry)
    assert numbers(state.weights) == [2, 7, 4]
    state = replace(state, round=1)
    assert method.select_clients(phase, state, [1, 2, 3]) == [1, 2]  # client 3 had no update in that round
    replies = [
        Reply({Part.MODEL: three(5, 7, 8)}, {"rows": 10}, client=1),
        Reply({Part.MODEL: three(2, 7, 3)}, {"rows": 10}, client=2),
        Reply({Part.MODEL: three(99, 99, 99)}, {"rows": 10}, client=3),
    ]
    assert numbers(method.aggregate(phase, state, replies).weights) == [3.5, 7, 1]


# ---- FUKD: theta_T - sum_t p_u Delta_u, then distillation


class Tiny(nn.Module):
    """Two classes, whose logits are a linear function of three numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 1, bias=False)

    def forward(self, x: Tensor) -> Output:
        score = self.a(x)
        return Output(x, torch.cat([score, -score], 1))


def test_fukd_subtracts_the_withdrawing_client_and_distils_without_a_label(tmp_path: Path) -> None:
    """(10,10,10) - (3,0,6)/3 - (9,0,0)/3 = (6, 10, 8); rows that see only the first number teach it alone."""
    history = recorded(tmp_path, TWO_ROUNDS, EQUAL)
    rows = torch.tensor([[0.1, 0.0, 0.0]] * 4)

    def fresh(seed: int) -> nn.Module:
        return Tiny()

    inputs = MethodInputs(history=history, server_rows=rows, fresh=fresh)
    theta = {"a.weight": np.array([[10.0, 10.0, 10.0]], np.float32)}
    # The history holds vectors [3], the network a matrix [1, 3]: broadcasting does no harm here.
    state = replace(state_of(theta), inputs=inputs)
    found = Fukd(Distil(lr=0.1, epochs=100, temperature=1.0)).server_init(state, leaving(EQUAL, 0))
    (after,) = found.weights["a.weight"].tolist()
    assert after[0] == pytest.approx(10, abs=0.5)  # taught back, from 6
    assert after[1:] == [10, 8]  # no row shows them
    assert found.cost.server_passes == 4 * 101


def test_distillation_is_the_divergence_of_softened_predictions() -> None:
    """KL of (2/3, 1/3) from (1/2, 1/2) is 2/3 ln 4/3 + 1/3 ln 2/3, times T^2."""
    teacher, student = torch.tensor([[3 * np.log(2.0), 0.0]]), torch.zeros(1, 2)
    expected = 9 * (2 / 3 * np.log(4 / 3) + 1 / 3 * np.log(2 / 3))
    assert float(Distil(temperature=3.0).loss(student, teacher)) == pytest.approx(expected)
    one, other = Tiny(), Tiny()
    before = [p.detach().clone() for p in one.parameters()]
    distilled(one, other, torch.rand(6, 3), Distil(epochs=1, batch_size=4), torch.Generator())
    assert all(torch.equal(a, b) for a, b in zip(before, one.parameters(), strict=True))  # a teacher stays


def test_what_a_method_asks_of_training() -> None:
    assert FedEraser(every=3).history_spec == FedAccum(every=3).history_spec == HistorySpec(every=3)
    assert FastFedUl(share=0.5).history_spec == HistorySpec(every=1, share=0.5)
    assert ConDa().history_spec == HistorySpec(magnitudes=True)
    assert FedAccum().history_spec == Fukd().history_spec == HistorySpec(every=1)
