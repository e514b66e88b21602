"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

from fedlaf.simulation import flower_compat

# Two cores that are busy with other tests: how long an example takes says nothing.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

torch.set_num_threads(1)  # before any fixture computes: as in every worker, bits must not depend on the cores


@pytest.fixture(autouse=True, scope="session")
def quiet_flower() -> None:
    """Flower's own log of each round is no use in a failing test's output."""
    flower_compat.quiet()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A test that sets another number of threads leaves it to no other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
