"""The commands beside a run (compare, board, resume, verify), and how an error is told: in one line."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from fedlaf.core.errors import RoundFailed, require
from fedlaf.experiment import interruption
from fedlaf.experiment.config_errors import USER_ERRORS, explained
from fedlaf.experiment.interruption import Interrupted
from fedlaf.experiment.run_folder import leave_nothing

WRONG, FAILED = 2, 1
"""Exit codes: of a wrong configuration, of a run that failed."""

HELP = {"--help", "-h"}

BOARD = """fedlaf board FOLDER

Writes FOLDER/board.html: one page over all runs, multiruns and comparisons in
the folder, to list, filter, sort and compare them, with a link to each report.

  fedlaf board outputs
  fedlaf board multirun"""

RESUME = """fedlaf resume FOLDER

Goes on with a run, a job of a multirun or a comparison whose process has ended,
in its folder. The result has the same bits as if it had never ended.

  fedlaf resume outputs/DATE/TIME
  fedlaf resume outputs/compare/backdoor"""

VERIFY = """fedlaf verify FOLDER [public_key=FILE] [head=HASH]

Checks the ledger of a run, its hashes and, with a public key, its signatures.
Exit code 1 where an entry does not fit; the first one is named.

  fedlaf verify outputs/DATE/TIME"""


def compare(words: Sequence[str], verbose: bool) -> None:
    """Compare methods, or say how, or show the configuration."""
    from fedlaf.experiment import comparison

    flags = {*HELP, "--cfg", "-c", "job"} & set(words)
    overrides = [word for word in words if word not in flags]
    if flags & HELP:
        print(comparison.usage(overrides))
    elif flags:
        print(comparison.shown(overrides))
    else:
        _run_comparison(overrides, verbose)


def _run_comparison(overrides: Sequence[str], verbose: bool) -> None:
    from fedlaf.experiment import comparison

    with interruption.listening():
        try:
            print(comparison.compare(overrides, in_brief=not verbose))
        except Interrupted as stopped:
            command = shlex.join(["fedlaf", "compare", *overrides])
            raise Interrupted(f"{stopped}; go on with: {command}") from stopped


def multirun(words: Sequence[str], verbose: bool) -> None:
    """Run the combinations of a multirun by our own runner."""
    from fedlaf.experiment import comparison

    del verbose
    with interruption.listening():
        print(comparison.multirun(words))


def board(words: Sequence[str], verbose: bool) -> None:
    """Write the page over the runs in a folder."""
    from fedlaf import report

    del verbose
    if HELP & set(words):
        print(BOARD)
        return
    require(len(words) == 1, "board", "one folder", " ".join(words))
    path = Path(words[0]) / "board.html"
    report.replace(path, report.board_page(path.parent))
    print(path)


def verify(words: Sequence[str], verbose: bool) -> None:
    """Check the ledger of a run."""
    from fedlaf.experiment import ledger

    del verbose
    if HELP & set(words):
        print(VERIFY)
        return
    options = dict(word.split("=", 1) for word in words if "=" in word)
    folders = [word for word in words if "=" not in word]
    require(len(folders) == 1, "verify", "one folder", " ".join(folders))
    unknown = sorted(set(options) - {"public_key", "head"})
    require(not unknown, "verify", "public_key=FILE or head=HASH", " ".join(unknown))
    key = Path(options["public_key"]) if "public_key" in options else None
    found = ledger.verify(Path(folders[0]), key=key, head=options.get("head"))
    if found.fault:
        fail(found.fault, FAILED)
    print(found.line)


def resume(words: Sequence[str], verbose: bool) -> None:
    """Go on with a run or a comparison."""
    from fedlaf import report
    from fedlaf.experiment import api
    from fedlaf.experiment.comparison import overrides_of

    if HELP & set(words):
        print(RESUME)
        return
    require(len(words) == 1, "resume", "one folder", " ".join(words))
    folder = Path(words[0])
    overrides = overrides_of(folder)
    if overrides is not None:
        _run_comparison(overrides, verbose)
        return
    require((folder / "run.json").is_file(), "resume", "the folder of a run that was begun", words[0])
    with going_on(folder):
        with report.log_to(folder / report.LOG_FILE) as screen:
            finished = api.resume(folder, screen=screen)
        report.tell(finished, folder, verbose=verbose)


COMMANDS: dict[str, Callable[[Sequence[str], bool], None]] = {
    "compare": compare,
    "board": board,
    "resume": resume,
    "verify": verify,
}
"""By the word that calls them: words that are no configuration of a run."""


@contextlib.contextmanager
def going_on(folder: Path) -> Iterator[None]:
    """Let a run in the folder be interrupted, and say then what it has saved and how to go on from there."""
    from fedlaf.experiment.checkpoints import saved_stages

    with interruption.listening():
        try:
            yield
        except Interrupted as stopped:
            saved = ", ".join(saved_stages(folder)) or "nothing yet"
            command = shlex.join(["fedlaf", "resume", str(folder)])
            raise Interrupted(f"{stopped}; saved in {folder}: {saved}; go on with: {command}") from stopped


@contextlib.contextmanager
def explaining() -> Iterator[None]:
    """End the process with one line for an error: 2 for a wrong configuration, 1 for a failed run."""
    try:
        yield
    except (*USER_ERRORS, OSError, RoundFailed) as error:
        line, code = told(error)
        made = HydraConfig.initialized() and OmegaConf.select(HydraConfig.get(), "runtime.output_dir")  # type: ignore[arg-type]
        if code == WRONG and made:
            leave_nothing(Path(made))
        fail(line, code)
    except KeyboardInterrupt as stopped:
        fail(f"interrupted {stopped}" if str(stopped) else "interrupted", interruption.EXIT_CODE)


def told(error: Exception) -> tuple[str, int]:
    """An error in a line, and the exit code: 2 for a wrong configuration, 1 for a failed run."""
    if isinstance(error, BrokenPipeError):  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, USER_ERRORS):
        return explained(error), WRONG
    if isinstance(error, OSError):  # a folder that cannot be written, a full disk
        return f"{error.strerror or error}: {error.filename or 'no file named'}", FAILED
    return str(error), FAILED


def fail(line: str, code: int) -> NoReturn:
    """End the process with a line."""
    say(line)
    raise SystemExit(code)


def say(line: str) -> None:
    """A line on stderr."""
    print(f"fedlaf: error: {line}", file=sys.stderr)
