"""The site is built with warnings as errors; its links lead somewhere; its pages open in a real Chromium."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from html import unescape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from fedlaf_docs.keys import classes

pytest.importorskip("sphinx", reason="what builds the site is not installed")
pytest.importorskip("myst_nb", reason="what builds the site is not installed")

pytestmark = pytest.mark.xdist_group("site")
ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MODES = [("light", 1280), ("dark", 1280), ("light", 400), ("dark", 400)]
PAGES = {"index": MODES, "concepts": MODES[::3], "choose": MODES[1:3]}
BUILD = ("-m", "sphinx", "--builder", "html", "--fail-on-warning", "--quiet")
SKIPPED = ("-D", "nb_execution_mode=off")
"""The notebook is run by `make docs`, and by a test of its own."""


def sphinx(*arguments: str) -> subprocess.CompletedProcess[str]:
    paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *BUILD, *arguments], env={**os.environ, **paths}, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = sphinx(*SKIPPED, str(ROOT / "docs"), str(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


class Links(HTMLParser):
    """Addresses that a page refers to, and places in it that others may."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.places.add(value)
            if name in ("href", "src") and value:
                self.found.add(value)


def broken(folder: Path) -> set[tuple[str, str]]:
    """Pages and what they refer to that is not there: files, and places in pages."""
    pages = {path: Links(path.read_text()) for path in folder.rglob("*.html")}
    lost = set()
    for path, links in pages.items():
        for address in links.found:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or "_modules" in path.parts:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            at = unquote(parts.fragment)
            if not target.is_file() or (at and target in pages and at not in pages[target].places):
                lost.add((path.name, address))
    return lost


def test_each_link_leads_to_a_page_and_a_place_in_it(site: Path) -> None:
    assert len(list(site.rglob("*.html"))) > 60
    assert broken(site) == set()


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "one.html").write_text(
        '<a href="two.html#here">a</a><a href="two.html#there">b</a><img src="x">'
    )
    (tmp_path / "two.html").write_text(
        '<p id="here"><a href="#top">c</a><a href="http://elsewhere/#x">d</a></p>'
    )
    assert broken(tmp_path) == {("one.html", "two.html#there"), ("one.html", "x"), ("two.html", "#top")}


def test_a_link_to_nothing_fails_the_build(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    (source / "conf.py").write_text('extensions = ["myst_parser"]\nmyst_heading_anchors = 4\n')
    (source / "index.md").write_text("# One\n\n[elsewhere](#nowhere)\n")
    done = sphinx(str(source), str(tmp_path / "out"))
    assert done.returncode != 0
    assert "nowhere" in done.stderr


def test_pages_hold_what_they_are_made_from(site: Path) -> None:
    configuration = (site / "configuration.html").read_text()
    assert all(f'id="keys-{of.__name__.lower()}"' in configuration.lower() for of in classes() if fields(of))
    extend = unescape(re.sub("<[^>]*>", "", (site / "extend.html").read_text()))
    for file in (ROOT / "examples").glob("*.py"):
        assert file.read_text().strip() in extend, file.name
    assert (site / "concepts.html").read_text().count("<svg viewBox") == 2


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """On loopback: an accessibility check reads style sheets, which a page from the disk may not."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Any]:
    """Opens a page by name; when the test ends, nothing may have been said, thrown or asked of others."""
    noise: list[str] = []
    pages = []

    def open_page(name: str) -> Any:
        page = browser.new_page()
        pages.append(page)
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith((address, "data:")) else noise.append(asked.url),
        )
        page.goto(f"{address}{name}.html")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert noise == []


@pytest.mark.parametrize(("name", "modes"), PAGES.items(), ids=PAGES)
def test_pages_are_accessible_and_fit(opened: Any, name: str, modes: list[tuple[str, int]]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page = opened(name)
    for scheme, width in modes:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(100)
        found = axe.Axe().run(page).response["violations"]
        assert [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") is (scheme == "light")


def test_the_longest_page_fits(opened: Any) -> None:
    """Its tables scroll within it, and can be reached by keyboard."""
    page = opened("configuration")
    page.set_viewport_size({"width": 400, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.evaluate(
        "[...document.querySelectorAll('.table-wrapper')].every((table) => table.tabIndex === 0)"
    )


def test_drawings_have_the_colours_of_the_scheme_and_words(opened: Any) -> None:
    page = opened("concepts")
    ink = "getComputedStyle(document.querySelector('.drawing text')).fill"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ink) != light
    assert page.locator(".drawing svg[role=img] > title").count() == 2
    # No word is cut off at the edge of its drawing.
    assert page.evaluate(
        """[...document.querySelectorAll('.drawing svg')].every((svg) =>
        [...svg.querySelectorAll('text')].every((t) =>
        t.getBBox().x + t.getBBox().width <= svg.viewBox.baseVal.width))"""
    )


def test_the_search_finds_a_key(opened: Any) -> None:
    page = opened("search")
    page.goto(page.url + "?q=outlier_quantile")
    page.wait_for_selector("#search-results li a")
    assert "Configuration" in page.locator("#search-results").inner_text()


def test_a_group_has_its_options_before_the_keys_of_their_classes(site: Path) -> None:
    page = (site / "configuration.html").read_text()
    places = [page.index(part) for part in ('id="model-options"', 'id="keys-cnn"', 'id="train-options"')]
    assert places == sorted(places)
