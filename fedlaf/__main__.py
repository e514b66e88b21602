"""The entry: compose the configuration, make a plan, run it, say where the report is."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fedlaf.core.errors import RoundFailed, require
from fedlaf.experiment import config as configuration
from fedlaf.experiment.config_errors import USER_ERRORS, explained, groups_not_null
from fedlaf.experiment.run_folder import leave_nothing

VERBOSE = {"-v", "--verbose"}

BOARD = """fedlaf board FOLDER

Writes FOLDER/board.html: one page over all runs, multiruns and comparisons in
the folder, to list, filter, sort and compare them, with a link to each report.

  fedlaf board outputs
  fedlaf board multirun"""

OUTPUT = "runtime.output_dir"

COMMANDS = ("compare", "board")
"""Words that are no configuration of a run."""


def main() -> None:
    """The console script: exit code 2 and one line for a wrong configuration, 1 for a failed run."""
    configuration.register()
    verbose = bool(VERBOSE & set(sys.argv[1:]))
    given = sys.argv[1:] = [word for word in sys.argv[1:] if word not in VERBOSE]
    asked = [key for key in given if key not in ("-m", "--multirun")]
    runner = len(asked) < len(given) and any(key.startswith(("runner=", "runner.")) for key in asked)
    with _explaining():
        if given[:1] == ["compare"]:
            _compare(given[1:], verbose)
        elif given[:1] == ["board"]:
            _board(given[1:])
        elif runner:
            _multirun(asked)
        elif any(word.startswith("query=") for word in given):
            _complete()
        else:
            _run(verbose)


def _run(verbose: bool = False) -> None:
    """Hydra's application: from the composed configuration to the report's files.

    A job's mean distance to the retrained model is its value for sweepers.
    """

    @hydra.main(version_base="1.3", config_path="pkg://fedlaf.conf", config_name="config")
    def run(config: DictConfig) -> float | None:
        # Hydra prints a page for exceptions that reach it, but lets SystemExit pass.
        with _explaining():
            return _job(config, verbose)

    # Without it Hydra would print its own page for a wrong override, and exit with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    with groups_not_null(sys.argv[1:]):
        run()


def _job(config: DictConfig, verbose: bool) -> float | None:
    from fedlaf import report
    from fedlaf.experiment.api import execute, unless_stopped
    from fedlaf.experiment.plan import prepare

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    plan = prepare(config, hydra_config.runtime.choices.get("forget") or "")
    command = shlex.join(["fedlaf", *hydra_config.overrides.task])
    many = hydra_config.mode == RunMode.MULTIRUN
    with report.log_to(folder / report.LOG_FILE) as screen:
        finished = execute(plan, folder, command, multirun=many, screen=screen)
    if many and not verbose:
        report.tell_briefly(finished, folder)
    else:
        report.tell(finished, folder, verbose=verbose)
    unless_stopped(finished)
    return finished.results[-1].measure("gap", "unlearned") if finished.results else None


def _compare(words: list[str], verbose: bool) -> None:
    from fedlaf.experiment.comparison import compare, shown, usage

    flags = {"--help", "-h", "--cfg", "-c", "job"} & set(words)
    overrides = [word for word in words if word not in flags]
    if flags & {"--help", "-h"}:
        print(usage(overrides))
    elif flags & {"--cfg", "-c"}:
        print(shown(overrides))
    else:
        print(compare(overrides, in_brief=not verbose))


def _multirun(overrides: list[str]) -> None:
    from fedlaf.experiment.comparison import multirun

    print(multirun(overrides))


def _board(arguments: list[str]) -> None:
    from fedlaf import report

    if {"--help", "-h"} & set(arguments):
        print(BOARD)
        return
    require(len(arguments) == 1, "board", "one folder", " ".join(arguments))
    path = Path(arguments[0]) / "board.html"
    report.replace(path, report.board_page(path.parent))
    print(path)


def _complete() -> None:
    """Hydra's completion of a command line, which knows neither our commands nor our flags."""
    name, *words = os.environ.get("COMP_LINE", "").split(" ")
    words = [word for word in words if word not in VERBOSE]
    for flag in {"--config-dir", "-cd"} & set(words[:-2]):
        sys.argv += [flag, words[words.index(flag) + 1]]
    if len(words) == 1:
        print(*(command for command in COMMANDS if command.startswith(words[0])))
    elif words[:1] == ["board"]:
        return  # the shell itself completes folders
    elif words[:1] == ["compare"]:
        words = words[1:]
        sys.argv += ["--config-name", "compare"]
    os.environ["COMP_LINE"] = " ".join([name, *words])
    _run()


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except USER_ERRORS as error:
        made = HydraConfig.initialized() and OmegaConf.select(HydraConfig.get(), OUTPUT)  # type: ignore[arg-type]
        if made:
            leave_nothing(Path(made))
        _fail(explained(error), 2)
    except OSError as error:  # a folder that cannot be written, a full disk
        _fail(f"{error.strerror or error}: {error.filename or 'no file named'}", 1)
    except RoundFailed as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted; finished stages are kept, resume= takes them up", 130)


def _fail(line: str, code: int) -> NoReturn:
    print(f"fedlaf: error: {line}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
