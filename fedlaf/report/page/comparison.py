"""The page of a comparison, from what comparison.json holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedlaf.report.page.html import document, plain

TITLES = {
    "accuracy_retain": "d remaining", "accuracy_forget": "d forgotten", "accuracy_test": "d test",
    "backdoor_success": "d backdoor", "attack_success": "d ASR", "js_forget": "JS forgotten (bits)",
    "js_test": "JS test (bits)",
}  # fmt: skip
"""Titles of the table's columns."""


def comparison_page(data: Mapping[str, Any]) -> str:
    """The HTML of a comparison from what comparison.json holds: `title`, `seeds`, `rows`, maybe a `question`.

    A row has a setting, a method, its mean distance `gap` ({mean, half}), differences `apart` and
    divergences `js` by measure, costs as `shares` of retraining's in percent, `stored_mb`, the `spread`
    of retrainings, and `errors` by seed; the row of the method `nothing` is that of the original model.
    """
    rows = [{**row, "original": row["method"] == "nothing"} for row in data["rows"]]
    payload: dict[str, Any] = plain({**data, "rows": rows, "titles": TITLES})
    return document(f"fedlaf: {data['title']}", "comparison", payload)
