"""Every configuration composes, and each of its values can be built."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from support.runs import composed

from fedlaf.core.errors import InvalidValue
from fedlaf.data import Torchvision
from fedlaf.evaluation import Gate, Halves, HeadRelearn, InformationDifference, Layers, Probe, Relearn
from fedlaf.experiment import config as configuration
from fedlaf.experiment.plan import FEDERATION, prepare
from fedlaf.models import Cnn, ResNet18
from fedlaf.objectives import ClosedForm
from fedlaf.objectives.classification import Fit
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.objectives.laf_targets import Alignment, TargetRule
from fedlaf.strategies.fats import Fats
from fedlaf.strategies.fedavg import FedAvg
from fedlaf.strategies.laf import Laf
from fedlaf.strategies.laf_adam import LafAdam
from fedlaf.strategies.laf_published import PublishedLaf
from fedlaf.strategies.pgd import Pgd

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("data", "partition", "corruption", "model", "train", "request", "forget",
          "evaluation", "evaluation/measure", "engine", "experiment")  # fmt: skip
OPTIONS = [
    (group, file.relative_to(CONF / group).with_suffix("").as_posix())
    for group in GROUPS
    for file in sorted((CONF / group).rglob("*.yaml"))
    if f"{group}/{file.parent.name}" not in GROUPS
]
PAPER = [
    option
    for _, option in OPTIONS
    if option.startswith("paper/") and option not in ("paper/pgd", "paper/fats")
]
"""The tasks of the LAF paper."""


# Of each published task: from which classes rows go, and how many of them.
PUBLISHED = {
    "data_removal": ({5, 6, 7, 8, 9}, 0.4),
    "class_removal": ({0}, 1.0),
    "wrong_labels": ({0, 1, 2, 3, 4}, 0.6),
}

SECTIONS = ("data", "partition", "corruption.backdoor", "corruption.wrong_labels", "model", "train",
            "request", "forget", "engine")  # fmt: skip


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda name: name)
def test_every_option_composes_and_can_be_built(group: str, option: str) -> None:
    config = composed(f"{group}={option}")
    for section in SECTIONS:
        made = configuration.made(config, section)
        assert made is not None or section.startswith("corruption")
    assert len(config.requests) >= 1 or config.stream is not None


@pytest.mark.parametrize("data", ["fashion_mnist", "mnist", "cifar10", "svhn"])
@pytest.mark.parametrize("experiment", PAPER)
def test_each_published_task_composes_with_each_published_set(experiment: str, data: str) -> None:
    """Sources are made, not loaded: nothing is looked for and nothing downloaded."""
    config = composed(f"experiment={experiment}", f"data={data}")
    source = configuration.made(config, "data")
    assert isinstance(source, Torchvision)
    assert source.name.lower() == data.replace("_", "")
    assert source.train_rows == (20_000 if experiment.endswith("_federated") else None)
    for section in SECTIONS[1:]:
        made = configuration.made(config, section)
        assert made is not None or section.startswith("corruption")


@pytest.mark.parametrize("experiment", PAPER)
def test_each_published_task_makes_a_plan(experiment: str) -> None:
    """On the digits, which need no download."""
    federated = experiment.endswith("_federated")
    small = ("data=digits", "data.train_rows=null", "model=small_cnn", "engine=inline")
    plan = prepare(composed(f"experiment={experiment}", *small))
    assert (len(plan.federation), plan.train.rounds) == ((10, 20) if federated else (1, 1))
    assert (plan.asr, plan.curve_rows) == ("split", 0)
    assert isinstance(plan.train, FedAvg)
    fit = Fit(lr=1e-3) if federated else Fit(lr=1e-4, weight_decay=1e-4, epochs=20)
    assert plan.train.fit == fit
    ((arrives, asked),) = plan.schedule
    assert arrives == plan.train.rounds
    task = experiment.removeprefix("paper/").removesuffix("_federated")
    classes, share = PUBLISHED[task]
    right = plan.federation.dataset.train.y.numpy()
    removed = [right[plan.federation.parts[k][list(rows)]] for k, rows in asked.rows.items()]
    wrong = [plan.federation.wrong[k][list(rows)] for k, rows in asked.rows.items()]
    assert set(np.concatenate(removed).tolist()) == classes
    assert len(np.concatenate(removed)) / np.isin(right, list(classes)).sum() == pytest.approx(
        share, abs=0.03
    )
    assert set(np.concatenate(wrong).tolist()) == {task == "wrong_labels"}


def test_there_is_an_option_for_all_that_the_readme_promises() -> None:
    have = set(OPTIONS)
    promised = {
        "data": ("fashion_sample", "digits", "fashion_mnist", "mnist", "cifar10", "svhn"),
        "partition": ("iid", "dirichlet", "shards", "quantity_skew"),
        "request": (
            "withdraw_clients",
            "each_client",
            "remove_samples",
            "remove_classes",
            "remove_wrong_labels",
        ),
        "forget": (
            "laf",
            "laf_paper",
            "laf_tuned_losses",
            "laf_repair",
            "laf_server",
            "gradient_ascent",
            "scrub",
            "bad_teacher",
            "boundary",
            "unroll",
            "fedosd",
        ),
        "model": ("cnn", "small_cnn", "resnet18"),
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
    few = "forget.rule.min_rows=1"  # whatever a partition leaves to a client
    plan = prepare(composed(*SMALL, f"partition={partition}", f"request={request_}", few))
    ((arrives, asked),) = plan.schedule
    assert arrives == plan.train.rounds
    assert asked.rows


@pytest.mark.parametrize("other", ["precision=bf16", "deterministic=false", "clients=9"])
def test_no_stage_is_taken_up_that_was_computed_otherwise(other: str) -> None:
    one, again, changed = (prepare(composed(*SMALL, *more)) for more in ((), (), (other,)))
    assert one.fingerprint(*FEDERATION) == again.fingerprint(*FEDERATION) != changed.fingerprint(*FEDERATION)
    assert (changed.spec.precision, changed.spec.deterministic) == (
        "bf16" if other.startswith("precision") else "fp32",
        not other.startswith("deterministic"),
    )


def test_wrong_labels_make_a_plan() -> None:
    plan = prepare(composed("data=digits", "corruption=wrong_labels", "request=remove_wrong_labels"))
    ((_, asked),) = plan.schedule
    assert asked.clients == (0,)
    assert len(asked.of(0)) == round(0.6 * plan.federation.sizes[0])


def test_the_published_preset_is_the_published_choice() -> None:
    """Shen et al., ICLR 2024: MNIST and Fashion-MNIST, data removal."""
    method = configuration.made(composed("forget=laf_paper"), "forget")
    assert isinstance(method, PublishedLaf)
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


def test_the_published_preset_of_resnet18_differs_where_the_paper_does() -> None:
    """Shen et al., ICLR 2024: CIFAR-10 and SVHN, data removal."""
    method, other = (
        configuration.made(composed(f"forget={f}"), "forget") for f in ("laf_paper_resnet18", "laf_paper")
    )
    assert isinstance(other, PublishedLaf)
    assert method == replace(
        other,
        represent=replace(other.represent, latent=16),
        forget_rounds=40,
        forget=replace(other.forget, lr_unlearning=1e-5, lr_alignment=4e-5, temperature=20),
    )


def test_the_default_is_closed_form_and_gradient_steps_and_published_losses_are_options() -> None:
    default = configuration.made(composed(), "forget")
    assert default == configuration.made(composed("forget=laf"), "forget")
    assert default == Laf(rule=ClosedForm(most_rows=300))
    by_steps = configuration.made(composed("forget=laf_adam"), "forget")
    assert isinstance(by_steps, LafAdam)
    assert (by_steps.target_rule, by_steps.align) == (TargetRule(), Alignment())
    assert by_steps.represent == Represent(rows="retain", most_rows=300, lr=2e-3, density="gaussian")
    tuned = configuration.made(composed("forget=laf_tuned_losses"), "forget")
    assert isinstance(tuned, PublishedLaf)
    assert tuned.recover_rounds > 0


def test_resnet18_resizes_when_told() -> None:
    assert configuration.made(composed("model=resnet18"), "model") == ResNet18()
    published = composed("model=resnet18", "model.stem=imagenet", "+model.pixels=224")
    assert configuration.made(published, "model") == ResNet18(256, "imagenet", 224)


def test_several_requests_are_served_in_the_order_of_their_rounds() -> None:
    later = "{_target_: fedlaf.data.WithdrawClients, clients: [3], round: 9}"
    sooner = "{_target_: fedlaf.data.RemoveSamples, clients: [1], share: 0.5, round: 4}"
    plan = prepare(composed(*SMALL, f"requests=[{later},{sooner}]"))
    assert [(at, request.clients) for at, request in plan.schedule] == [(4, (1,)), (9, (3,))]


def test_training_is_flower_averaging_with_the_configured_cohort() -> None:
    train = configuration.made(composed("train.cohort=3", "train.rounds=5"), "train")
    assert isinstance(train, FedAvg)
    assert (train.cohort, train.rounds) == (3, 5)


def test_evaluation_is_a_group_and_its_keys_can_be_set_alone() -> None:
    plain = prepare(composed(*SMALL))
    assert (plain.reference_seeds, plain.measures, plain.curve_rows) == (0, (), 400)
    full = prepare(
        composed(*SMALL, "evaluation=full", "evaluation.curve_rows=0", "evaluation.gate.accuracy=70")
    )
    assert (full.reference_seeds, full.curve_rows, full.gate) == (2, 0, Gate(accuracy=70))
    assert full.measures == (
        Relearn(), HeadRelearn(), Probe(), Layers(), Halves(), InformationDifference(),
    )  # fmt: skip
    assert prepare(composed(*SMALL, "evaluation/measure=probe")).measures == (Probe(),)
    assert full.most_rows == plain.most_rows


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("+evaluation.measure.dowsing={_target_:fedlaf.data.Digits}", "evaluation.measure.dowsing"),
        ("+evaluation.measure.mine={_target_:fedlaf.evaluation.Nothing}", "evaluation.measure.mine"),
        ("evaluation.most_rows=0", "evaluation.most_rows"),
        ("evaluation.gate.accuracy=120", "evaluation.gate.accuracy"),
        ("evaluation.gate.below=-1", "evaluation.gate.below"),
    ],
)
def test_what_evaluation_cannot_be_is_refused_with_its_key(override: str, key: str) -> None:
    with pytest.raises(InvalidValue, match=key.replace(".", r"\.")):
        prepare(composed(*SMALL, override))


def test_the_published_federation_of_fats_makes_a_plan() -> None:
    """300 clients, of whom a round draws five; the first five leave after 50 (Tao et al., VLDB 2024)."""
    small = ("data=digits", "data.train_rows=1200", "model=small_cnn", "partition.alpha=100")
    plan = prepare(composed("experiment=paper/fats", *small, "partition.min_rows=1"))
    assert (len(plan.federation.sizes), plan.train.rounds, plan.train.cohort) == (300, 50, 5)
    ((_, request),) = plan.schedule
    assert request.clients == (0, 1, 2, 3, 4)
    assert isinstance(plan.method, Fats)
    assert plan.method.cohort == 5
    assert plan.method.fit == plan.train.fit == Fit("sgd", 0.001, momentum=0.9, epochs=5, batch_size=10)
    assert plan.history.models


def test_the_published_federation_of_pgd_makes_a_plan() -> None:
    """Five clients that are all alike; of the first, 72 % carry the pattern (Halimi et al. 2022)."""
    small = ("data=digits", "data.train_rows=1000", "model=small_cnn", "corruption.backdoor.patch=2")
    plan = prepare(composed("experiment=paper/pgd", *small))
    assert (plan.federation.sizes, plan.train.rounds) == (dict.fromkeys(range(5), 200), 10)
    assert [int(planted.sum()) for planted in plan.federation.planted] == [144, 0, 0, 0, 0]
    assert isinstance(plan.method, Pgd)
    assert plan.method.fit == plan.train.fit == Fit("sgd", 0.01, momentum=0.9, batch_size=128)
    published = configuration.made(composed("experiment=paper/pgd"), "model")
    assert published == Cnn((32, 64), 512)
