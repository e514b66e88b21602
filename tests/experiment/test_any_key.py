"""Every key with a value it cannot have: it is taken, or refused in one line that names it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import fields
from functools import partial
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedlaf.experiment import config as configuration
from fedlaf.experiment.config_errors import USER_ERRORS, explained
from fedlaf.experiment.plan import prepare

SMALL = ("data=digits", "model=small_cnn", "corruption=backdoor_small", "engine=inline")
VALUES = ("-1", "nan", "word", "[]", "{a: 1}", "null")
TYPED = {field.name for field in fields(configuration.Config) if field.type not in ("Any", Any)}
JOBS = {
    "default": (),
    "laf_adam": ("forget=laf_adam", "partition=dirichlet"),
    "scrub": ("forget=scrub", "request=remove_classes"),
}


def keys(section: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted paths of all values of a configuration, without the names of classes."""
    for name in section:
        value = section._get_node(name)
        path = f"{prefix}{name}"
        if isinstance(value, DictConfig) and not value._is_none():
            yield from keys(value, f"{path}.")
        elif name != "_target_":
            yield path


def fault(config: Callable[[], DictConfig], key: str, value: str) -> str | None:
    """What is wrong with how a value of a key is dealt with; None where it is taken or well refused."""
    line = answer(config)
    if line.startswith("taken") or (key.partition(".")[0] in line and "\n" not in line):
        return None
    return f"{key}={value}: {line!r}"


def answer(config: Callable[[], DictConfig]) -> str:
    """The line that refuses a configuration; "taken", or what no user should see."""
    try:
        prepare(config(), "laf")
    except USER_ERRORS as error:
        return explained(error)
    except Exception as error:
        return f"{type(error).__name__}:\n{error}"
    return "taken"


def changed(overrides: Sequence[str], base: DictConfig, override: str) -> DictConfig:
    """What `overrides`, composed as `base`, and one more give: merged as Hydra merges it where the schema has
    no types, in a fifth of the time.
    """
    if override.partition("=")[0].partition(".")[0] in TYPED:
        return configuration.composed([*overrides, override])
    parsed, config = OverridesParser.create().parse_override(override), deepcopy(base)
    try:
        OmegaConf.update(config, parsed.key_or_group, parsed.value(), merge=True)
    except OmegaConfBaseException as error:
        raise ConfigCompositionException(f"Error merging override {override}") from error
    return config


@pytest.mark.parametrize("job", JOBS)
def test_no_value_of_any_key_ends_in_a_traceback(job: str) -> None:
    overrides = (*SMALL, *JOBS[job])
    base = configuration.composed(overrides)
    own = set(keys(base)) - (set(keys(configuration.composed(SMALL))) if job != "default" else set())
    found = [
        fault(partial(changed, overrides, base, f"{key}={value}"), key, value)
        for key in sorted(own)
        for value in VALUES
    ]
    assert [line for line in found if line] == []


@pytest.mark.parametrize("value", VALUES)
def test_a_changed_configuration_is_answered_as_a_composed_one(value: str) -> None:
    """What the test above saves time with."""
    base = configuration.composed(SMALL)
    for number, key in enumerate(sorted(keys(base))):
        if number % 5 == VALUES.index(value) % 5:
            override = f"{key}={value}"
            slow = answer(partial(configuration.composed, [*SMALL, override]))
            assert answer(partial(changed, SMALL, base, override)) == slow
