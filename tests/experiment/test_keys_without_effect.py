"""A key that a user changes and that nothing would read is refused, in one line that says when it is read."""

from __future__ import annotations

import pytest

from fedlaf.core.errors import InvalidValue
from fedlaf.experiment import config as configuration

PUBLISHED = "forget=laf_tuned_losses"
REFUSED = {
    "a VAE's size": ("forget=laf_adam", "forget.represent.latent=16", "density=vae"),
    "a VAE's rounds": ("forget=laf_adam", "forget.represent_rounds=3", "represent.density=vae"),
    "h_f, which targets do not need": (
        "forget=laf_adam", "forget.represent.density=vae forget.represent.own_epochs=3", "published losses",
    ),
    "outliers that stay": (
        "forget=laf_adam", "forget.target_rule.project_outliers=false forget.target_rule.max_projection=1",
        "project_outliers=true",
    ),
    "Adam's momentum": ("forget=nothing", "train.fit.momentum=0.5", "optimizer=sgd"),
    "momentum of local steps": ("forget=scrub", "forget.push.momentum=0.5", "optimizer=sgd"),
    "no recovery": ("forget=boundary", "forget.recover_rounds=0 forget.recover.lr=1e-4", "recover_rounds"),
    "steps that the method sets": (PUBLISHED, "forget.forget.steps=3", "forget_steps"),
    "one loss": (PUBLISHED, "forget.forget.lr_alignment=0 forget.forget.temperature=2", "lr_alignment"),
    "nothing is drawn": (
        PUBLISHED, "forget.forget.lr_unlearning=0 forget.forget.sampled=true", "density=vae",
    ),
    "recovery has one kind of rows": (PUBLISHED, "forget.recover.temperature=3", "rows to forget"),
    "recovery has one loss": (PUBLISHED, "forget.recover.lr_unlearning=1e-3", "lr_unlearning: expected 0"),
    "named rows": (
        "request=remove_samples",
        "request.share=null request.classes=null request.rows={0:[1]} request.seed=3", "share",
    ),
    "a set without a file": ("data=digits", "data.root=/tmp", "a file"),
}  # fmt: skip


@pytest.mark.parametrize(("choice", "overrides", "unless"), REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused(choice: str, overrides: str, unless: str) -> None:
    config = configuration.composed([choice, *overrides.split()])
    section, _, key = overrides.rsplit(maxsplit=1)[-1].partition("=")[0].partition(".")
    with pytest.raises(InvalidValue) as refused:
        configuration.made(config, section)
    line = str(refused.value)
    assert line.startswith(f"{section}.{key}: expected ")
    assert unless in line


@pytest.mark.parametrize(("choice", "overrides", "unless"), REFUSED.values(), ids=REFUSED.keys())
def test_without_the_last_key_it_is_taken(choice: str, overrides: str, unless: str) -> None:
    config = configuration.composed([choice, *overrides.split()[:-1]])
    for section in ("data", "train", "request", "forget"):
        assert configuration.made(config, section) is not None


def test_it_is_taken_where_it_is_read() -> None:
    config = configuration.composed(
        ["forget=laf_adam", "forget.represent.density=vae", "forget.represent.latent=16",
         "forget.represent_rounds=3", "train=sgd", "train.fit.momentum=0.5"]
    )  # fmt: skip
    made = configuration.made(config, "forget")
    assert (made.represent.latent, made.represent_rounds) == (16, 3)
    assert configuration.made(config, "train").fit.momentum == 0.5
