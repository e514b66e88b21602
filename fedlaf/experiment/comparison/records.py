"""All figures of a comparison's runs as flat rows: results.jsonl and, with pyarrow, results.parquet."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedlaf.experiment.comparison.runs import Done
from fedlaf.report import load, replace

TYPES = {"seed": "int64", "round": "int64"} | dict.fromkeys(("value", "distance", "limit"), "float64")
"""Types of the columns that are no text: a column without any value has its type, too."""


def records(done: Sequence[Done]) -> list[dict[str, Any]]:
    """A row a run, request, model and measure or cost, as of `Report.to_records`, with setting and method."""
    return [
        {**record, "setting": one.run.setting, "method": one.run.method}
        for one in done
        if one.report and not one.error
        for record in load(one.run.folder).to_records()
    ]


def write_records(done: Sequence[Done], folder: Path) -> None:
    """Write the files; Parquet where pyarrow is installed, which pandas and polars read as it is."""
    found = records(done)
    replace(folder / "results.jsonl", "".join(f"{json.dumps(row, allow_nan=False)}\n" for row in found))
    path = folder / "results.parquet"
    path.unlink(missing_ok=True)
    if not found or importlib.util.find_spec("pyarrow") is None:
        return
    import pyarrow
    from pyarrow import parquet

    fields = [(name, pyarrow.type_for_alias(TYPES.get(name, "string"))) for name in found[0]]
    table = pyarrow.Table.from_pylist(found, pyarrow.schema(fields))
    draft = path.with_name(path.name + ".part")
    parquet.write_table(table, draft)
    draft.replace(path)
