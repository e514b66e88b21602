"""FATS: how far back it goes, and that what it gives is a retrained model, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import pytest
from scipy.stats import chisquare
from support.federations import enrolled, initial_weights, same_bits, small_spec

from fedlaf.core.request import ForgetRequest
from fedlaf.core.types import ClientId, Weights
from fedlaf.data.federation import build
from fedlaf.method.contract import MethodInputs, Stage, StageResult
from fedlaf.method.history_writer import HistoryWriter
from fedlaf.method.update_history import HistoryHandle, HistorySpec, UpdateHistory
from fedlaf.objectives import Fit
from fedlaf.strategies.base.phase import Phase, ServerState
from fedlaf.strategies.fats import Fats
from fedlaf.strategies.fedavg import FedAvg

CLIENTS, ROUNDS = 6, 4
SPEC = small_spec(CLIENTS, rows=120, backdoor=None)
SIZES = build(SPEC.federation).sizes
FIT = Fit(lr=1e-2)
KEPT = HistorySpec(models=True)


@dataclass(frozen=True)
class Drawn(FedAvg):
    """Training whose cohorts are given, by round."""

    cohorts: Mapping[int, Sequence[ClientId]] = field(default_factory=dict)

    def select_clients(self, phase: Phase, state: ServerState, clients: list[ClientId]) -> list[ClientId]:
        """They."""
        return [client for client in clients if client in self.cohorts[state.round]]


def trained(folder: Path, method: FedAvg, seed: int = 0) -> tuple[StageResult, MethodInputs]:
    """Training, and what it left."""
    grid, registry = enrolled(SPEC)
    writer = HistoryWriter(HistoryHandle(KEPT, folder))
    stage = Stage("train", seed, registry, history_writer=writer)
    result = method.run(grid, initial_weights(SPEC), stage)
    return result, MethodInputs(history=UpdateHistory([folder], KEPT))


def served(
    before: tuple[StageResult, MethodInputs], leaver: ClientId, cohort: int | None, seed: int = 0,
    rounds: int = ROUNDS,
) -> StageResult:  # fmt: skip
    grid, registry = enrolled(SPEC)
    registry = replace(registry, request=ForgetRequest.of_clients([leaver], SIZES), trained=rounds)
    stage = Stage("request-1", seed, registry, inputs=before[1], strict=True)
    return Fats(cohort=cohort, fit=FIT).run(grid, before[0].weights, stage)


def asked(result: StageResult) -> dict[int, tuple[ClientId, ...]]:
    return {record.round: record.asked for record in result.records if record.phase == "train"}


COHORTS = {1: (0, 3), 2: (1, 4), 3: (2, 5), 4: (2, 3)}


@pytest.mark.parametrize(("leaver", "first"), [(0, 1), (1, 2), (5, 3), (3, 1), (2, 3)])
def test_it_is_retraining_on_the_coupled_draws_bit_for_bit(leaver: int, first: int, tmp_path: Path) -> None:
    """Rounds before the first use as they were drawn, then the draws of the request; without the leaver."""
    before = trained(tmp_path, Drawn(ROUNDS, fit=FIT, cohorts=COHORTS))
    found = served(before, leaver, cohort=2)
    drawn = asked(found)
    assert sorted(drawn) == list(range(first, ROUNDS + 1))
    assert not any(leaver in cohort for cohort in drawn.values())
    grid, registry = enrolled(SPEC)
    left = replace(registry, removed=ForgetRequest.of_clients([leaver], SIZES))
    weights: Weights = initial_weights(SPEC)
    if first > 1:
        kept = Drawn(first - 1, fit=FIT, cohorts={t: COHORTS[t] for t in range(1, first)})
        weights = kept.run(grid, weights, Stage("train", 0, left)).weights
    rest = Stage("request-1", 0, left, skip=first - 1)
    again = Drawn(ROUNDS, fit=FIT, cohorts=drawn).run(grid, weights, rest)
    assert same_bits(found.weights, again.weights)
    (exact,) = found.findings
    assert f"rounds {first} to 4 of 4 are trained again" in str(exact)


def test_a_client_that_was_never_drawn_costs_nothing(tmp_path: Path) -> None:
    cohorts = dict.fromkeys(range(1, ROUNDS + 1), (1, 2))
    before = trained(tmp_path, Drawn(ROUNDS, fit=FIT, cohorts=cohorts))
    found = served(before, 5, cohort=2)
    assert same_bits(found.weights, before[0].weights)
    assert found.cost.messages == found.cost.gradient_passes == 0
    (exact,) = found.findings
    assert "none of 4 rounds drew a forgetting client: there is nothing to do" in str(exact)


def test_where_all_are_asked_it_is_retraining_from_the_start(tmp_path: Path) -> None:
    before = trained(tmp_path, FedAvg(ROUNDS, fit=FIT))
    found = served(before, 1, cohort=None)
    grid, registry = enrolled(SPEC)
    left = replace(registry, removed=ForgetRequest.of_clients([1], SIZES))
    again = FedAvg(ROUNDS, fit=FIT).run(grid, initial_weights(SPEC), Stage("request-1", 0, left))
    assert same_bits(found.weights, again.weights)


def test_cohorts_have_the_law_of_retraining(tmp_path: Path) -> None:
    """Over seeds, each sequence of cohorts without the leaver comes as often as in retraining. Draws of
    training that are used again for the redone rounds would fail here: they decided which rounds these are.
    """
    counts: Counter[tuple[ClientId, ...]] = Counter()
    seeds, rounds = 300, 2
    for seed in range(seeds):
        before = trained(tmp_path / str(seed), FedAvg(rounds, cohort=1, fit=FIT), seed)
        again = served(before, 0, cohort=1, seed=seed, rounds=rounds)
        drawn = asked(before[0]) | asked(again)
        counts[drawn[1] + drawn[2]] += 1
    sequences = [*product(range(1, CLIENTS), repeat=rounds)]
    assert set(counts) <= set(sequences)
    assert chisquare([counts[one] for one in sequences]).pvalue > 0.01


def test_a_later_request_goes_back_to_the_first_use_of_any(tmp_path: Path) -> None:
    """Rounds that were redone are not in the history; those before them are whole."""
    _, inputs = before = trained(tmp_path, Drawn(ROUNDS, fit=FIT, cohorts=COHORTS))
    grid, registry = enrolled(SPEC)
    gone, leaves = (ForgetRequest.of_clients([client], SIZES) for client in (1, 5))
    registry = replace(registry, request=leaves, removed=gone, trained=ROUNDS)
    assert inputs.history is not None
    inputs = replace(inputs, history=replace(inputs.history, removed=frozenset({1})))
    found = Fats(cohort=2, fit=FIT).run(
        grid, before[0].weights, Stage("request-2", 0, registry, inputs=inputs, strict=True)
    )
    assert sorted(asked(found)) == [2, 3, 4]
    assert not {1, 5} & {client for cohort in asked(found).values() for client in cohort}
