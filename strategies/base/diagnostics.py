"""Signs that forgetting went wrong, read without a label from what clients report round by round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedlaf.method.contract import Finding, RoundRecord

GROWTH = 10.0
"""A VAE whose loss is that many times its lowest one diverges."""
RUIN = 0.4
"""Mean cosine distance of remaining rows to where they should be, beyond which they are ruined; two
unrelated representations are 1 apart, and what retraining itself changes is below 0.1."""
STRAIN = 0.15
"""The same, beyond which it is worth a word."""
CHANGED = 0.15
"""Share of remaining rows with another class, beyond which targets are worth a word."""
LITTLE = 0.01
"""Mean cosine distance of forgotten rows from their targets that is not worth a word."""
STILL = 1e-6
"""Mean cosine distance of forgotten rows below which nothing has happened to them."""


def of_density(records: Sequence[RoundRecord]) -> Iterator[Finding]:
    """Diverged, when h's loss has grown to many times what it was."""
    now = records[-1]
    losses = [r.numbers["loss"] for r in records if r.phase == now.phase and "loss" in r.numbers]
    if now.phase != "represent" or not losses:
        return
    lowest = min(losses)
    if losses[-1] > GROWTH * max(lowest, 1e-12):
        detail = f"the VAE's loss is {losses[-1]:.3g}, after {lowest:.3g}; a lower represent.lr may help"
        yield Finding("diverged", now.phase, now.round, detail, fatal=True)


def of_ruin(now: RoundRecord, distance: float) -> Iterator[Finding]:
    """Ruined, when remaining rows are that mean cosine distance from where they should be."""
    detail = f"the representations of remaining rows are {distance:.2f} from where they should be"
    if distance > RUIN:
        yield Finding("remaining rows ruined", now.phase, now.round, detail, fatal=True)
    elif distance > STRAIN:
        yield Finding("remaining rows strained", now.phase, now.round, detail)


def of_change(now: RoundRecord, share: float) -> Iterator[Finding]:
    """Strained, when the targets of that share of the remaining rows are of another class than the rows.

    Never fatal: of a model that has hardly been trained any shift changes most classes.
    """
    detail = f"the targets of {100 * share:.0f} % of the remaining rows are of another class than the rows"
    if share > CHANGED:
        yield Finding("remaining rows strained", now.phase, now.round, detail)


def of_nothing(now: RoundRecord, moved: float, others: float) -> Iterator[Finding]:
    """Nothing forgotten, when forgotten rows moved by a mean cosine distance no larger than `others`,
    that of remaining rows.
    """
    if moved < STILL:
        detail = f"forgotten rows moved by {moved:.1e}: the model is what it was"
        yield Finding("nothing forgotten", now.phase, now.round, detail, fatal=True)
    elif moved <= others:
        detail = (
            f"forgotten rows moved by {moved:.3f}, remaining ones by {others:.3f}: nothing tells them apart"
        )
        yield Finding("nothing forgotten", now.phase, now.round, detail)


def of_targets(now: RoundRecord, way: float, left: float) -> Iterator[Finding]:
    """Too little forgotten, when rows whose target was `way` off are still `left` from it."""
    if left > 0.5 * way and way > LITTLE:
        detail = f"forgotten rows are {left:.3f} from their targets, of {way:.3f} at the start"
        yield Finding("too little forgotten", now.phase, now.round, detail)


def of_way(now: RoundRecord, way: float) -> Iterator[Finding]:
    """Nothing to forget, when the targets of forgotten rows are where the rows are."""
    if way < STILL:
        detail = "forgotten rows look like all others, and no class loses more of them: the model stays"
        yield Finding("nothing to forget", now.phase, now.round, detail)
