"""Objects in place of sections of the configuration: what `fedlaf.run(data=MyData())` hands over."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf, open_dict

from fedlaf.core.errors import require

SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "data": ("data", ("prepare", "load")),
    "partition": ("partition", ("__call__",)),
    "backdoor": ("corruption.backdoor", ()),
    "wrong_labels": ("corruption.wrong_labels", ()),
    "model": ("model", ("build",)),
    "train": ("train", ("run", "until")),
    "request": ("request", ("resolve",)),
    "forget": ("forget", ("run", "check")),
    "engine": ("engine", ("run",)),
    "tracker": ("tracker", ("start", "log", "finish", "stop")),
}
"""By keyword: the section that an object stands in for, and what such an object can do."""

SEVERAL = {"requests": ("resolve",), "measures": ("measure", "compare")}
"""Keywords whose objects come as a list."""


class Given:
    """An object in a configuration; a copy of the configuration holds the same object."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Given:
        return self


def with_objects(config: DictConfig, objects: Mapping[str, Any]) -> DictConfig:
    """The configuration with objects in place of sections, by keyword.

    Raises InvalidValue for a keyword that is none, and for an object that cannot stand there.
    """
    config = config.copy()
    config._set_flag("allow_objects", True)
    with open_dict(config):
        for keyword, value in objects.items():
            known = ", ".join([*SECTIONS, *SEVERAL])
            require(keyword in SECTIONS or keyword in SEVERAL, keyword, f"one of {known}", value)
            if keyword in SECTIONS:
                key, needed = SECTIONS[keyword]
                OmegaConf.update(config, key, _given(keyword, value, needed))
                continue
            require(isinstance(value, Sequence), keyword, "a list of objects", value)
            many = [_given(keyword, one, SEVERAL[keyword]) for one in value]
            if keyword == "requests":
                config.requests = many
            else:
                config.evaluation.measure.update({type(one.value).__name__: one for one in many})
    return config


def described(value: Any) -> Any:
    """Plain values as they are, and of an object its class and its fields, or a hash of its state.

    Two objects are described alike only if they are alike: what cannot be hashed gets a new name each time.
    """
    value = value.value if isinstance(value, Given) else value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): described(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(one) for one in value]
    of = {"_target_": f"{type(value).__module__}.{type(value).__qualname__}", **_source(type(value))}
    if is_dataclass(value):
        return of | {f.name: described(getattr(value, f.name)) for f in fields(value)}
    try:
        return of | {"_state_": hashlib.sha256(pickle.dumps(value)).hexdigest()}
    except Exception:  # whatever an object's own pickling raises
        return of | {"_state_": uuid4().hex}


def _source(kind: type) -> dict[str, str]:
    """Of a class in a notebook or a script: a hash of its code, which no file of a module holds."""
    if kind.__module__ != "__main__":
        return {}
    try:
        return {"_source_": hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()}
    except (OSError, TypeError):
        return {"_source_": uuid4().hex}


def _given(keyword: str, value: Any, needed: Sequence[str]) -> Given:
    does = not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in needed)
    can = f"an object with {' and '.join(needed)}" if needed else "an object"
    require(does, keyword, f"{can} (a choice of the configuration is an override: {keyword}=NAME)", value)
    try:
        hash(value)
    except TypeError as error:
        require(False, keyword, f"an object with a hash, such as a frozen dataclass ({error})", value)
    return Given(value)
