"""Reports: valid JSON, tables with all cells, a plot that shows something, files that are whole."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.axes
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from rich.console import Console

from fedlaf.core.cost import Cost
from fedlaf.evaluation import Evaluation, Verdict
from fedlaf.evaluation.verdict import Word
from fedlaf.method.answers import Answers, ClientFailures
from fedlaf.report import Point, Report, RequestResult, tell, write
from fedlaf.report.files import document
from fedlaf.report.plot import curves_of, plot
from fedlaf.report.report import as_json
from fedlaf.report.results import COSTS, IF_ANY, MEASURES
from fedlaf.report.tables import (
    class_rows,
    cost_rows,
    layer_rows,
    markdown,
    measure_rows,
    remarks,
    show,
    title,
)

NAN = float("nan")


def evaluation(test: float, forget: float = 50.0, **more: float) -> Evaluation:
    return Evaluation({"accuracy_retain": 90.0, "accuracy_forget": forget, "accuracy_test": test, **more})


ANSWERS = Answers(30, 1, {3: ClientFailures(10, 1, "no luck")})
SERVED = RequestResult(
    "request-1",
    5,
    (0,),
    1200,
    (0,),
    {
        "original": evaluation(84.0, 98.0, backdoor_success=99.0, js_test=0.123456),
        "unlearned": evaluation(80.0, 60.0, backdoor_success=12.0, js_test=0.05),
        "retrained": evaluation(83.0, 55.0, backdoor_success=4.0, js_test=0.0),
    },
    {
        "unlearned": Cost(
            gradient_passes=900, forward_passes=100, bytes_up=5e6, client_seconds=1.25, rounds=3
        ),
        "retrained": Cost(
            gradient_passes=20000, bytes_up=1e7, client_seconds=50, labels_read=20000, rounds=5
        ),
    },
    Answers(30, 1, {4: ClientFailures(5, 1, "no answer in time")}),
)


def points(stage: str, passes: list[float], **start: float) -> list[Point]:
    return [
        Point(stage, i, at, {name: value + i for name, value in start.items()})
        for i, at in enumerate(passes, 1)
    ]


CURVES = (
    *points(
        "train", [1000, 2000, 3000, 4000, 5000], accuracy_test=60, accuracy_forget=70, backdoor_success=80
    ),
    *points("request-1", [100, 300, 500], accuracy_test=50, accuracy_forget=40, backdoor_success=9),
    *points("retrain-1", [800, 1600, 2400], accuracy_test=40, accuracy_forget=30, backdoor_success=2),
)
REPORT = Report(
    3,
    "laf",
    (SERVED,),
    CURVES,
    Cost(gradient_passes=5000, rounds=5),
    {"train": 1.5},
    {"torch": "2"},
    {"seed": 3},
    {"train": ANSWERS},
)


def parsed(report: Report) -> Any:
    """What a strict reader finds in the JSON."""
    return json.loads(json.dumps(as_json(report), allow_nan=False))


# ---- values


def test_measures_costs_and_shares_of_a_request() -> None:
    assert SERVED.measure("accuracy_test", "unlearned") == 80.0
    assert SERVED.measure("gap", "unlearned") == pytest.approx((0 + 5 + 3 + 8) / 4)
    assert SERVED.measure("gap", "retrained") == 0
    assert SERVED.measure("js_forget", "unlearned") is None
    assert SERVED.cost("passes", "unlearned") == 1000
    assert SERVED.share("passes") == 5.0
    assert SERVED.share("bytes_up") == 50.0
    assert SERVED.share("bytes_down") is None  # a share of nothing
    alone = replace(SERVED, models={"unlearned": evaluation(1)}, costs={"unlearned": Cost(rounds=1)})
    assert alone.measure("gap", "unlearned") is None
    assert alone.measure("accuracy_test", "retrained") is None
    assert alone.cost("rounds", "retrained") is None
    assert alone.share("rounds") is None


def test_the_spread_of_retrainings_is_a_column_of_its_own_and_in_the_json() -> None:
    known = {"accuracy_test": 0.75, "js_test": 0.0123, "gap": 1.25, "backdoor_success": NAN}
    rows = {row[0]: row[1:] for row in measure_rows(replace(SERVED, spread=known))}
    assert rows[""][-1] == "between retrainings"
    assert rows["accuracy, test rows (%)"] == ["84.0", "80.0", "83.0", "0.8"]
    assert rows["JS to retrained, test (bits)"][-1] == "0.0123"
    assert rows["mean distance to retrained (points)"][-1] == "1.2"
    assert rows["backdoor success (%)"][-1] == rows["accuracy, forgotten rows (%)"][-1] == ""
    assert all(len(row) == 4 for row in measure_rows(SERVED))
    found = parsed(replace(REPORT, results=(replace(SERVED, spread=known),)))["requests"][0]
    assert found["spread"] == known | {"backdoor_success": None}


VERDICT = Verdict(
    ("too little forgotten",),
    "too little forgotten (backdoor success)",
    {"accuracy_test": Word.WITHIN, "backdoor_success": Word.TOO_LITTLE},
    {"accuracy_test": 3.0, "backdoor_success": 8.0, "gap": NAN},
    {"accuracy_test": 4.0, "backdoor_success": 1.0},
    rho=7.5,
)
JUDGED = replace(
    SERVED,
    spread={"accuracy_test": 2.0, "backdoor_success": 0.5},
    verdict=VERDICT,
    took_part={"unlearned": (0, 1, 2), "retrained": (1, 2, 3, 4)},
)


def test_the_verdict_stands_beside_each_measure_and_in_a_line() -> None:
    rows = {row[0]: row[1:] for row in measure_rows(JUDGED)}
    assert rows[""][3:] == ["distance", "between retrainings", "verdict"]
    assert rows["backdoor success (%)"] == ["99.0", "12.0", "4.0", "8.0", "0.5", "too little"]
    assert rows["mean distance to retrained (points)"][3:] == ["", "", ""]
    assert remarks(JUDGED)[0] == "verdict: too little forgotten (backdoor success)"
    assert f"verdict: {VERDICT.line}" in document(replace(REPORT, results=(JUDGED,)))
    found = parsed(replace(REPORT, results=(JUDGED,)))["requests"][0]["verdict"]
    assert found == {
        "outcome": ["too little forgotten"],
        "line": VERDICT.line,
        "measures": {"accuracy_test": "within", "backdoor_success": "too little"},
        "distances": {"accuracy_test": 3.0, "backdoor_success": 8.0, "gap": None},
        "largest_between_retrainings": {"accuracy_test": 4.0, "backdoor_success": 1.0},
        "rho": 7.5,
        "original_no_good": None,
    }
    assert parsed(REPORT)["requests"][0]["verdict"] is None


def test_without_reference_seeds_there_is_no_column_of_verdicts() -> None:
    unknown = replace(VERDICT, words=dict.fromkeys(VERDICT.words, Word.UNKNOWN), rho=NAN)
    served = replace(JUDGED, verdict=unknown, spread={})
    assert measure_rows(served)[0] == ["", "original", "unlearned", "retrained", "distance"]
    assert parsed(replace(REPORT, results=(served,)))["requests"][0]["verdict"]["rho"] is None


def test_who_took_part_is_told_and_counted() -> None:
    rows = {row[0].strip(): row[1:] for row in cost_rows(JUDGED)}
    assert rows["clients that took part"] == ["3", "4", "75.0 %"]
    assert "asked while forgetting: clients 0, 1, 2 (all of those that forget)" in remarks(JUDGED)
    nobody = replace(JUDGED, took_part={"unlearned": (), "retrained": (1,)})
    assert "asked while forgetting: nobody (0 of 1 of those that forget)" in remarks(nobody)
    assert parsed(replace(REPORT, results=(JUDGED,)))["requests"][0]["took_part"]["unlearned"] == [0, 1, 2]


def test_costs_that_there_are_none_of_are_left_out_and_peaks_are_in_megabytes() -> None:
    rows = {row[0].strip() for row in cost_rows(SERVED)}
    assert not rows & {COSTS[name].strip() for name in IF_ANY}
    spent = Cost(bytes_stored=1234.0, client_memory=5e8, retain_rows_read=30, forget_rows_read=10)
    served = replace(SERVED, costs={"unlearned": spent, "retrained": Cost(client_memory=1e9)})
    rows_ = {row[0].strip(): row[1:] for row in cost_rows(served)}
    assert rows_["bytes stored on the server"] == ["1,234", "0", ""]
    assert rows_["peak memory, largest client (MB)"] == ["500", "1,000", "50.0 %"]
    assert rows_["different rows read"][0] == "40"


def test_classes_and_layers_have_tables_of_their_own() -> None:
    assert class_rows(SERVED) == layer_rows(SERVED) == []
    one = Evaluation({}, {"test": (50.0, NAN), "forget": (10.0, 0.0)}, {"head": 0.5})
    served = replace(SERVED, models={"unlearned": one})
    assert class_rows(served) == [
        ["class", "test, unlearned", "forget, unlearned"],
        ["0", "50.0", "10.0"],
        ["1", "", "0.0"],
    ]
    assert layer_rows(served) == [["CKA to retrained", "unlearned"], ["head", "0.5000"]]
    assert "| head | 0.5000 |" in document(replace(REPORT, results=(served,)))
    assert parsed(replace(REPORT, results=(served,)))["requests"][0]["by_class"] == {
        "unlearned": {"test": [50.0, None], "forget": [10.0, 0.0]}
    }


def test_the_console_stays_within_100_columns_with_every_measure() -> None:
    every = Evaluation(dict.fromkeys(MEASURES, 88.8888) | {"zrf": 0.98765, "l2_test": 123.456})
    served = replace(JUDGED, models=dict.fromkeys(("original", "unlearned", "retrained"), every))
    served = replace(
        served,
        spread=dict.fromkeys(MEASURES, 88.8888),
        verdict=replace(
            VERDICT,
            words=dict.fromkeys(MEASURES, Word.TOO_LITTLE),
            distances=dict.fromkeys(MEASURES, 88.8888),
        ),
    )
    console = Console(file=io.StringIO(), width=100)
    show(replace(REPORT, results=(served,)), console)
    printed: Any = console.file
    lines = printed.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 100
    assert "…" not in printed.getvalue()
    row = next(line for line in lines if "backdoor success" in line)
    assert row.split()[-2:] == ["too", "little"]


# ---- JSON


def test_json_holds_what_the_report_holds() -> None:
    found = parsed(REPORT)
    assert (found["seed"], found["method"], found["config"]) == (3, "laf", {"seed": 3})
    assert found["training"] == REPORT.training.numbers()
    (request,) = found["requests"]
    assert request["clients"] == request["withdrawn"] == [0]
    assert request["models"]["unlearned"]["gap"] == pytest.approx(4)
    assert list(request["models"]) == ["original", "unlearned", "retrained"]
    assert set(request["models"]["original"]) <= set(MEASURES)
    assert request["costs"]["unlearned"]["passes"] == 1000
    assert request["share_of_retraining_percent"]["passes"] == 5.0
    assert "bytes_down" not in request["share_of_retraining_percent"]
    failures = {"4": {"asked": 5, "failed": 1, "reason": "no answer in time"}}
    assert request["answers"] == {"asked": 30, "failed": 1, "clients": failures}
    assert len(found["curves"]) == len(CURVES)
    assert found["curves"][0] == {
        "stage": "train",
        "round": 1,
        "passes": 1000,
        "measures": {"accuracy_test": 61, "accuracy_forget": 71, "backdoor_success": 81},
        "by_class": {},
    }


def test_json_has_null_where_a_measure_is_nan() -> None:
    models = {
        "original": evaluation(80.0, NAN),
        "unlearned": evaluation(NAN, 40.0, js_test=NAN),
        "retrained": evaluation(80.0, NAN),
    }
    curve = (Point("train", 1, 10.0, {"accuracy_test": NAN}),)
    found = parsed(replace(REPORT, results=(replace(SERVED, models=models),), curves=curve))
    unlearned = found["requests"][0]["models"]["unlearned"]
    assert unlearned["accuracy_test"] is None
    assert unlearned["js_test"] is None
    assert unlearned["accuracy_forget"] == 40.0
    assert found["curves"][0]["measures"] == {"accuracy_test": None}


def test_json_of_a_run_without_requests() -> None:
    found = parsed(replace(REPORT, results=(), curves=()))
    assert found["requests"] == found["curves"] == []


# ---- tables


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


@pytest.mark.parametrize("make", [measure_rows, cost_rows])
def test_a_markdown_table_has_as_many_cells_in_every_line(make: Any) -> None:
    lines = cells(markdown(make(SERVED)))
    assert {len(line) for line in lines} == {4}
    assert lines[1] == ["---", "---:", "---:", "---:"]
    assert len(lines) == len(make(SERVED)) + 1


def test_the_table_of_measures_has_a_line_for_each_measure_that_any_model_has() -> None:
    rows = {row[0]: row[1:] for row in measure_rows(SERVED)}
    assert rows[""] == ["original", "unlearned", "retrained"]
    assert rows["accuracy, test rows (%)"] == ["84.0", "80.0", "83.0"]
    assert rows["JS to retrained, test (bits)"] == ["0.1235", "0.0500", "0.0000"]
    assert rows["mean distance to retrained (points)"] == ["34.8", "4.0", "0.0"]
    assert MEASURES["js_forget"] not in rows


def test_missing_and_nan_cells_are_empty() -> None:
    some = replace(SERVED, models={"original": evaluation(NAN), "unlearned": evaluation(80.0)})
    rows = {row[0]: row[1:] for row in measure_rows(some)}
    assert rows["accuracy, test rows (%)"] == ["", "80.0", ""]
    assert MEASURES["gap"] not in rows


def test_the_table_of_costs_sets_forgetting_beside_retraining() -> None:
    rows = {row[0].strip(): row[1:] for row in cost_rows(SERVED)}
    assert len(rows) == len(COSTS) - len(IF_ANY) + 1
    assert rows["client passes over samples"] == ["1,000", "20,000", "5.0 %"]
    assert rows["client seconds"] == ["1.2", "50.0", "2.5 %"]
    assert rows["bytes down"] == ["0", "0", ""]
    alone = replace(SERVED, costs={"unlearned": SERVED.costs["unlearned"]})
    assert {row[0].strip(): row[1:] for row in cost_rows(alone)}["rounds"] == ["3", "", ""]


@pytest.mark.parametrize(
    ("clients", "rows", "withdrawn", "expected"),
    [
        ((0,), 1200, (0,), "client 0 forgets 1,200 rows and withdraws"),
        ((7,), 30, (), "client 7 forgets 30 rows"),
        ((7,), 1, (), "client 7 forgets 1 row"),
        ((1, 2), 50, (), "clients 1, 2 forget 50 rows"),
        ((1, 2), 50, (1, 2), "clients 1, 2 forget 50 rows and withdraw"),
        ((1, 2, 3, 4, 5), 50, (), "clients 1, 2, 3, 4, 5 forget 50 rows"),
        ((1, 2, 3, 4, 5, 6), 50, (), "6 clients forget 50 rows"),
    ],
)
def test_the_title_says_who_forgets_how_much(
    clients: tuple[int, ...], rows: int, withdrawn: tuple[int, ...], expected: str
) -> None:
    served = replace(SERVED, clients=clients, rows=rows, withdrawn=withdrawn)
    assert title(served) == f"request-1, after round 5: {expected}"


def test_the_title_does_not_let_all_withdraw_when_one_does() -> None:
    served = replace(SERVED, clients=(1, 2, 3), rows=50, withdrawn=(2,))
    assert not title(served).endswith("rows and withdraw")
    assert "2" in title(served).partition("rows")[2]


def test_the_title_of_what_comes_after_the_last_request() -> None:
    served = replace(SERVED, name="end", round=9, clients=(), rows=0, withdrawn=())
    assert title(served) == "end: training went on to round 9"


def test_the_console_shows_both_tables_and_failed_answers() -> None:
    console = Console(file=io.StringIO(), width=110)
    show(replace(REPORT, answers={"request-1": SERVED.answers}), console)
    printed: Any = console.file
    text = printed.getvalue()
    failed = "failed: request-1: client 4 failed in 1 of 5 rounds (no answer in time)"
    for expected in ("client 0 forgets 1,200 rows", "accuracy, test rows", "5.0 %", failed):
        assert expected in text
    quiet = Console(file=io.StringIO(), width=110)
    show(replace(REPORT, results=(replace(SERVED, answers=Answers(3), costs={}),), answers={}), quiet)
    silent: Any = quiet.file
    assert "failed" not in silent.getvalue()
    assert "unlearning" not in silent.getvalue()


def test_tell_verbose_has_all_tables_and_ends_with_where_the_files_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / ("long" * 40)
    tell(REPORT, folder, verbose=True)
    out = capsys.readouterr().out
    assert out.endswith(f"{folder}\n")
    assert "peak memory, server" in out


# ---- the plot


def test_curves_count_passes_from_the_request() -> None:
    curves = curves_of(REPORT)
    assert [p.passes for p in curves["original"]] == [-4000, -3000, -2000, -1000, 0]
    assert [p.passes for p in curves["unlearned"]] == [0, 100, 300, 500]
    assert curves["unlearned"][0] == curves["original"][-1]
    assert [p.passes for p in curves["retrained"]] == [800, 1600, 2400]


def test_curves_leave_out_training_after_the_request_and_stages_without_points() -> None:
    early = replace(REPORT, results=(replace(SERVED, round=2),), curves=CURVES[:5])
    curves = curves_of(early)
    assert [p.passes for p in curves["original"]] == [-1000, 0]
    assert "retrained" not in curves


def test_the_second_request_starts_from_the_model_that_it_found() -> None:
    later = points("train-from-5", [700, 1400, 2100], accuracy_test=20)
    forgetting = points("request-2", [50], accuracy_test=10)
    served = (SERVED, replace(SERVED, name="request-2", round=8))
    curves = curves_of(replace(REPORT, results=served, curves=(*CURVES, *later, *forgetting)))
    assert curves["unlearned"][0].measures == later[-1].measures
    assert curves["unlearned"][0].passes == 0
    assert curves["unlearned"][1:] == forgetting


def colours(path: Path) -> int:
    return len(np.unique(imread(path)[..., :3].reshape(-1, 3).round(2), axis=0))


def test_the_plot_is_a_png_that_shows_its_curves(tmp_path: Path) -> None:
    plot(REPORT, tmp_path / "full.png")
    assert (tmp_path / "full.png").read_bytes().startswith(b"\x89PNG\r\n")
    image = imread(tmp_path / "full.png")[..., :3]
    for red, green, blue in ((0xC1, 0x27, 0x2D), (0x00, 0x72, 0xB2)):  # unlearned, retrained
        near = np.abs(image * 255 - (red, green, blue)).max(-1) < 3
        assert near.sum() > 50
    assert colours(tmp_path / "full.png") > 20


def test_the_plot_has_a_panel_for_each_measure_that_was_followed(tmp_path: Path) -> None:
    few = [replace(p, measures={"accuracy_test": p.measures["accuracy_test"]}) for p in CURVES]
    plot(replace(REPORT, curves=tuple(few)), tmp_path / "one.png")
    plot(REPORT, tmp_path / "three.png")
    assert imread(tmp_path / "three.png").shape[1] == 3 * imread(tmp_path / "one.png").shape[1]


def test_the_dotted_line_is_the_retrained_model_of_the_request_that_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []
    draw = matplotlib.axes.Axes.axhline

    def axhline(axis: Any, y: float, **how: Any) -> Any:
        drawn.append(y)
        return draw(axis, y, **how)

    monkeypatch.setattr(matplotlib.axes.Axes, "axhline", axhline)
    targets = [83.0, 55.0, 4.0]
    plot(REPORT, tmp_path / "curves.png")
    assert drawn == targets
    drawn.clear()
    # Training went on after the request: another retrained model, of which no curve is drawn.
    end = replace(SERVED, name="end", clients=(), models={"retrained": evaluation(11.0, 12.0)}, costs={})
    plot(replace(REPORT, results=(SERVED, end)), tmp_path / "curves.png")
    assert drawn == targets


# ---- files


def test_the_files_are_written_and_nothing_else(tmp_path: Path) -> None:
    write(REPORT, tmp_path)
    names = ["curves.png", "metrics.jsonl", "page.json", "report.html", "report.json", "report.md"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert json.loads((tmp_path / "report.json").read_text()) == parsed(REPORT)
    assert (tmp_path / "report.md").read_text() == document(REPORT)
    assert colours(tmp_path / "curves.png") > 20


def test_files_of_an_earlier_run_are_replaced(tmp_path: Path) -> None:
    write(REPORT, tmp_path)
    write(replace(REPORT, seed=4), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["seed"] == 4


def test_the_document_says_everything_in_order() -> None:
    text = document(REPORT)
    order = [
        "# fedlaf: laf, seed 3",
        f"## {title(SERVED)}",
        markdown(measure_rows(SERVED)),
        markdown(cost_rows(SERVED)),
        "Messages to clients while forgetting: 30, of which 1 failed.",
        "![curves](curves.png)",
        "train 1.5 s",
        "torch 2",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert text.endswith("\n")
    bare = document(replace(REPORT, results=(replace(SERVED, costs={}, answers=Answers()),)))
    assert "retraining" not in bare
    assert "Messages" not in bare


@pytest.mark.parametrize("served", [(SERVED,), ()], ids=["no-curves", "no-requests"])
def test_a_run_without_curves_is_reported_without_a_picture(
    served: tuple[RequestResult, ...], tmp_path: Path
) -> None:
    # evaluation.curve_rows=0 draws no curves.
    write(replace(REPORT, results=served, curves=()), tmp_path)
    assert {"report.json", "report.md"} <= {p.name for p in tmp_path.iterdir()}
    mentioned = "curves.png" in (tmp_path / "report.md").read_text()
    assert mentioned == (tmp_path / "curves.png").exists()


def test_a_file_is_complete_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(_figure: Figure, path: Any, **_how: Any) -> None:
        Path(path).write_bytes(b"\x89PNG\r\n half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="no space left"):
        write(REPORT, tmp_path)
    assert not (tmp_path / "curves.png").exists()
