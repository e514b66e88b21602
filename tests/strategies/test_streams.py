"""No two phases of a method draw from the same random stream."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.brief_methods import METHODS, MORE, SPEC, inputs
from support.federations import enrolled, initial_weights

from fedlaf.client import context
from fedlaf.core.request import ForgetRequest
from fedlaf.core.seeding import torch_stream
from fedlaf.method.contract import Stage

ALL = METHODS | MORE


@pytest.mark.parametrize("name", ALL)
def test_all_streams_of_a_request_are_different(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: Counter[Any] = Counter()

    def noted(*names: Any) -> torch.Generator:
        drawn[names] += 1
        return torch_stream(*names)

    monkeypatch.setattr(context, "torch_stream", noted)
    grid, registry = enrolled(SPEC)
    request = ForgetRequest.of_samples({0: range(20), 1: range(12)}, registry.sizes)
    stage = Stage("request-1", 0, replace(registry, request=request, trained=1), inputs=inputs())
    ALL[name].run(grid, initial_weights(SPEC), stage)
    assert drawn
    assert [names for names, times in drawn.items() if times > 1] == []
    phases = {names[2] for names in drawn}
    assert all(isinstance(phase, str) for phase in phases)
