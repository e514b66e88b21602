"""Fields of configured dataclasses: keys, and what the program sets."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import pytest

from fedlaf.core.errors import InvalidValue
from fedlaf.core.settings import internal, is_key, require_effect


@dataclass(frozen=True)
class Example:
    kind: str = "plain"
    depth: int = 3
    sides: list[int] = field(default_factory=lambda: [1, 2])
    found: int = internal(7)

    def __post_init__(self) -> None:
        require_effect(self, "depth sides", when="kind=deep", holds=self.kind == "deep")


def test_an_internal_field_has_a_default_and_is_no_key() -> None:
    assert Example().found == 7
    assert [f.name for f in fields(Example) if is_key(f)] == ["kind", "depth", "sides"]


def test_only_a_changed_value_that_nothing_reads_is_refused() -> None:
    assert Example(depth=3, sides=[1, 2], found=8).kind == "plain"
    assert Example(kind="deep", depth=5, sides=[]).depth == 5
    with pytest.raises(InvalidValue) as refused:
        Example(depth=5)
    assert str(refused.value) == "depth: expected 3, as it has no effect without kind=deep, got 5"
    with pytest.raises(InvalidValue, match=r"^sides: expected \[1, 2\]"):
        Example(sides=[1])
