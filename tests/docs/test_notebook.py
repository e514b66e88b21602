"""The notebook: committed as it is written, run by each build of the site."""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).parents[2] / "docs" / "withdrawal_notebook.ipynb"
CELLS = json.loads(FILE.read_text())["cells"]


def test_it_holds_no_results() -> None:
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_a_build_runs_it_and_fails_where_it_fails() -> None:
    settings = (FILE.parent / "conf.py").read_text()
    assert 'nb_execution_mode = "force"' in settings
    assert "nb_execution_raise_on_error = True" in settings
    assert "make docs" in (FILE.parents[1] / ".ci" / "run").read_text()
