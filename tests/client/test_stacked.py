"""The VAEs of many clients as one stacked model: equal to training them one by one, to rounding."""

from __future__ import annotations

import pytest
import torch
from conftest import furthest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlaf.client.stacked import Lesson, fit_vaes
from fedlaf.client.steps.representations import fit_vae
from fedlaf.models import Vae, build_vae, in_precision
from fedlaf.models.arrays import weights_of
from fedlaf.objectives.laf import Represent

DIMS = 12


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vae_of(precision: str = "fp32") -> Vae:
    vae = build_vae(DIMS, 4, "linear", 0)
    vae.shift.copy_(torch.linspace(-1, 1, DIMS))
    vae.scale.copy_(torch.linspace(0.5, 2, DIMS))
    return in_precision(vae, precision)


def lessons(sizes: list[int], epochs: int = 2, precision: str = "fp32") -> list[Lesson]:
    return [
        Lesson(vae_of(precision), torch.randn(size, DIMS, generator=stream(100 + k)), epochs, stream(k))
        for k, size in enumerate(sizes)
    ]


def both(sizes: list[int], chosen: Represent, epochs: int = 2, precision: str = "fp32") -> int:
    """How many clients were held against themselves alone."""
    together, alone = lessons(sizes, epochs, precision), lessons(sizes, epochs, precision)
    found = fit_vaes(together, chosen)
    for one, other, (loss, passes) in zip(together, alone, found, strict=True):
        expected, count = fit_vae(other.vae, other.rows, chosen, epochs, other.stream)
        assert passes == count
        assert loss == pytest.approx(expected, rel=1e-4)
        # Adam's first steps are signs of gradients: where one is nearly 0, rounding decides on it.
        apart = [
            (a - b).detach().abs().flatten()
            for a, b in zip(one.vae.parameters(), other.vae.parameters(), strict=True)
        ]
        assert float(torch.cat(apart).quantile(0.999)) < 1e-5
        assert torch.equal(one.stream.get_state(), other.stream.get_state())
    return len(found)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 3), st.integers(3, 16))
def test_a_stack_of_ragged_clients_is_each_of_them_alone(sizes: list[int], epochs: int, batch: int) -> None:
    assert both(sizes, Represent(latent=4, batch_size=batch, lr=2e-3), epochs) == len(sizes)


def test_it_is_so_in_bf16_too() -> None:
    chosen = Represent(latent=4, batch_size=8)
    together, alone = lessons([20, 9], 2, "bf16"), lessons([20, 9], 2, "bf16")
    fit_vaes(together, chosen)
    for one, other in zip(together, alone, strict=True):
        fit_vae(other.vae, other.rows, chosen, 2, other.stream)
        assert furthest(weights_of(one.vae), weights_of(other.vae)) < 0.02
        assert all(parameter.dtype == torch.float32 for parameter in one.vae.parameters())


def test_a_client_does_not_depend_on_who_else_is_in_the_stack() -> None:
    chosen = Represent(latent=4, batch_size=8)
    few, many = lessons([20, 9]), lessons([20, 9, 33, 20])
    fit_vaes(few, chosen)
    fit_vaes(many, chosen)
    for one, other in zip(few, many, strict=False):
        assert furthest(weights_of(one.vae), weights_of(other.vae)) < 1e-5


def test_nobody_has_rows() -> None:
    given_ = lessons([0, 0])
    before = weights_of(given_[0].vae)
    assert fit_vaes(given_, Represent(latent=4)) == [(0.0, 0), (0.0, 0)]
    assert furthest(weights_of(given_[0].vae), before) == 0
