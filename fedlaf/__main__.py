"""The entry: compose the configuration, make a plan, run it, say where the report is."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from math import nan
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from fedlaf.core.errors import RoundFailed, require
from fedlaf.experiment import config as configuration
from fedlaf.experiment import interruption
from fedlaf.experiment.config_errors import USER_ERRORS, explained, groups_not_null
from fedlaf.experiment.interruption import Interrupted
from fedlaf.experiment.plan import prepare
from fedlaf.experiment.run_folder import leave_nothing

WRONG, FAILED = 2, 1
"""Exit codes: of a wrong configuration, of a run that failed."""

_finished: list[Path] = []
_failed: list[tuple[str, int]] = []
"""The runs of a multirun that this process has made: folders; keys and lines, with the exit code of each."""

_lists_failures: set[int] = set()
"""The process that lists failures at the end. In one of a launcher's own a failure goes to the launcher."""


@hydra.main(version_base="1.3", config_path="pkg://fedlaf.conf", config_name="config")
def run(config: DictConfig) -> float | None:
    """One job: from the composed configuration to the report's files.

    Returns the mean distance to the retrained model, for sweepers.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN and os.getpid() in _lists_failures:
        return _one_of_many(config)
    # Hydra prints a page for exceptions that reach it, but lets SystemExit pass.
    with _explaining():
        return _job(config)


def main() -> None:
    """The console script: exit code 2 and one line for a wrong configuration, 1 for a failed run."""
    configuration.register()
    if sys.argv[1:2] == ["compare"]:
        with _explaining():
            _compare(sys.argv[2:])
        return
    if sys.argv[1:2] == ["board"]:
        with _explaining():
            _board(sys.argv[2:])
        return
    if sys.argv[1:2] == ["verify"]:
        with _explaining():
            _verify(sys.argv[2:])
        return
    if sys.argv[1:2] == ["resume"]:
        with _explaining():
            _resume(sys.argv[2:])
        return
    asked = [key for key in sys.argv[1:] if key not in ("-m", "--multirun")]
    if len(asked) < len(sys.argv) - 1 and any(key.startswith(("runner=", "runner.")) for key in asked):
        with _explaining():
            _multirun(asked)
        return
    # Without it Hydra would print its own page for a wrong override, and exit with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    with _explaining(), groups_not_null(sys.argv[1:]):
        _finished.clear()
        _failed.clear()
        _lists_failures.add(os.getpid())
        run()
    if _failed:
        count = f"{len(_failed)} of {len(_failed) + len(_finished)} runs failed:"
        wrong = not _finished and all(code == WRONG for _, code in _failed)
        _fail("\n  ".join([count, *(line for line, _ in _failed)]), WRONG if wrong else FAILED)


def _one_of_many(config: DictConfig) -> float | None:
    """A job of a multirun: where it fails, a line says so now and at the end, and the others go on."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    try:
        distance = _job(config)
    except Interrupted as stopped:
        raise Interrupted(
            f"{stopped}; finished runs: {', '.join(map(str, _finished)) or 'none'}"
        ) from stopped
    except (*USER_ERRORS, OSError, RoundFailed) as error:
        leave_nothing(folder)
        line, code = _told(error)
        _say(line)
        _failed.append((f"{' '.join(hydra_config.overrides.task)}: {line}", code))
        return nan
    _finished.append(folder)
    return distance


def _job(config: DictConfig) -> float | None:
    from fedlaf import report
    from fedlaf.experiment.api import execute, unless_stopped

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    plan = prepare(config, hydra_config.runtime.choices.get("forget") or "")
    asked, several = hydra_config.overrides.task, hydra_config.mode == RunMode.MULTIRUN
    with interruption.listening():
        try:
            finished = execute(plan, folder, shlex.join(["fedlaf", *asked]), multirun=several)
        except Interrupted as stopped:
            raise Interrupted(f"{stopped}; {_go_on(folder)}") from stopped
        report.tell(finished, folder)
        unless_stopped(finished)
        if several and interruption.requested():
            raise Interrupted("between two runs")
    return finished.results[-1].measure("gap", "unlearned") if finished.results else None


