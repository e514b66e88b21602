"""Every configuration composes, and each of its values can be built."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from fedlaf import config as configuration
from fedlaf.objectives import Forget, Represent
from fedlaf.plan import prepare
from strategies.fedavg import FedAvg
from strategies.laf import Laf

CONF = Path(__file__).parent.parent / "conf"
GROUPS = ("data", "partition", "corruption", "model", "train", "request", "forget", "engine", "experiment")
OPTIONS = [(g, f.stem) for g in GROUPS for f in sorted((CONF / g).glob("*.yaml"))]


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    configuration.register()
    GlobalHydra.instance().clear()
    with initialize_config_module("conf", version_base="1.3"):
        yield


def composed(*overrides: str) -> DictConfig:
    return compose("config", overrides=list(overrides))


SECTIONS = ("data", "partition", "corruption.backdoor", "corruption.wrong_labels", "model", "train",
            "request", "forget", "engine")  # fmt: skip


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda name: name)
def test_every_option_composes_and_can_be_built(group: str, option: str) -> None:
    config = composed(f"{group}={option}")
    for section in SECTIONS:
        made = configuration.made(config, section)
        assert made is not None or section.startswith("corruption")
    assert len(config.requests) >= 1


def test_there_is_an_option_for_all_that_the_readme_promises() -> None:
    have = set(OPTIONS)
    promised = {
        "data": ("fashion_sample", "digits", "fashion_mnist", "mnist", "cifar10", "svhn"),
        "partition": ("iid", "dirichlet", "shards", "quantity_skew"),
        "request": ("withdraw_clients", "remove_samples", "remove_classes", "remove_wrong_labels"),
        "forget": ("laf", "laf_paper"),
        "engine": ("ray", "inline"),
    }
    assert {(group, name) for group, names in promised.items() for name in names} <= have


SMALL = ("data=digits", "model=small_cnn", "corruption.backdoor.patch=2", "engine=inline")


@pytest.mark.parametrize(
    ("partition", "request_"),
    [
        *product(
            ("iid", "dirichlet", "shards", "quantity_skew"),
            ("withdraw_clients", "remove_samples", "remove_classes"),
        )
    ],
)
def test_partitions_and_requests_make_a_plan_together(partition: str, request_: str) -> None:
    plan = prepare(composed(*SMALL, f"partition={partition}", f"request={request_}"))
    ((arrives, asked),) = plan.schedule
    assert arrives == plan.train.rounds
    assert asked.rows


def test_wrong_labels_make_a_plan() -> None:
    plan = prepare(composed("data=digits", "corruption=wrong_labels", "request=remove_wrong_labels"))
    ((_, asked),) = plan.schedule
    assert asked.clients == (0,)
    assert len(asked.of(0)) == round(0.6 * plan.federation.sizes[0])


def test_the_published_preset_is_the_published_choice() -> None:
    """Shen et al., ICLR 2024: MNIST and Fashion-MNIST, data removal."""
    method = configuration.made(composed("forget=laf_paper"), "forget")
    assert isinstance(method, Laf)
    assert method.represent == Represent(
        latent=8, decoder="sigmoid", standardise=False, error="sum", rows="all", epochs=1, own_epochs=10,
        lr=1e-3, kl_weight=0.025, batch_size=32, most_rows=None,
    )  # fmt: skip
    assert method.represent_rounds == 10
    assert method.forget == Forget(
        lr_unlearning=5e-5, lr_alignment=1e-4, temperature=5, batch_size=32, sampled=True, weighting="none"
    )
    assert (method.forget_rounds, method.forget_steps) == (20, None)
    assert method.recover_rounds == method.closing_rounds == 0


def test_several_requests_are_served_in_the_order_of_their_rounds() -> None:
    later = "{_target_: fedlaf.demand.WithdrawClients, clients: [3], round: 9}"
    sooner = "{_target_: fedlaf.demand.RemoveSamples, clients: [1], share: 0.5, round: 4}"
    plan = prepare(composed(*SMALL, f"requests=[{later},{sooner}]"))
    assert [(at, request.clients) for at, request in plan.schedule] == [(4, (1,)), (9, (3,))]


def test_training_is_flower_averaging_with_the_configured_cohort() -> None:
    train = configuration.made(composed("train.cohort=3", "train.rounds=5"), "train")
    assert isinstance(train, FedAvg)
    assert (train.cohort, train.rounds) == (3, 5)
