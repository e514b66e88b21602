"""The values that one key takes in a comparison, and the overrides that they make."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from fedlaf.core.errors import require, require_number
from fedlaf.experiment.config import composed


@dataclass(frozen=True)
class Sweep:
    """Values of one key; `symbol` names it in tables, `axis` below the plot, `log` its scale."""

    key: str
    values: tuple[float, ...]
    symbol: str
    axis: str
    log: bool = False

    @classmethod
    def of(cls, given: Any) -> Sweep:
        """From a section of a configuration. Raises InvalidValue."""
        names = [field.name for field in fields(cls)]
        whole = isinstance(given, dict) and {*names} - {"log"} <= {*given} <= {*names}
        require(whole, "sweep", f"null, or all of {', '.join(names)}", given)
        sweep = cls(**{**given, "values": tuple(given["values"])})
        require(len(sweep.values) > 0, "sweep.values", "at least one number", given["values"])
        for value in sweep.values:
            require_number("sweep.values", value, above=0 if sweep.log else None)
        return sweep

    @property
    def of_method(self) -> bool:
        """Whether the key is one of the method's: then all values have the same retrained model."""
        return self.key.startswith("forget.")

    def spread(
        self, keys: tuple[str, ...], shared: tuple[str, ...] = ()
    ) -> tuple[dict[str, tuple[str, ...]], dict[str, float]]:
        """Overrides by the name of the value, and the values by that name, from the smallest on.

        The value that `shared` and `keys` compose to is among them, and adds no override to `keys`.
        """
        default = OmegaConf.select(composed_once((*shared, *keys)), self.key)
        known = isinstance(default, int | float) and not isinstance(default, bool)
        values = sorted({*self.values, *([default] if known else [])})
        names = {f"{self.symbol} {shown(value)}": value for value in values}
        own = {name: () if value == default else (f"{self.key}={value}",) for name, value in names.items()}
        return {name: (*keys, *more) for name, more in own.items()}, names


def shown(value: float) -> str:
    """A swept value as text: rates as 3e-4, anything else in full."""
    small = 0 < value < 0.01
    return np.format_float_scientific(value, trim="-", exp_digits=1) if small else f"{value:g}"


@lru_cache(maxsize=1024)
def composed_once(overrides: tuple[str, ...]) -> DictConfig:
    """What overrides compose to, for reading only: composing is slow, and seeds ask for the same."""
    return composed(overrides)
