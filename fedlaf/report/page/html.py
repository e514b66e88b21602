"""One HTML file that needs nothing else: its values, its script, its style and Plotly are inside.

Plotly draws: it is well kept, under the MIT licence, has every kind of chart that is needed here, and its
package brings the script, so that none is copied into this project. It is inside as gzip (2 MB, not 5),
which all browsers unpack since 2023.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from math import isfinite
from typing import Any

from fedlaf.core.package_files import package_file

SCRIPTS = {
    "run": (
        "core.js",
        "charts.js",
        "models.js",
        "tsne.js",
        "rows.js",
        "rounds.js",
        "groups.js",
        "stream.js",
        "run.js",
    ),
    "comparison": ("core.js", "charts.js", "tables.js", "comparison.js"),
    "board": ("core.js", "tables.js", "board.js"),
}
"""The scripts of each kind of page, in their order."""


def document(title: str, kind: str, data: Mapping[str, Any]) -> str:
    """The page of one kind (run, comparison or board) for plain values; the text is whole HTML."""
    script = "\n".join(asset(name) for name in SCRIPTS[kind])
    parts = {
        "title": html.escape(title),
        "style": asset("page.css"),
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "plotly": "" if kind == "board" else plotly(),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], asset("page.html"))


def plain(value: Any) -> Any:
    """The value with null for each number that JSON has no word for, and with text for each key."""
    if isinstance(value, Mapping):
        return {str(key): plain(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(held) for held in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def asset(name: str) -> str:
    """The text of one of the files beside this module. Raises FileNotFoundError where there is none."""
    found = package_file("report", "page", "assets", name)
    if found is None:
        raise FileNotFoundError(name)
    return found.read_text(encoding="utf-8")


def has_assets() -> bool:
    """Whether pages can be written: a copy that holds code alone, without an installed one, cannot."""
    return package_file("report", "page", "assets", "page.html") is not None


@cache
def plotly() -> str:
    """Plotly's script: gzip, then base64."""
    script = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, 9, mtime=0)).decode()