def _go_on(folder: Path) -> str:
    """What an interrupted run has saved, and the command that goes on from there."""
    from fedlaf.experiment.checkpoints import saved_stages

    saved = ", ".join(saved_stages(folder)) or "nothing yet"
    return f"saved in {folder}: {saved}; go on with: {shlex.join(['fedlaf', 'resume', str(folder)])}"


def _compare(overrides: list[str]) -> None:
    from fedlaf.experiment.comparison import compare, usage

    help_flags = {"--help", "-h"} & set(overrides)
    if help_flags:
        print(usage([o for o in overrides if o not in help_flags]))
        return
    with interruption.listening():
        try:
            print(compare(overrides))
        except Interrupted as stopped:
            command = shlex.join(["fedlaf", "compare", *overrides])
            raise Interrupted(f"{stopped}; go on with: {command}") from stopped


def _multirun(overrides: list[str]) -> None:
    from fedlaf.experiment.comparison import multirun

    with interruption.listening():
        print(multirun(overrides))


def _board(arguments: list[str]) -> None:
    from fedlaf import report

    if {"--help", "-h"} & set(arguments):
        print("fedlaf board FOLDER   writes FOLDER/board.html, a page over all runs and comparisons in it.")
        return
    require(len(arguments) == 1, "board", "one folder", " ".join(arguments))
    path = Path(arguments[0]) / "board.html"
    report.replace(path, report.board_page(path.parent))
    print(path)


def _verify(arguments: list[str]) -> None:
    if {"--help", "-h"} & set(arguments):
        print("fedlaf verify RUN [public_key=FILE] [head=HASH]   checks a ledger; exit code 1: a mismatch.")
        return
    from fedlaf.experiment.ledger import verify

    options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    folders = [argument for argument in arguments if "=" not in argument]
    require(len(folders) == 1, "verify", "one folder", " ".join(folders))
    unknown = sorted(set(options) - {"public_key", "head"})
    require(not unknown, "verify", "public_key=FILE or head=HASH", " ".join(unknown))
    key = Path(options["public_key"]) if "public_key" in options else None
    found = verify(Path(folders[0]), key=key, head=options.get("head"))
    if found.fault:
        _fail(found.fault, FAILED)
    print(found.line)


def _resume(arguments: list[str]) -> None:
    if {"--help", "-h"} & set(arguments):
        print(
            "fedlaf resume RUN   goes on with a run or a comparison whose process has ended, in its folder."
        )
        return
    require(len(arguments) == 1, "resume", "one folder", " ".join(arguments))
    from fedlaf import report
    from fedlaf.experiment import api
    from fedlaf.experiment.comparison import compare, overrides_of

    folder = Path(arguments[0])
    overrides = overrides_of(folder)
    with interruption.listening():
        try:
            if overrides is not None:
                print(compare(overrides))
            else:
                report.tell(api.resume(folder), folder)
        except Interrupted as stopped:
            raise Interrupted(f"{stopped}; {_go_on(folder)}") from stopped


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except (*USER_ERRORS, OSError, RoundFailed) as error:
        line, code = _told(error)
        if code == WRONG and HydraConfig.initialized():
            leave_nothing(Path(HydraConfig.get().runtime.output_dir))
        _fail(line, code)
    except KeyboardInterrupt as stopped:
        _fail(f"interrupted {stopped}" if str(stopped) else "interrupted", interruption.EXIT_CODE)


def _told(error: Exception) -> tuple[str, int]:
    """An error in a line, and the exit code: 2 for a wrong configuration, 1 for a failed run."""
    if isinstance(error, USER_ERRORS):
        return explained(error), WRONG
    if isinstance(error, OSError):  # a folder that cannot be written, a full disk
        return f"{error.strerror or error}: {error.filename or 'no file named'}", FAILED
    return str(error), FAILED


def _fail(line: str, code: int) -> NoReturn:
    _say(line)
    raise SystemExit(code)


def _say(line: str) -> None:
    print(f"fedlaf: error: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
