"""Every key with a value it cannot have: it is taken, or refused in one line that names it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from omegaconf import DictConfig

from fedlaf.experiment import config as configuration
from fedlaf.experiment.config_errors import USER_ERRORS, explained
from fedlaf.experiment.plan import prepare

SMALL = ("data=digits", "model=small_cnn", "corruption=backdoor_small", "engine=inline")
VALUES = ("-1", "nan", "word", "[]", "{a: 1}", "null")
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


def fault(overrides: tuple[str, ...], key: str, value: str) -> str | None:
    """What is wrong with how a value of a key is dealt with; None where it is taken or well refused."""
    try:
        prepare(configuration.composed([*overrides, f"{key}={value}"]), "laf")
    except USER_ERRORS as error:
        line = explained(error)
        section = key.partition(".")[0]
        if "\n" in line or section not in line:
            return f"{key}={value}: {line!r}"
    except Exception as error:
        return f"{key}={value}: {type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("job", JOBS)
def test_no_value_of_any_key_ends_in_a_traceback(job: str) -> None:
    overrides = (*SMALL, *JOBS[job])
    base = configuration.composed(overrides)
    own = set(keys(base)) - (set(keys(configuration.composed(SMALL))) if job != "default" else set())
    found = [fault(overrides, key, value) for key in sorted(own) for value in VALUES]
    assert [line for line in found if line] == []
