"""From `overrides`, the one key of a run's configuration in Flower, to what Hydra composes."""

from __future__ import annotations

import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from fedlaf.core.errors import InvalidValue
from fedlaf.experiment import config as configuration

OVERRIDES = "overrides"
"""The one key of a run's configuration, and of a node's own."""


def composed(*overrides: str, nodes: int | None = None) -> tuple[DictConfig, DictConfig]:
    """The configuration that `overrides` describe, and Hydra's own section. Raises what Hydra raises.

    Where they name neither `clients` nor an `experiment`, there are as many clients as `nodes`.
    """
    words = [word for text in overrides for word in _words(text)]
    named = {override.key_or_group for text in overrides for override in parsed(text)}
    if nodes is not None and not named & {"clients", "experiment"}:
        words.append(f"clients={nodes}")
    return configuration.composed_with_hydra(words)


def parsed(overrides: str) -> list[Override]:
    """Each of the overrides. Raises InvalidValue, or what Hydra raises for what is none."""
    return OverridesParser.create().parse_overrides(_words(overrides))


def _words(overrides: str) -> list[str]:
    try:
        return shlex.split(overrides)
    except ValueError as error:
        raise InvalidValue(OVERRIDES, f"overrides in the words of a shell ({error})", overrides) from None
