"""The figures of a comparison, held against numbers worked out by hand."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlaf.experiment.comparison.plan import Run
from fedlaf.experiment.comparison.plot import Box, pareto, plot, spot
from fedlaf.experiment.comparison.rows import Row, against, as_json, rows
from fedlaf.experiment.comparison.runs import Done
from fedlaf.experiment.comparison.sweep import Sweep
from fedlaf.experiment.comparison.sweep_plot import plot_sweep
from fedlaf.experiment.comparison.table import table

COST = {"passes": 50.0, "bytes_down": 10.0, "bytes_up": 10.0, "client_seconds": 2.0, "labels_read": 0.0}
WHOLE = {"passes": 200.0, "bytes_down": 40.0, "bytes_up": 60.0, "client_seconds": 4.0, "labels_read": 200.0}


def report(test: float, gap: float, passes: float = 50.0) -> dict[str, Any]:
    models = {
        "unlearned": {"accuracy_test": test, "gap": gap, "js_forget": gap / 100, "js_test": 0.01},
        "retrained": {"accuracy_test": 80.0, "gap": 0.0},
    }
    costs = {"unlearned": {**COST, "passes": passes}, "retrained": WHOLE}
    return {"requests": [{"models": models, "costs": costs, "spread": {"gap": gap / 2}}]}


def done(method: str, seed: int, told: dict[str, Any] | None, error: str = "") -> Done:
    return Done(Run("IID", method, seed, (), Path("nowhere")), told, error)


DONE = [
    done("nothing", 0, report(81.0, 9.0, 0.0)), done("nothing", 1, report(81.0, 11.0, 0.0)),
    done("good", 0, report(79.0, 1.0)), done("good", 1, report(78.0, 3.0)),
    done("bad", 0, report(70.0, 8.0, 2.0)), done("bad", 1, None, "it | broke"),
    done("refused", 0, None, "needs the withdrawn client"),
    done("refused", 1, None, "needs the withdrawn client"),
]  # fmt: skip


def by_name() -> dict[str, Row]:
    return {row.method: row for row in rows(DONE)}


def test_means_intervals_and_shares_are_those_worked_out_by_hand() -> None:
    good = by_name()["good"]
    assert good.gap.mean == 2.0
    # Student's t with one degree of freedom at 97.5 % is 12.706; the standard error of 1 and 3 is 1.
    assert good.gap.half == pytest.approx(12.706, abs=1e-3)
    assert good.apart["accuracy_test"].mean == -1.5
    assert good.js["js_forget"].mean == pytest.approx(0.02)
    expected = {"passes": 25.0, "bytes": 20.0, "client_seconds": 50.0, "labels_read": 0.0}
    assert dict(good.shares) == expected
    assert good.gaps == {0: 1.0, 1: 3.0}


def test_means_of_the_measures_are_kept_for_both_models() -> None:
    good = by_name()["good"]
    assert good.means["unlearned"]["accuracy_test"] == 78.5
    assert good.means["retrained"]["accuracy_test"] == 80.0


def test_differences_to_the_default_are_paired_by_seed() -> None:
    found = by_name()
    paired = against(found["nothing"], found["good"])  # 9 - 1 and 11 - 3
    assert (paired.mean, paired.half) == (8.0, 0.0)
    assert against(found["bad"], found["good"]).mean == 7.0  # seed 0 alone: 8 - 1
    assert isnan(against(found["refused"], found["good"]).mean)


def test_with_a_default_rows_keep_their_order_and_have_their_difference_to_it() -> None:
    lines = table(list(by_name().values()), "good").split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0][:3] == ["", "mean distance", "against default"]
    assert [row[0] for row in cells[2:]] == ["original (doing nothing)", "good (default)", "bad", "refused"]
    assert [row[2] for row in cells[2:]] == ["+8.00 ± 0.00", "", "+7.00", ""]
    for default in (None, "refused"):  # a default that failed is none
        assert "default" not in table(list(by_name().values()), default)


def test_what_failed_is_named_and_does_not_count() -> None:
    found = by_name()
    assert found["bad"].gap.mean == 8.0
    assert found["bad"].errors == {1: "it | broke"}
    assert found["refused"].failed
    lines = table(list(found.values())).split("\n\n")[0].splitlines()
    assert lines[-1].startswith("| refused |")
    assert lines[-1].endswith("failed: needs the withdrawn client |")
    assert r"failed on seed 1: it \| broke" in table(list(found.values()))


def test_the_best_is_bold_and_doing_nothing_never_is() -> None:
    lines = table(list(by_name().values())).split("\n\n")[0].splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "good", "bad", "original (doing nothing)", "refused",
    ]  # fmt: skip
    assert lines[2].count("**") == 2 * 4  # distance, d test, both JS
    assert lines[3].count("**") == 2  # js_test is the same
    assert "**" not in lines[4]
    assert "d backdoor" not in lines[0]


def test_the_spread_of_retrainings_is_told_once_and_is_that_of_the_first_run() -> None:
    text = table(list(by_name().values()))
    # Half of 9 and 11, by hand; Student's t as above, times a standard error of 0.5.
    assert text.endswith(
        "Models retrained from other seeds have a mean distance of 5.00 ± 6.35 to each other."
    )


def test_json_has_all_and_no_nan(tmp_path: Path) -> None:
    text = json.dumps(as_json(list(by_name().values())), allow_nan=False)
    good = next(row for row in json.loads(text) if row["method"] == "good")
    assert good["gap"]["mean"] == 2.0
    assert good["gaps"] == {"0": 1.0, "1": 3.0}


def test_the_plot_is_drawn_unless_there_is_nothing_to_show(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    found = list(by_name().values())
    assert plot(found, "Title", path)
    assert matplotlib.image.imread(path).shape[1] > 800
    path.unlink()
    assert not plot([row for row in found if row.original or row.failed], "Title", path)
    assert not path.exists()


SWEEP = Sweep("forget.align.lr", (1e-4, 1e-3), "rate", "learning rate", log=True)


@pytest.mark.parametrize(
    ("places", "default"),
    [({"good": 1e-4, "bad": 1e-3, "refused": 1e-2}, "good"), ({"IID": 1e-3}, None)],
    ids=["methods", "settings"],
)
def test_a_sweep_is_drawn_unless_there_is_nothing_to_show(
    places: dict[str, float], default: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "plot.png"
    found = list(by_name().values())
    assert plot_sweep(found, SWEEP, places, default, path)
    height, width, _ = matplotlib.image.imread(path).shape
    assert width > 2 * height
    path.unlink()
    failed = [row for row in found if row.original or row.failed]
    assert not plot_sweep(failed, SWEEP, places, default, path)
    assert not path.exists()


PLACES = st.floats(0, 400)


@given(st.lists(st.tuples(PLACES, PLACES), max_size=6), st.floats(5, 60), st.floats(3, 9))
def test_names_stand_where_nothing_else_does_as_long_as_there_is_room(
    points: list[tuple[float, float]], half_width: float, half_height: float
) -> None:
    frame, half = (-300.0, -300.0, 700.0, 700.0), (half_width, half_height)
    taken = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for x, y in points:
        dx, dy, box = spot((x, y), half, taken, frame, 1.0)
        assert box == Box(x + dx - half[0], y + dy - half[1], x + dx + half[0], y + dy + half[1])
        assert box.within(frame)
        assert not any(box.meets(other) for other in taken)
        taken.append(box)


def test_names_stand_at_the_first_side_where_there_is_no_room_at_all() -> None:
    everywhere = Box(-1000, -1000, 1000, 1000)
    dx, dy, box = spot((0, 0), (10, 4), [everywhere], (-50, -50, 50, 50), 1.0)
    assert (dx, dy, box) == (17.0, 0.0, Box(7, -4, 27, 4))


POINTS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_beats_every_point_and_no_point_beats_the_front(points: list[tuple[float, float]]) -> None:
    front = pareto(points)
    assert set(front) <= set(points)
    for point in points:
        assert any(f[0] <= point[0] and f[1] <= point[1] for f in front)
    for f in front:
        assert not any(p[0] <= f[0] and p[1] < f[1] for p in points if p != f)
