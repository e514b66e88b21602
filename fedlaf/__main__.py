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

from fedlaf.experiment import interruption

interruption.end_imports_at_once()  # before the imports that take seconds

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fedlaf.core.errors import RoundFailed
from fedlaf.experiment import commands
from fedlaf.experiment import config as configuration
from fedlaf.experiment.commands import COMMANDS, going_on
from fedlaf.experiment.config_errors import USER_ERRORS, explained, groups_not_null
from fedlaf.experiment.interruption import Interrupted
from fedlaf.experiment.run_folder import leave_nothing

WRONG, FAILED = 2, 1
"""Exit codes: of a wrong configuration, of a run that failed."""

VERBOSE = {"-v", "--verbose"}

_finished: list[Path] = []
_failed: list[tuple[str, int]] = []
"""The runs of a multirun that this process has made: folders; keys and lines, with the exit code of each."""

_lists_failures: set[int] = set()
"""The process that lists failures at the end. In one of a launcher's own a failure goes to the launcher."""


def main() -> None:
    """The console script: exit code 2 and one line for a wrong configuration, 1 for a failed run."""
    configuration.register()
    verbose = bool(VERBOSE & set(sys.argv[1:]))
    given = sys.argv[1:] = commands.command_first([word for word in sys.argv[1:] if word not in VERBOSE])
    asked = [key for key in given if key not in ("-m", "--multirun")]
    runner = len(asked) < len(given) and any(key.startswith(("runner=", "runner.")) for key in asked)
    with _explaining():
        if given and given[0] in COMMANDS:
            _print(COMMANDS[given[0]](given[1:], verbose))
        elif runner:
            _print(commands.multirun(asked, verbose))
        elif any(word.startswith("query=") for word in given):
            _complete()
        else:
            _run(verbose)


def _print(text: str) -> None:
    if text:
        print(text)


def _run(verbose: bool = False) -> None:
    """Hydra's application: from the composed configuration to the report's files.

    A job's mean distance to the retrained model is its value for sweepers.
    """

    @hydra.main(version_base="1.3", config_path="pkg://fedlaf.conf", config_name="config")
    def run(config: DictConfig) -> float | None:
        if HydraConfig.get().mode == RunMode.MULTIRUN and os.getpid() in _lists_failures:
            return _one_of_many(config, verbose)
        # Hydra prints a page for exceptions that reach it, but lets SystemExit pass.
        with _explaining():
            return _job(config, verbose)

    # Without it Hydra would print its own page for a wrong override, and exit with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    with groups_not_null(sys.argv[1:]):
        _finished.clear()
        _failed.clear()
        _lists_failures.add(os.getpid())
        run()
    if _failed:
        count = f"{len(_failed)} of {len(_failed) + len(_finished)} runs failed:"
        wrong = not _finished and all(code == WRONG for _, code in _failed)
        _fail("\n  ".join([count, *(line for line, _ in _failed)]), WRONG if wrong else FAILED)


def _one_of_many(config: DictConfig, verbose: bool) -> float | None:
    """A job of a multirun: where it fails, a line says so now and at the end, and the others go on."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    try:
        distance = _job(config, verbose)
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


def _job(config: DictConfig, verbose: bool) -> float | None:
    from fedlaf import report
    from fedlaf.experiment.api import execute, unless_stopped
    from fedlaf.experiment.plan import prepare

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    plan = prepare(config, hydra_config.runtime.choices.get("forget") or "")
    command = shlex.join(["fedlaf", *hydra_config.overrides.task])
    many = hydra_config.mode == RunMode.MULTIRUN
    with going_on(folder):
        with report.log_to(folder / report.LOG_FILE) as screen:
            finished = execute(plan, folder, command, multirun=many, screen=screen)
        if many and not verbose:
            report.tell_briefly(finished, folder)
        else:
            report.tell(finished, folder, verbose=verbose)
        unless_stopped(finished)
        if many and interruption.requested():
            raise Interrupted("between two runs")
    return finished.distance


def _complete() -> None:
    """Hydra's completion of a command line, which knows neither our commands nor our flags."""
    name, *words = os.environ.get("COMP_LINE", "").split(" ")
    words = [word for word in words if word not in VERBOSE]
    for flag in {"--config-dir", "-cd"} & set(words[:-2]):
        sys.argv += [flag, words[words.index(flag) + 1]]
    if len(words) == 1:
        print(*(command for command in COMMANDS if command.startswith(words[0])))
    elif words[0] in COMMANDS and words[0] != "compare":
        return  # the shell itself completes folders
    elif words[0] == "compare":
        words = words[1:]
        sys.argv += ["--config-name", "compare"]
    os.environ["COMP_LINE"] = " ".join([name, *words])
    _run()


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    """End the process with one line for an error: 2 for a wrong configuration, 1 for a failed run."""
    try:
        yield
    except (*USER_ERRORS, OSError, RoundFailed) as error:
        line, code = _told(error)
        made = HydraConfig.initialized() and OmegaConf.select(HydraConfig.get(), "runtime.output_dir")  # type: ignore[arg-type]
        if code == WRONG and made:
            leave_nothing(Path(made))
        _fail(line, code)
    except KeyboardInterrupt as stopped:
        _fail(f"interrupted {stopped}" if str(stopped) else "interrupted", interruption.EXIT_CODE)


def _told(error: Exception) -> tuple[str, int]:
    """An error in a line, and the exit code: 2 for a wrong configuration, 1 for a failed run."""
    if isinstance(error, BrokenPipeError):  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, USER_ERRORS):
        return explained(error), WRONG
    if isinstance(error, OSError):  # a folder that cannot be written, a full disk
        return f"{error.strerror or error}: {error.filename or 'no file named'}", FAILED
    return str(error), FAILED


def _fail(line: str, code: int) -> NoReturn:
    """End the process with a line."""
    _say(line)
    raise SystemExit(code)


def _say(line: str) -> None:
    """A line on stderr."""
    print(f"fedlaf: error: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
