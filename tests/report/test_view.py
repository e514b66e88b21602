"""What a page shows, held against slow and obvious ways to compute it."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from support.pages import CLASSES, MODELS, a_comparison, a_report, predicted, split_rows

from fedlaf.__main__ import main
from fedlaf.core.errors import InvalidValue
from fedlaf.evaluation import Verdict
from fedlaf.evaluation.attacks import figures
from fedlaf.evaluation.verdict import Word
from fedlaf.report import board_page, comparison_page, partition_view, request_view, shown_rows, write
from fedlaf.report.page import page_data, run_page
from fedlaf.report.page.sentence import WITHIN, reasons, sentence
from fedlaf.report.view.pictures import pictures
from fedlaf.report.view.request import logit

SPLITS = split_rows()
SEEN = {model: predicted(SPLITS, model) for model in MODELS[:3]}
DRAWN = {model: predicted(shown_rows(SPLITS), model) for model in SEEN}
VIEW = request_view(SEEN, SPLITS, DRAWN.__getitem__, (0,))


def test_flows_count_every_forgotten_row_once() -> None:
    flows = VIEW.values["flows"]
    before = SEEN["original"].forget.argmax(1)
    for model in ("unlearned", "retrained"):
        after = SEEN[model].forget.argmax(1)
        for i, one in enumerate(flows["classes"]):
            for j, other in enumerate(flows["classes"]):
                assert flows["moves"][model][i][j] == ((before == one) & (after == other)).sum()
        assert np.sum(flows["moves"][model]) == len(SPLITS.forget)
    same = (SEEN["unlearned"].forget.argmax(1) == SEEN["retrained"].forget.argmax(1)).mean()
    assert flows["agree"] == pytest.approx(100 * same)


def test_many_classes_flow_as_the_largest_and_one_for_the_others() -> None:
    stream = np.random.default_rng(0)
    wide = {m: replace(p, forget=stream.dirichlet(np.ones(40), len(p.forget))) for m, p in SEEN.items()}
    flows = request_view(wide, SPLITS, DRAWN.__getitem__).values["flows"]
    assert len(flows["classes"]) == 13
    assert flows["classes"][-1] == -1
    assert np.sum(flows["moves"]["unlearned"]) == len(SPLITS.forget)


def test_the_projection_is_that_of_principal_components_of_all_models_together() -> None:
    rows = {
        m: np.concatenate([p.represented[k] for k in ("retain", "forget", "test")]) for m, p in DRAWN.items()
    }
    oracle = PCA(2).fit(np.concatenate(list(rows.values())))
    for model, held in rows.items():
        found = np.array(VIEW.values["projection"]["at"][model])[:, :2]
        assert np.abs(np.abs(found) - np.abs(oracle.transform(held))).max() < 2e-3  # directions have no sign
    shares = 100 * oracle.explained_variance_ratio_
    assert VIEW.values["projection"]["shares"] == pytest.approx(shares, abs=0.06)


def test_scores_rank_rows_as_the_loss_attack_does() -> None:
    found, labels = SEEN["original"], SPLITS.forget.y.numpy()
    own, others = found.forget[range(len(labels)), labels], SPLITS.test.y.numpy()
    unseen = found.test[range(len(others)), others]
    by_loss = figures("loss", np.log(own), np.log(unseen), 0.0)["mia_loss_auc"]
    ours = figures("ours", logit(found.forget, labels), logit(found.test, others), 0.0)["mia_ours_auc"]
    assert ours == pytest.approx(by_loss, abs=0.1)


def test_clients_have_the_accuracy_on_their_own_rows() -> None:
    clients = VIEW.values["clients"]
    assert clients["ids"] == [0, 1, 2, 3, 4]
    assert clients["asked"] == [0]
    right = SEEN["retrained"].retain.argmax(1) == SPLITS.retain.y.numpy()
    for place, client in list(enumerate(clients["ids"]))[1:]:
        mine = SPLITS.owners["retain"] == client
        assert clients["accuracy"]["retrained"][place] == pytest.approx(100 * right[mine].mean(), abs=0.06)
        assert clients["rows"][place] == mine.sum()


def test_a_federation_of_ten_thousand_shows_sixty_clients_with_those_of_the_request() -> None:
    labels = [np.array([k % CLASSES]) for k in range(10_000)]
    part = partition_view(labels, CLASSES, set(range(500, 600)))
    assert len(part["ids"]) == len(set(part["ids"])) == 60
    assert len(part["asked"]) >= 30
    assert part["of"] == 10_000
    assert all(
        counts[k % CLASSES] == 1 == sum(counts) for k, counts in zip(part["ids"], part["counts"], strict=True)
    )


def test_pictures_are_the_inputs() -> None:
    x = torch.randint(0, 256, (7, 3, 5, 4), dtype=torch.uint8)
    sheet = pictures(x)
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(sheet["png"].split(",")[1]))))
    for place in range(7):
        top, left = place // sheet["columns"] * 5, place % sheet["columns"] * 4
        assert np.array_equal(pixels[top : top + 5, left : left + 4], x[place].permute(1, 2, 0).numpy())
    lines = pictures(torch.arange(2 * 3 * 400, dtype=torch.float32).reshape(2, 3, 400))
    assert lines["kind"] == "series"
    assert np.array(lines["values"]).shape == (2, 3, 100)


def test_the_page_of_a_run_is_strict_json_that_cannot_close_its_script() -> None:
    report = replace(a_report(), command="fedlaf '</script><b>'")
    data = json.loads(json.dumps(page_data(report), allow_nan=False))
    text = run_page(data)
    assert "</script><b>" not in text
    assert text.count("<script") == 3
    assert "http://" not in text.replace("http://www.w3.org", "").split('id="plotly"')[0]


@pytest.mark.parametrize(
    ("words", "told", "outside"),
    [
        ({"js_test": Word.WITHIN}, WITHIN, ""),
        ({"js_test": Word.APART, "zrf": Word.WITHIN}, "1 of 2", "different in JS to retrained on test"),
        ({"js_test": Word.UNKNOWN}, "no verdict", ""),
        ({}, "no model was retrained", ""),
    ],
)
def test_the_verdict_as_a_sentence(words: dict[str, Word], told: str, outside: str) -> None:
    served = replace(a_report().results[0], verdict=Verdict(("x",), "", words, rho=3.0))
    assert told in sentence(served)
    assert outside in reasons(served)
    assert "stopped" in sentence(replace(served, stopped=True))


def test_the_board_lists_what_it_finds_and_refuses_what_is_no_folder_of_runs(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"report\.json or comparison\.json"):
        board_page(tmp_path)
    with pytest.raises(InvalidValue, match="a folder"):
        board_page(tmp_path / "nowhere")
    (tmp_path / "a" / "b").mkdir(parents=True)
    write(a_report(), tmp_path / "a" / "b")
    (tmp_path / "comparison.json").write_text(json.dumps(a_comparison()))
    (tmp_path / "a" / "report.json").write_text("[]")  # not ours
    text = board_page(tmp_path)
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert [(e["kind"], e["path"]) for e in data["entries"]] == [("comparison", "."), ("run", "a/b")]
    assert data["entries"][1]["page"] == "a/b/report.html"
    assert "method_3" in comparison_page(a_comparison())


def test_the_command_line_writes_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(a_report(), tmp_path)
    monkeypatch.setattr("sys.argv", ["fedlaf", "board", str(tmp_path)])
    main()
    assert "<title>fedlaf: board of" in (tmp_path / "board.html").read_text()
    monkeypatch.setattr("sys.argv", ["fedlaf", "board"])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
