"""How large pages are, and how long a Chromium takes from opening one to its last chart.

    python -m benchmarks.pages outputs/DATE/TIME/report.html outputs/compare/NAME/comparison.html

Each page is opened in a browser of its own, a few times in turn; the median is told. Needs Playwright and
Chromium, as the tests do.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

from playwright.sync_api import Browser, sync_playwright

DRAWN = "html[data-drawn=true]"
"""What a page says of itself when everything on it is drawn."""


def seconds_to_load(browser: Browser, page: Path) -> float:
    """Seconds from opening a page until all of it is drawn."""
    context = browser.new_context()
    opened, begun = context.new_page(), perf_counter()
    opened.goto(page.resolve().as_uri())
    opened.wait_for_selector(DRAWN, state="attached", timeout=120_000)
    taken = perf_counter() - begun
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
    found: dict[Path, list[float]] = {page: [] for page in given.pages}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(given.repeats):
            for page, taken in found.items():
                taken.append(seconds_to_load(browser, page))
        browser.close()
    print(f"{'MB':>6} {'seconds':>8}  page")
    for page, taken in found.items():
        print(f"{page.stat().st_size / 1e6:6.2f} {median(taken):8.2f}  {page}")


if __name__ == "__main__":
    main()
