"""How large pages are, and how long a Chromium takes from opening one to its text and to its charts.

    python -m benchmarks.pages outputs/DATE/TIME/report.html outputs/compare/NAME/comparison.html

The text is what Chromium itself calls the first contentful paint. Charts in view are drawn first; a page can
be read and scrolled from then on, and the others follow while it is idle. Each page is opened afresh, a few
times in turn; medians are told. Needs Playwright and Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

from playwright.sync_api import Browser, sync_playwright

STATES = {"charts in view": "html[data-drawn]", "all charts": "html[data-drawn=true]"}
"""What is there when a page has come so far, in their order."""

PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"


def seconds_to(browser: Browser, page: Path) -> list[float]:
    """Seconds from opening a page to its text and to each of the states."""
    context = browser.new_context()
    opened, begun, taken = context.new_page(), perf_counter(), []
    opened.goto(page.resolve().as_uri(), wait_until="commit")
    for state in STATES.values():
        opened.wait_for_selector(state, state="attached", timeout=120_000)
        taken.append(perf_counter() - begun)
    taken.insert(0, float(opened.evaluate(PAINTED)))
    context.close()
    return taken


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("pages", nargs="+", type=Path)
    arguments.add_argument("--repeats", type=int, default=5)
    given = arguments.parse_args()
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        sys.exit("there is no Chromium on this machine")
    found: dict[Path, list[list[float]]] = {page: [] for page in given.pages}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(given.repeats):
            for page, taken in found.items():
                taken.append(seconds_to(browser, page))
        browser.close()
    print(f"{'MB':>6}" + "".join(f"{state:>16}" for state in ("text", *STATES)) + "  page")
    for page, taken in found.items():
        seconds = "".join(f"{median(each):14.2f} s" for each in zip(*taken, strict=True))
        print(f"{page.stat().st_size / 1e6:6.2f}{seconds}  {page}")


if __name__ == "__main__":
    main()
