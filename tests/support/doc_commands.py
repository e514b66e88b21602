"""Commands in Markdown: fenced shell lines, sessions with what they print, and commands within the text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = "<!-- tests run this -->"
"""Stands before a block whose lines a test really runs."""
FENCE = re.compile(
    rf"(?P<run>{re.escape(RUN)}\n)?^(?P<in> *)```(?P<lang>\w*)\n(?P<text>.*?)^(?P=in)```",
    re.MULTILINE | re.DOTALL,
)
INLINE = re.compile(r"`((?:fedlaf|python -m|make) [^`]+)`")


@dataclass(frozen=True)
class Command:
    """Words of one command, where it stands, what it is said to print, and whether it is to be run."""

    words: tuple[str, ...]
    page: str
    prints: str = ""
    run: bool = False

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def pages() -> list[Path]:
    """All Markdown that a user reads."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")]
    return [*top, *sorted((ROOT / "docs").rglob("*.md"))]


def commands(text: str, page: str) -> Iterator[Command]:
    """Those of a page: of shell blocks, of sessions (`$ command` and what it prints), and within the text."""
    for block in FENCE.finditer(text):
        lines = "\n".join(line.removeprefix(block["in"]) for line in block["text"].splitlines())
        if block["lang"] in ("sh", "bash", "shell", "console"):
            yield from shell(lines, page, run=bool(block["run"]))
        elif lines.startswith("$ "):
            yield from session(lines, page)
        elif not block["lang"]:
            yield from shell("\n".join(x for x in lines.splitlines() if x.startswith("fedlaf --")), page)
    for found in INLINE.findall(FENCE.sub("", text)):
        yield from shell(" ".join(found.split()), page)


def shell(lines: str, page: str, *, run: bool = False) -> Iterator[Command]:
    """Commands of a script: lines joined, comments and assignments left out, `a && b` taken apart."""
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if "$(" in line:  # a script's own arithmetic
            continue
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            one, words = words[:end], words[end + 1 :]
            while one and re.match(r"^[A-Za-z_]+=", one[0]):
                one = one[1:]
            if one:
                yield Command(tuple(word for word in one if word != "&"), page, run=run)


def session(lines: str, page: str) -> Iterator[Command]:
    """Each `$ command` with the lines below it."""
    for part in re.split(r"^\$ ", lines, flags=re.MULTILINE)[1:]:
        line, _, printed = part.partition("\n")
        yield Command(tuple(shlex.split(line)), page, prints=printed.strip())
