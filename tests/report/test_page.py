"""Pages in a real Chromium: no error, no request, every chart drawn, keyboard, accessibility, sizes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.pages import a_comparison, a_report

from fedlaf.report import board_page, comparison_page, write
from fedlaf.report.page import page_data, run_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
MOST = 6e6
"""Bytes of a page at most."""
MODES = [("light", 1280), ("dark", 1280), ("light", 400), ("dark", 400)]
CHARTS = {"run": 18, "many": 18, "lines": 18, "comparison": 1, "untouched": 1}
DRAWN = ".scatterlayer .trace, .barlayer .trace, .sankey-link, .heatmaplayer .hm, .heatmaplayer image"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind, and the two that must not grow: 10,000 clients, and inputs that are lines."""
    folder = tmp_path_factory.mktemp("pages")
    for name, report in (("one", a_report()), ("two", a_report(4))):
        (folder / name).mkdir()
        write(report, folder / name)
    (folder / "comparison.json").write_text(json.dumps(a_comparison()))
    texts = {
        "comparison": comparison_page(a_comparison()),
        "many": run_page(page_data(a_report(10_000))),
        "lines": run_page(page_data(a_report(shape=(2, 50)))),
        "untouched": run_page(page_data(a_report(request=False))),
        "board": board_page(folder),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text)
    return {"run": folder / "one" / "report.html", **{name: folder / f"{name}.html" for name in texts}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def kept(browser: Any) -> dict[str, Any]:
    """Pages that are open, by name: each is loaded once."""
    return {}


@pytest.fixture
def opened(browser: Any, pages: dict[str, Path], kept: dict[str, Any]) -> Iterator[Any]:
    """Opens a page by name; when the test ends, nothing may have been said, thrown or asked of a network."""
    noise: list[str] = []

    def open_page(name: str, *, scheme: str = "light", width: int = 1280) -> Any:
        if name not in kept:
            page = kept[name] = browser.new_page()
            page.on("console", lambda message: noise.append(message.text))
            page.on("pageerror", lambda error: noise.append(str(error)))
            page.on("request", lambda asked: noise.append(asked.url) if "http" in asked.url else None)
            page.goto(pages[name].as_uri())
        kept[name].set_viewport_size({"width": width, "height": 900})
        kept[name].emulate_media(color_scheme=scheme)
        kept[name].wait_for_timeout(50)
        kept[name].wait_for_selector("html[data-drawn=true]", state="attached", timeout=120_000)
        return kept[name]

    yield open_page
    assert noise == []


@pytest.mark.parametrize(("scheme", "width"), MODES)
@pytest.mark.parametrize("name", ["run", "comparison", "board"])
def test_pages_are_accessible_and_fit(opened: Any, name: str, scheme: str, width: int) -> None:
    page = opened(name, scheme=scheme, width=width)
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") is (scheme == "light")


@pytest.mark.parametrize(("name", "charts"), CHARTS.items())
def test_every_chart_is_drawn_with_data_and_has_words(opened: Any, name: str, charts: int) -> None:
    page = opened(name)
    found = page.evaluate(
        f"""[...document.querySelectorAll('.chart')].map((chart) => ({{id: chart.id,
        marks: chart.querySelectorAll('{DRAWN}').length, words: chart.getAttribute('aria-label'),
        role: chart.getAttribute('role')}}))"""
    )
    assert len(found) == charts
    for chart in found:
        assert chart["marks"] > 0, chart["id"]
        assert chart["role"] == "img"
        assert len(chart["words"]) > 30, chart["id"]


def test_charts_in_view_come_first_and_all_before_it_is_printed(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(pages["many"].as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached", timeout=120_000)
    count = f"""(printed) => {{ if (printed) window.dispatchEvent(new Event('beforeprint'));
        return [...document.querySelectorAll('.chart')].map((chart) => ({{
        there: chart.querySelectorAll('{DRAWN}').length > 0, top: chart.getBoundingClientRect().top}})); }}"""
    found = page.evaluate(count, False)
    assert any(chart["top"] < 900 for chart in found)
    assert all(chart["there"] for chart in found if chart["top"] < 900)
    assert all(chart["there"] for chart in page.evaluate(count, True))
    page.close()


def test_pages_stay_small(pages: dict[str, Path]) -> None:
    assert {name for name, path in pages.items() if path.stat().st_size > MOST} == set()


def test_the_verdict_comes_first_and_the_command_last(opened: Any) -> None:
    page = opened("run")
    assert "retrain" in page.locator("h1").inner_text()
    assert page.locator("pre.command").inner_text() == "fedlaf 'x=[1, 2]' seed=3"
    page.locator("#origin summary").click()
    assert "rounds: 3" in page.locator("#origin details").inner_text()


def test_the_keyboard_moves_curves_classes_and_projection_through_rounds(opened: Any) -> None:
    page = opened("run")
    read = """() => ({cursor: document.getElementById('curve-accuracy_test').layout.shapes.at(-2).x0,
        bars: document.getElementById('round-test').data[0].y,
        places: document.getElementById('round-projection').data.filter((t) => t.name).map((t) => t.x)})"""
    page.locator("#rounds input[type=range]").focus()
    page.keyboard.press("End")
    last = page.evaluate(read)
    page.keyboard.press("ArrowLeft")
    before = page.evaluate(read)
    assert (last["cursor"], before["cursor"]) == (2, 1)
    assert last["bars"] == [20, 21, 22, 23]
    assert before["bars"] == [10, 11, 12, 13]
    for now, then in zip(last["places"], before["places"], strict=True):
        assert now != then
    page.keyboard.press("Home")
    assert page.evaluate(read)["cursor"] == -2
    assert "training, round 1" in page.locator("#rounds .controls").inner_text()


def test_the_threshold_lists_who_is_caught_by_keyboard_and_by_mouse(opened: Any) -> None:
    page = opened("run")
    slider, caught = page.locator("#membership input[type=range]"), page.locator("#membership .caught li")
    slider.focus()
    page.keyboard.press("Home")
    assert caught.count() == 25
    assert "and 96 more" in caught.last.inner_text()
    assert "120 of 120 forgotten rows" in page.locator("#membership").inner_text()
    page.keyboard.press("End")
    assert caught.all_inner_texts() == ["None."]
    plot = page.locator("#scores-chart")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 30, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100, steps=4)
    page.mouse.up()
    assert caught.count() > 1
    shape = page.evaluate("document.getElementById('scores-chart').layout.shapes[0].x0")
    assert float(slider.input_value()) == pytest.approx(shape, abs=0.05)


def test_a_row_is_shown_by_keyboard_and_on_hover(opened: Any) -> None:
    page = opened("run")
    rows = page.locator("#projection input[type=range]")
    rows.focus()
    page.keyboard.press("ArrowRight")
    assert "labelled class" in page.locator("#projection .card").inner_text()
    page.locator("#projection-chart").scroll_into_view_if_needed()
    point = page.locator("#projection-chart .scatterlayer .point").last
    point.hover(force=True)
    page.wait_for_selector("#tip:not([hidden])")
    assert page.locator("#tip .picture").count() == 1
    page.get_by_label("Projection").select_option("tsne")
    title = "document.getElementById('projection-chart').layout.xaxis.title.text"
    assert "t-SNE" in page.evaluate(title)


def test_the_scheme_can_change_while_the_page_is_open(opened: Any) -> None:
    page = opened("run")
    ink = "document.getElementById('models-chart').layout.font.color"
    light = page.evaluate(ink)
    assert opened("run", scheme="dark").evaluate(ink) != light


def test_names_in_a_comparison_cover_neither_each_other_nor_the_table_order(opened: Any) -> None:
    page = opened("comparison")
    boxes = page.evaluate(
        """[...document.querySelectorAll('#pareto-chart .annotation .annotation-text')].map((a) =>
        a.getBoundingClientRect()).map((b) => [b.left, b.top, b.right, b.bottom])"""
    )
    assert len(boxes) == 22 + 2  # the methods, doing nothing, between retrainings
    covered = [
        (i, j) for i, a in enumerate(boxes) for j, b in enumerate(boxes[:i])
        if min(a[2], b[2]) - max(a[0], b[0]) > 4 and min(a[3], b[3]) - max(a[1], b[1]) > 4
    ]  # fmt: skip
    assert covered == []
    gaps = "[...document.querySelectorAll('tbody tr td:nth-child(2)')].map((c) => parseFloat(c.textContent))"
    up = [gap for gap in page.evaluate(gaps) if gap is not None]
    assert up == sorted(up)
    page.get_by_role("button", name="mean distance (points)").press("Enter")
    assert page.evaluate(gaps)[: len(up)] == sorted(up, reverse=True)
    assert page.locator("th[aria-sort=descending]").count() == 1
    assert "no client <answered>" in page.locator("tbody").inner_text()


def test_the_board_filters_and_compares_two(opened: Any, pages: dict[str, Path]) -> None:
    page = opened("board")
    rows = page.locator("#list tbody tr")
    assert rows.count() == 3
    page.get_by_role("searchbox").fill("many methods")
    assert rows.count() == 1
    page.get_by_role("searchbox").fill("")
    page.get_by_label("Compare one").check()
    page.get_by_label("Compare two").check()
    assert "clients" in page.locator("#beside").inner_text()
    links = page.evaluate("[...document.querySelectorAll('#list a')].map((a) => a.getAttribute('href'))")
    assert sorted(links) == ["one/report.html", "two/report.html"]
