"""What a study is, and the trainings that studies start from.

A default is never typed in a study: a variant that composes to the same configuration as none at all is it.
"""

from __future__ import annotations

from dataclasses import dataclass

TRIAL = ("experiment=trial", "engine=inline", "evaluation.curve_rows=0")
TRIAL_DIRICHLET = ("experiment=trial_dirichlet", *TRIAL[1:])
DATA_REMOVAL = ("experiment=paper/data_removal_federated", *TRIAL[1:])


@dataclass(frozen=True)
class Variant:
    """One row of a study; `x` is its place on the axis of a sweep."""

    label: str
    overrides: tuple[str, ...] = ()
    x: float | None = None


@dataclass(frozen=True)
class Sweep:
    """Values of one key; `symbol` names it in the table, `axis` below the plot."""

    key: str
    values: tuple[float, ...]
    symbol: str
    axis: str
    log: bool = False


@dataclass(frozen=True)
class Study:
    """A question, and the runs that answer it: named variants, or a sweep over one key.

    `base` is what original and retrained model are trained from, `method` what all variants add to
    it. `own_reference` says that the request differs by variant, and with it the retrained model.
    """

    title: str
    select_clients: str
    variants: tuple[Variant, ...] = ()
    sweep: Sweep | None = None
    base: tuple[str, ...] = TRIAL
    method: tuple[str, ...] = ()
    own_reference: bool = False


def each(key: str, **labels: str) -> tuple[Variant, ...]:
    """A variant for each value of a key: value=label."""
    return tuple(Variant(label, (f"{key}={value}",)) for value, label in labels.items())
