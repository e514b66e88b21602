"""Ways of sharing the steps between L_UE and L_RA that are refused, by the name of their key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fedlaf.core.errors import InvalidValue
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.strategies.laf_published import PublishedLaf
from fedlaf.strategies.laf_published_server import PublishedLafServer

FORGET = Forget(
    lr_unlearning=2e-3, lr_alignment=3e-3, temperature=0.7, batch_size=8, steps=4, latent=4,
    sampled=True, updates="joint",
)  # fmt: skip


def laf(updates: str, kind: type[PublishedLaf] = PublishedLaf, **more: Any) -> PublishedLaf:
    return kind(
        represent=Represent(latent=4), represent_rounds=1, forget=replace(FORGET, updates=updates, steps=2),
        forget_steps=2, forget_rounds=3, recover_rounds=0, closing_rounds=0, **more,
    )  # fmt: skip


TOGETHER = pytest.mark.parametrize("updates", ["joint", "two_stage"])


@TOGETHER
def test_the_optimiser_on_the_server_alternates(updates: str) -> None:
    assert laf("alternate", PublishedLafServer).forget.updates == "alternate"
    with pytest.raises(InvalidValue) as caught:
        laf(updates, PublishedLafServer)
    message = f"forget.updates: expected alternate with the optimiser on the server, got {updates!r}"
    assert str(caught.value) == message


@TOGETHER
@pytest.mark.parametrize("rate", ["lr_unlearning", "lr_alignment"])
def test_one_loss_alone_cannot_be_joined_with_the_other(updates: str, rate: str) -> None:
    with pytest.raises(InvalidValue, match=rf"^updates: expected alternate with one loss, got '{updates}'$"):
        Forget(updates=updates, **{rate: 0.0})
    assert Forget(**{rate: 0.0}).updates == "alternate"
    with pytest.raises(InvalidValue, match=r"^updates: expected alternate or joint or two_stage, got 'sum'"):
        Forget(updates="sum")


@TOGETHER
def test_recovery_has_one_loss_and_so_alternates(updates: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        PublishedLaf(recover=Forget(updates=updates))
    assert str(caught.value) == f"recover.updates: expected alternate, got {updates!r}"
