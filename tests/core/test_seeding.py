"""Named streams: equal names, equal draws; other names, other draws; no global generator."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlaf.core.seeding import numpy_stream, seed_for, torch_stream

names = st.lists(st.integers(0, 99) | st.sampled_from(["fit", "teach", "rows"]), max_size=4).map(tuple)
NAMED = list(itertools.product((0, 1, 11), ("fit", "rows"), range(12), range(12)))


@given(st.integers(0, 2**63), names)
def test_a_seed_has_63_bits(run_seed: int, named: tuple[str | int, ...]) -> None:
    # torch takes signed 64-bit seeds, Flower's configurations signed 64-bit numbers.
    assert 0 <= seed_for(run_seed, *named) < 2**63


@given(st.integers(0, 99), names, st.integers(0, 99), names)
def test_equal_names_share_a_seed_and_no_others(
    seed: int, named: tuple[str | int, ...], other: int, others: tuple[str | int, ...]
) -> None:
    assert (seed_for(seed, *named) == seed_for(other, *others)) == ((seed, *named) == (other, *others))


def test_rounds_and_clients_are_not_run_together() -> None:
    # Round 1 of client 11 and round 11 of client 1, among others.
    assert len({seed_for(seed, *rest) for seed, *rest in NAMED}) == len(NAMED)


def test_seeds_fill_their_range() -> None:
    seeds = np.array([seed_for(seed, *rest) for seed, *rest in NAMED], dtype=np.float64) / 2**63
    assert np.abs(np.histogram(seeds, bins=4, range=(0, 1))[0] / len(seeds) - 0.25).max() < 0.06


def test_a_seed_is_the_same_in_another_process() -> None:
    # Python's own hash of a string is not.
    code = "from fedlaf.core.seeding import seed_for; print(seed_for(7, 'fit', 3, 'ä'))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(told.stdout) == seed_for(7, "fit", 3, "ä")


def test_streams_are_repeatable_and_independent_of_each_other() -> None:
    draws = {name: torch.rand(4, generator=torch_stream(0, name)).tolist() for name in ("a", "b")}
    assert draws["a"] != draws["b"]
    second = torch_stream(0, "b")
    torch.rand(100, generator=torch_stream(0, "a"))
    assert torch.rand(4, generator=second).tolist() == draws["b"]
    assert numpy_stream(0, "a").random(4).tolist() == numpy_stream(0, "a").random(4).tolist()
    assert numpy_stream(0, "a").random(4).tolist() != numpy_stream(0, "b").random(4).tolist()
    assert numpy_stream(0, "a").random() != numpy_stream(1, "a").random()


def test_the_global_generators_are_left_alone() -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    torch.rand(3, generator=torch_stream(0, "a"))
    numpy_stream(0, "a").random(3)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.random.get_state()[1].tobytes() == numpy_before
