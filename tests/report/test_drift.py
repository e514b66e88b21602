"""Drift over requests: the right points, a table that adds up, a picture only where there is drift."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from pathlib import Path

import pytest
from matplotlib.image import imread

from fedlaf.core.cost import Cost
from fedlaf.evaluation import Evaluation
from fedlaf.report import Report, RequestResult, write
from fedlaf.report.drift import compared, plot_drift, points, rows
from fedlaf.report.files import document


def evaluation(test: float, forget: float = 50.0) -> Evaluation:
    return Evaluation({"accuracy_test": test, "accuracy_forget": forget})


def request(number: int, *clients: int) -> RequestResult:
    """Test accuracies 80 + number, 70 + number and 60 + number; the others are the same for all."""
    models = {
        "original": evaluation(80.0 + number),
        "unlearned": evaluation(70.0 + number),
        "retrained": evaluation(60.0 + number),
    }
    costs = {"unlearned": Cost(gradient_passes=10 * number), "retrained": Cost(gradient_passes=100)}
    return RequestResult(f"request-{number}", 12, clients, 100, clients, models, costs)


def without_reference(served: RequestResult) -> RequestResult:
    return replace(served, models={k: v for k, v in served.models.items() if k != "retrained"})


END = RequestResult("end", 15, (), 0, (), {"unlearned": evaluation(90.0), "retrained": evaluation(91.0)}, {})


def report(*served: RequestResult) -> Report:
    return Report(0, "laf", served, (), Cost(), {"train": 1.0}, {"torch": "2"}, {})


THREE = report(request(1, 0), request(2, 1, 4), request(3, 2), END)


def test_points_are_those_of_each_request() -> None:
    assert list(compared(THREE)) == [1, 2, 3]
    assert points(THREE, "accuracy_test", "original") == [(1, 81.0), (2, 82.0), (3, 83.0)]
    assert points(THREE, "accuracy_test", "retrained") == [(1, 61.0), (2, 62.0), (3, 63.0)]
    # Two measures, of which one differs: by 10 from unlearned to retrained, by 20 from original.
    assert points(THREE, "gap", "unlearned") == [(1, 5.0), (2, 5.0), (3, 5.0)]
    assert points(THREE, "gap", "original") == [(1, 10.0), (2, 10.0), (3, 10.0)]
    assert points(THREE, "backdoor_success", "original") == []


def test_requests_keep_their_numbers_where_one_has_no_reference() -> None:
    some = report(request(1, 0), without_reference(request(2, 1)), request(3, 2))
    assert points(some, "accuracy_test", "unlearned") == [(1, 71.0), (3, 73.0)]
    unknown = replace(request(2, 1), models={**request(2, 1).models, "unlearned": evaluation(nan)})
    assert points(report(request(1, 0), unknown), "accuracy_test", "unlearned") == [(1, 71.0)]


def test_the_table_has_a_row_a_request() -> None:
    header, *found = rows(THREE)
    assert all(len(row) == len(header) == 8 for row in found)
    assert found[1] == ["2", "2 clients", "82.0", "72.0", "62.0", "10.0", "5.0", "20.0 %"]
    text = document(THREE, picture=False)
    assert "| 3 | client 2 | 83.0 | 73.0 | 63.0 | 10.0 | 5.0 | 30.0 % |" in text
    assert text.count("## Drift over requests") == text.count("(drift.png)") == 1


def test_the_picture_is_written_and_whole(tmp_path: Path) -> None:
    write(THREE, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.json", "report.md", "drift.png", "page.json", "report.html", "metrics.jsonl",
    }  # fmt: skip
    image = imread(tmp_path / "drift.png")
    assert image.shape[1] > image.shape[0] > 400
    assert image.std() > 0.05


@pytest.mark.parametrize(
    "served",
    [(), (request(1, 0),), (request(1, 0), END), (without_reference(request(1, 0)), request(2, 1))],
    ids=["none", "one", "one, and trained on", "one of two has a reference"],
)
def test_one_request_has_no_drift(served: tuple[RequestResult, ...], tmp_path: Path) -> None:
    one = report(*served)
    assert not plot_drift(one, tmp_path / "drift.png")
    assert list(tmp_path.iterdir()) == []
    assert "rift" not in document(one, picture=False)
