"""Hyperparameters bound to losses: what is refused, and that the bound losses are the paper's."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedlaf.core.errors import InvalidValue
from fedlaf.models import Vae, build_vae
from fedlaf.objectives import laf_losses
from fedlaf.objectives.classification import Fit
from fedlaf.objectives.laf import Forget, Noise, Represent

D, Z = 6, 3
NONE = Noise(Z, None, torch.device("cpu"))
distances = st.lists(st.floats(0, 2), min_size=1, max_size=8)


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def vae(seed: int) -> Vae:
    return build_vae(D, Z, "linear", seed).double()


def exact(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---- what is refused


@pytest.mark.parametrize(
    ("kind", "key", "values", "expected"),
    [
        (Fit, "optimizer", ["lbfgs", None], "adam or sgd"),
        (Fit, "augment", ["mixup"], "none or crop_flip"),
        (Fit, "lr", [0, -1.0, math.nan, math.inf, "0.1"], "a finite number above 0"),
        (Fit, "weight_decay", [-1e-9, math.nan], "a finite number of at least 0"),
        (Fit, "momentum", [-0.1, 1.1], "a finite number of at least 0 at most 1"),
        (Fit, "epochs", [0, 1.5, True], "a whole number of at least 1"),
        (Fit, "batch_size", [0, None], "a whole number of at least 1"),
        (Represent, "decoder", ["tanh"], "sigmoid or linear"),
        (Represent, "error", ["max"], "sum or mean"),
        (Represent, "rows", ["forget"], "all or retain"),
        (Represent, "latent", [0], "a whole number of at least 1"),
        (Represent, "epochs", [0], "a whole number of at least 1"),
        (Represent, "own_epochs", [-1], "a whole number of at least 1"),
        (Represent, "batch_size", [2.0], "a whole number of at least 1"),
        (Represent, "most_rows", [0, "all"], "a whole number of at least 1"),
        (Represent, "lr", [0], "a finite number above 0"),
        (Represent, "kl_weight", [-0.1], "a finite number of at least 0"),
        (Forget, "lr_unlearning", [-1e-9, math.nan], "a finite number of at least 0"),
        (Forget, "lr_alignment", [-1e-9, math.inf], "a finite number of at least 0"),
        (Forget, "temperature", [0, -1], "a finite number above 0"),
        (Forget, "batch_size", [0], "a whole number of at least 1"),
        (Forget, "steps", [0, 2.5], "a whole number of at least 1"),
        (Forget, "sides", ["forget"], "both or retain"),
        (Forget, "weighting", ["labels"], "none or oddness"),
    ],
)
def test_values_that_cannot_be_used_are_refused_with_their_key(
    kind: Any, key: str, values: list[Any], expected: str
) -> None:
    for value in values:
        with pytest.raises(InvalidValue) as caught:
            kind(**{key: value})
        assert (caught.value.key, caught.value.expected) == (key, expected)


def test_one_of_the_two_rates_must_be_used() -> None:
    with pytest.raises(InvalidValue, match=r"^lr_alignment: expected one of the two rates above 0"):
        Forget(lr_unlearning=0, lr_alignment=0)
    assert Forget(lr_unlearning=0, lr_alignment=1).lr_unlearning == 0
    assert Forget(lr_unlearning=1, lr_alignment=0).lr_alignment == 0


@pytest.mark.parametrize("value", [Fit(), Represent(), Forget()], ids=lambda v: type(v).__name__)
def test_objectives_are_frozen_and_hashable(value: Any) -> None:
    assert hash(value) == hash(type(value)())
    with pytest.raises(FrozenInstanceError):
        value.batch_size = 3


# ---- Fit


def test_fit_makes_the_optimiser_that_it_names() -> None:
    model = nn.Linear(2, 2)
    adam = Fit(lr=0.25, weight_decay=0.125).optimiser(model)
    sgd = Fit("sgd", lr=0.5, momentum=0.75, weight_decay=0.25).optimiser(model)
    assert (type(adam), type(sgd)) == (torch.optim.Adam, torch.optim.SGD)
    assert (adam.defaults["lr"], adam.defaults["weight_decay"]) == (0.25, 0.125)
    assert [sgd.defaults[k] for k in ("lr", "momentum", "weight_decay")] == [0.5, 0.75, 0.25]
    assert [id(p) for p in sgd.param_groups[0]["params"]] == [id(p) for p in model.parameters()]
    assert not adam.state


def test_a_step_of_sgd_is_the_one_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    optimiser = Fit("sgd", lr=0.5, weight_decay=0.1).optimiser(model)
    (3 * model.weight).sum().backward()
    optimiser.step()
    assert model.weight.item() == pytest.approx(2.0 - 0.5 * (3 + 0.1 * 2.0))


# ---- L_UE


@pytest.mark.parametrize("error", ["mean", "sum"])
def test_unlearning_is_the_score_of_retain_rows_minus_that_of_forget_rows(error: str) -> None:
    retain, forget, h, h_f = rows(0, 4, D), rows(1, 3, D), vae(0), vae(1)
    weights = exact([1.0, 1.0, 1.0])
    found = Forget(error=error, latent=Z).unlearning(retain, forget, weights, h, h_f, NONE)

    def phi(model: Vae, row: Tensor) -> float:
        squared = ((model(row[None]).decoded[0] - row) ** 2).tolist()
        m = sum(squared) / (D if error == "mean" else 1)
        return math.exp(m / (m + 1))

    expected = sum(phi(h, row) for row in retain) - sum(phi(h_f, row) for row in forget)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-10)


def test_unlearning_weighs_forget_rows_alone() -> None:
    retain, forget, h, h_f = rows(0, 4, D), rows(1, 2, D), vae(0), vae(1)
    loss = Forget(latent=Z)
    left_out = loss.unlearning(retain, forget, exact([1.0, 0.0]), h, h_f, NONE)
    alone = loss.unlearning(retain, forget[:1], exact([1.0]), h, h_f, NONE)
    assert float(left_out.detach()) == pytest.approx(float(alone.detach()), rel=1e-12)


def test_unlearning_draws_noise_for_retain_rows_then_for_forget_rows() -> None:
    retain, forget, h, h_f = (
        rows(0, 4, D).float(),
        rows(1, 3, D).float(),
        *(build_vae(D, Z, "linear", seed) for seed in (0, 1)),
    )
    noise = Noise(Z, torch.Generator().manual_seed(5), torch.device("cpu"))
    found = Forget(latent=Z, sampled=True).unlearning(retain, forget, torch.ones(3), h, h_f, noise)
    stream = torch.Generator().manual_seed(5)
    retain = laf_losses.reconstruction_error(h(retain, torch.randn(4, Z, generator=stream)), "mean")
    forget = laf_losses.reconstruction_error(h_f(forget, torch.randn(3, Z, generator=stream)), "mean")
    torch.testing.assert_close(found, laf_losses.score(retain).sum() - laf_losses.score(forget).sum())


def test_noise_without_a_stream_is_none_and_with_one_is_its_draws() -> None:
    assert NONE.of(4) is None
    drawn = Noise(Z, torch.Generator().manual_seed(1), torch.device("cpu"))
    stream = torch.Generator().manual_seed(1)
    for count in (2, 5, 0):
        noise = drawn.of(count)
        assert noise is not None
        assert torch.equal(noise, torch.randn(count, Z, generator=stream))


# ---- L_RA


@settings(max_examples=60, deadline=None)
@given(distances, distances, st.floats(0.2, 50))
def test_alignment_is_the_formula_of_the_paper(
    retain: list[float], forget: list[float], temperature: float
) -> None:
    # L_RA = sum_i log( exp(d_i) / sum_j exp(d_j / tau) ), i over retain, j over forget rows.
    mass = sum(math.exp(d / temperature) for d in forget)
    expected = sum(math.log(math.exp(d) / mass) for d in retain)
    ones = torch.ones(len(forget), dtype=torch.float64)
    found = Forget(temperature=temperature).alignment(exact(retain), exact(forget), ones)
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_alignment_with_one_kind_of_rows_or_none() -> None:
    nothing, ones = exact([]), exact([1.0, 1.0])
    forget = Forget(temperature=0.5)
    assert float(forget.alignment(exact([0.5, 0.25]), nothing, nothing)) == 0.75
    alone = -2 * math.log(math.exp(0.2 / 0.5) + math.exp(1.0 / 0.5))
    assert float(forget.alignment(nothing, exact([0.2, 1.0]), ones)) == pytest.approx(alone)
    assert float(forget.alignment(nothing, nothing, nothing)) == 0


def test_alignment_draws_retain_rows_near_and_pushes_forget_rows_away() -> None:
    retain, forget = exact([0.5, 0.5]).requires_grad_(), exact([0.1, 0.9]).requires_grad_()
    Forget(temperature=0.3).alignment(retain, forget, exact([1.0, 1.0])).backward()
    assert retain.grad is not None
    assert forget.grad is not None
    assert retain.grad.tolist() == [1.0, 1.0]
    # The gradient of logsumexp is a softmax: it adds up to |B_r| / tau, most for the furthest row.
    assert float(forget.grad.sum()) == pytest.approx(-2 / 0.3)
    assert float(forget.grad[1]) < float(forget.grad[0]) < 0


# ---- weights of forget rows


def test_published_weights_are_all_one() -> None:
    assert (
        Forget(weighting="none").weights(rows(0, 4, D).float(), build_vae(D, Z, "linear", 0)).tolist()
        == [1.0] * 4
    )


@pytest.mark.parametrize("error", ["mean", "sum"])
def test_unusual_rows_weigh_by_their_error_under_h_over_the_mean(error: str) -> None:
    teacher, h = rows(0, 4, D), vae(0)
    weights = Forget(weighting="oddness", error=error, latent=Z).weights(teacher, h)
    squared = [float(((h(row[None]).decoded[0] - row) ** 2).sum().detach()) for row in teacher]
    torch.testing.assert_close(weights, exact([m / (sum(squared) / 4) for m in squared]))
    assert float(weights.mean()) == pytest.approx(1)
    assert not weights.requires_grad


@pytest.mark.parametrize("weighting", ["none", "oddness"])
def test_no_forget_rows_have_no_weights(weighting: str) -> None:
    assert Forget(weighting=weighting, latent=Z).weights(rows(0, 0, D), vae(0)).shape == (0,)


def test_rows_that_h_knows_perfectly_weigh_the_same() -> None:
    h = vae(0)
    with torch.no_grad():
        for parameter in h.parameters():
            parameter.zero_()
    weights = Forget(weighting="oddness", latent=Z).weights(torch.zeros(3, D, dtype=torch.float64), h)
    assert weights.tolist() == [1.0, 1.0, 1.0]
