"""Errors of the configuration in one line: the key, what was expected, what came."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from fedlaf.core.errors import InvalidValue


@contextmanager
def groups_not_null(overrides: Sequence[str]) -> Iterator[None]:
    """Explain what Hydra raises for `group=null` or `group=1`, which are no names of options to it."""
    try:
        yield
    except ValueError as error:
        known = {place.name for place in files("fedlaf.conf").iterdir() if place.is_dir()}
        given = (override.partition("=") for override in overrides)
        nameless = [(key, value) for key, _, value in given if value == "null" or key in known]
        chosen = [pair for pair in nameless if not pair[1].isidentifier() or pair[1] in ("null", "nan")]
        if not chosen or "Config group override" not in str(error):
            raise
        group, value = chosen[0]
        raise InvalidValue(group, "the name of one of its options", _read(value)) from error


def _read(value: str) -> object:
    """The value of an override as OmegaConf reads it."""
    return OmegaConf.create(f"value: {value}").value


def explained(error: Exception) -> str:
    """An error of the configuration in one line: key, what was expected, what came."""
    if isinstance(error, InvalidValue):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        return f"{group}: expected one of {', '.join(error.options)}, got {name!r}"
    return _of_a_value(error) or " ".join(str(error).split())


def _of_a_value(error: Exception) -> str | None:
    """What Hydra and OmegaConf say of a key or a value that does not fit; None for anything else."""
    cause = error.__cause__ or error.__context__ or error
    text = " ".join(f"{error} {cause}".split())
    merged = re.match(r"Error merging override ([^=]+)=(\S*)", text)
    override = re.search(r"Could not override '([^']+)'", text)
    if override and isinstance(cause, (ConfigAttributeError, ConfigKeyError)):
        return _unknown_key(override[1], cause)
    key = re.search(r"full_key: (\S+)", text)
    value = re.search(r"Value '(.*?)' of type '\w+' could not be converted to (\w+)", text)
    unknown = re.search(r"Value '(.*?)' is not a valid bool", text)
    if key and unknown:
        return f"{key[1]}: expected true or false, got {unknown[1]!r}"
    if key and value:
        return f"{key[1]}: expected {value[2].lower()}, got {value[1]!r}"
    if merged:
        return f"{merged[1]}: expected a value of its kind, got {merged[2]!r}"
    return None


class InvalidConfiguration(InvalidValue):
    """An error of composing the configuration; its text is the line of the command line."""

    def __init__(self, line: str) -> None:
        self.line = line
        super().__init__(line.partition(":")[0], "", None)

    def __str__(self) -> str:
        return self.line

    def __reduce__(self) -> tuple[type[InvalidConfiguration], tuple[str]]:  # type: ignore[override]
        return InvalidConfiguration, (self.line,)


USER_ERRORS = (InvalidValue, HydraException, OmegaConfBaseException)
"""What a wrong configuration can raise."""


def _unknown_key(override: str, cause: OmegaConfBaseException) -> str:
    parent = cause.parent_node
    known = [str(k) for k in parent] if isinstance(parent, DictConfig) else []
    near = difflib.get_close_matches(str(cause.key), known, n=1)
    expected = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"{override}: no such key {str(cause.key)!r}; {expected}"
