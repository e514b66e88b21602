"""The app in docs/flower.md for rows that only their node has: it runs as it is printed."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from support.federations import RecordingGrid

from fedlaf.data import Digits
from fedlaf.protocol.messages import PARTITION, decode_reply
from fedlaf.simulation import InlineGrid
from fedlaf.simulation.flower_compat import FIRST_NODE

PAGE = Path(__file__).parent.parent.parent / "docs" / "flower.md"
ROWS = (60, 80, 100, 120)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = types.ModuleType("my_app")
    monkeypatch.setitem(sys.modules, "my_app", module)  # dataclasses look their module up
    exec(compile(code, "my_app.py", "exec"), module.__dict__)
    return module


def test_each_node_trains_on_and_forgets_rows_of_its_own(
    app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    digits, first = Digits().load().train, 0
    grid = InlineGrid(app.client, len(ROWS))
    for k, rows in enumerate(ROWS):
        path = tmp_path / f"rows-{k}.npz"
        np.savez(path, x=digits.x[first : first + rows].numpy(), y=digits.y[first : first + rows].numpy())
        first += rows
        node: Any = {PARTITION: k, "num-partitions": len(ROWS), "rows": str(path)}
        grid.contexts[FIRST_NODE + k] = Context(1, FIRST_NODE + k, node, RecordDict(), {})
    recorded = RecordingGrid(grid)
    monkeypatch.setattr(app, "PolledGrid", lambda inner: inner)
    app.server(recorded, Context(1, 1, {}, RecordDict(), {}))
    enrolled = [decode_reply(m, -1).numbers["rows"] for m in recorded.replies[: len(ROWS)]]
    assert enrolled == list(ROWS)
    with np.load(tmp_path / "forgotten.npz") as held:
        assert all(np.isfinite(held[name]).all() for name in held)
    kinds = [m.metadata.message_type for m in recorded.sent if m.metadata.dst_node_id == FIRST_NODE + 2]
    assert kinds[-1] == "train.align"
