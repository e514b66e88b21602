"""What libraries write goes to the run's log, in whatever way; errors have a line on the screen."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from fedlaf.core.errors import InvalidValue
from fedlaf.report import log_to

SCRIPT = """
import logging, os, subprocess, sys, warnings
from pathlib import Path
from fedlaf.report import log_to
early = logging.getLogger("early")
early.addHandler(logging.StreamHandler())     # holds the stderr of now
early.propagate = False
with log_to(Path(sys.argv[1]) / "run.log") as screen:
    early.warning("from a handler that was there before")
    logging.getLogger("late").warning("from a logger")
    logging.getLogger("late").error("a mistake\\nof two lines")
    logging.getLogger("late").info("too little to say")
    warnings.warn("from a warning")
    print("from a print", file=sys.stderr)
    os.write(2, b"from C\\n")
    subprocess.run([sys.executable, "-c", "import sys; print('from a child', file=sys.stderr)"])
    print("progress", file=screen)
    print("a user's own print")
print("afterwards", file=sys.stderr)
"""


def test_nothing_of_it_is_on_the_screen_and_nothing_is_lost(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    log = (tmp_path / "run.log").read_text()
    for said in ("a handler that was there before", "a logger", "a warning", "a print", "C", "a child"):
        assert f"from {said}" in log
    assert "late: a mistake\nof two lines" in log
    assert "too little" not in log
    line = f"late: a mistake (more in {tmp_path / 'run.log'})"
    assert done.stderr.splitlines() == [line, "progress", "afterwards"]
    assert done.stdout == "a user's own print\n"


def test_an_exception_leaves_its_traceback_and_a_wrong_value_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    with pytest.raises(ZeroDivisionError), log_to(path, errors=False):
        print(1 / 0)
    assert "ZeroDivisionError: division by zero" in path.read_text()
    assert "print(1 / 0)" in path.read_text()
    with pytest.raises(InvalidValue), log_to(path):
        raise InvalidValue("key", "this", "that")
    assert not path.exists()


def test_the_process_is_as_it_was(tmp_path: Path) -> None:
    root, own = logging.getLogger(), logging.getLogger("fedlaf")
    before = (list(root.handlers), own.level, sys.stderr, warnings.showwarning)
    with log_to(tmp_path / "run.log"):
        assert sys.stderr is not before[2]
    assert (list(root.handlers), own.level, sys.stderr, warnings.showwarning) == before
