"""Ctrl-C: the first lets a run end its round and save, the second ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread, current_thread, main_thread
from types import FrameType

EXIT_CODE = 130
"""Of a process that ends because it was interrupted: 128 and the signal's number."""

FIRST = "interrupted: the round in progress ends and is saved; once more ends at once"
SECOND = "interrupted twice, ended at once; resume= takes up what was saved before"

POLL_SECONDS = 0.2
"""How often is looked whether other processes are to be told."""

_sources: list[Callable[[], bool]] = []
"""Who is asked, after each round, whether the user wants the run to end."""


class Interrupted(KeyboardInterrupt):
    """A run that has ended after a round because the user asked for it; its text says where it stands."""


def heed(source: Callable[[], bool]) -> None:
    """Let `source` say from now on whether the user wants the run to end."""
    _sources.append(source)


def requested() -> bool:
    """Whether the user wants the run to end."""
    return any(source() for source in _sources)


@contextmanager
def told_by(source: Callable[[], bool]) -> Iterator[None]:
    """Let `source` say, while the context lasts, whether the user wants the run to end."""
    _sources.append(source)
    try:
        yield
    finally:
        _sources.remove(source)


def end_imports_at_once() -> None:
    """Let a SIGINT that comes in the middle of an import end this process, with one line.

    Libraries that are interrupted while they are imported turn the exception into others, of any kind. At
    any other time it is the usual KeyboardInterrupt. Nothing changes in another thread than the main one.
    """

    def received(_signal: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                os.write(2, b"fedlaf: error: interrupted\n")
                os._exit(EXIT_CODE)
            frame = frame.f_back
        raise KeyboardInterrupt

    if current_thread() is main_thread():
        signal.signal(signal.SIGINT, received)


@contextmanager
def listening() -> Iterator[None]:
    """Let the first SIGINT ask runs to end after their round, and the second end this process, while the
    context lasts. Nothing changes in another thread than the main one, which gets no signals.
    """
    if current_thread() is not main_thread():
        yield
        return
    count, screen = 0, _Screen()

    def received(_signal: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        screen.say(FIRST if count == 1 else SECOND)
        if count > 1:
            os._exit(EXIT_CODE)  # files are whole or not there, and processes of ours end with this one

    before = signal.signal(signal.SIGINT, received)
    try:
        with told_by(lambda: count > 0):
            yield
    finally:
        if count == 0:  # else this process is about to end: a second one may still come
            signal.signal(signal.SIGINT, before)
            screen.close()


@contextmanager
def passed_on(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell`, once and from a thread, when the user wants runs to end while the context lasts."""
    over = Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            if requested():
                tell()
                return

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Screen:
    """The stderr that there is now, whatever its descriptor is pointed to later."""

    def __init__(self) -> None:
        self._descriptor = os.dup(2)
        self._terminal = os.isatty(2)

    def say(self, line: str) -> None:
        # Not by print: the signal may come in the middle of one. Progress bars hide the cursor.
        cursor = "\x1b[?25h" if self._terminal else ""
        os.write(self._descriptor, f"{cursor}fedlaf: {line}\n".encode())

    def close(self) -> None:
        os.close(self._descriptor)
