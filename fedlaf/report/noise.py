"""What other libraries write while a run goes on: in the run's log, not on the screen."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import TextIO

from fedlaf.core.errors import InvalidValue

LOG_FILE = "run.log"
"""The log in a run's folder: its stages, and what Ray, Flower, Hydra, torch and others wrote to stderr."""


@contextmanager
def log_to(path: Path, *, errors: bool = True) -> Iterator[TextIO]:
    """Send all that is logged, or written to stderr, by any library of any language, to the file.

    Yields the stream that still goes to the screen; with `errors`, what is logged as an error has a line
    there too. An exception that passes leaves its traceback. Standard output is left alone: what a user's own
    code prints is wanted where it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    root, own = logging.getLogger(), logging.getLogger("fedlaf")
    level = own.level
    with ExitStack() as stack:
        file = stack.enter_context(closing(_Log(path)))
        screen = stack.enter_context(_screen(file))
        stack.enter_context(redirect_stderr(file))
        written = logging.StreamHandler(file)
        written.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
        handlers: list[logging.Handler] = [written, *([_Errors(screen, path)] if errors else [])]
        for handler in handlers:
            root.addHandler(handler)
            stack.callback(root.removeHandler, handler)
        own.setLevel(logging.INFO)
        stack.callback(own.setLevel, level)
        try:
            yield screen
        except InvalidValue:
            path.unlink()  # a wrong value leaves nothing behind
            raise
        except BaseException:
            own.info("ended by", exc_info=True)
            raise


class _Log(io.TextIOBase):
    """Text at the end of a file. On a full disk the log has gaps, and what is logged is still what counts."""

    encoding = "utf-8"

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._file.write(text.encode(self.encoding, "backslashreplace"))
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
        super().close()


class _Errors(logging.StreamHandler[TextIO]):
    """A line on the screen for what is logged as an error."""

    def __init__(self, screen: TextIO, path: Path) -> None:
        super().__init__(screen)
        self.setLevel(logging.ERROR)
        self._path = path

    def format(self, record: logging.LogRecord) -> str:
        line = record.getMessage().strip().partition("\n")[0]
        return f"{record.name}: {line} (more in {self._path})"


@contextmanager
def _screen(file: _Log) -> Iterator[TextIO]:
    """Point the descriptor of stderr at the file; yields a stream to where it pointed before."""
    shown = sys.stderr
    try:
        shown.flush()
        descriptor = shown.fileno()
    except (AttributeError, OSError, ValueError):  # a notebook's, or none
        descriptor = -1
    if descriptor != 2:
        yield shown
        return
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    with open(kept, "w", encoding=shown.encoding, errors="backslashreplace", buffering=1) as screen:
        try:
            yield screen
        finally:
            screen.flush()
            os.dup2(kept, 2)
