"""The order in which a client draws its rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""Positions of remaining and of forgotten rows."""


def epoch(rows: int, size: int, stream: torch.Generator) -> Iterator[Tensor]:
    """One shuffled pass over `rows` rows in batches of `size`; the last may be smaller."""
    yield from torch.randperm(rows, generator=stream).split(size)


def steps(rows: int, size: int, count: int, stream: torch.Generator) -> Iterator[Tensor]:
    """`count` batches, one shuffled pass after the other; without rows, empty ones."""
    done = 0
    while done < count:
        passing = epoch(rows, size, stream) if rows else iter([torch.empty(0, dtype=torch.int64)])
        for batch in passing:
            if done == count:
                return
            yield batch
            done += 1


def pairs(rows: tuple[int, int], size: int, count: int, stream: torch.Generator) -> Iterator[Pair]:
    """`count` batches of two kinds of rows; the draws of one do not depend on the size of the other."""
    other = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=stream)))
    yield from zip(steps(rows[0], size, count, stream), steps(rows[1], size, count, other), strict=True)


def pool(rows: int, most: int | None, stream: torch.Generator) -> torch.Tensor:
    """Positions of at most `most` of so many rows, drawn and in order; None is all."""
    if most is None or most >= rows:
        return torch.arange(rows)
    return torch.randperm(rows, generator=stream)[:most].sort().values
