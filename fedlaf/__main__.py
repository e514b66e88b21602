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
from omegaconf import DictConfig

from fedlaf.core.errors import RoundFailed, require
from fedlaf.experiment import config as configuration
from fedlaf.experiment.config_errors import USER_ERRORS, explained, groups_not_null
from fedlaf.experiment.plan import prepare
from fedlaf.experiment.run_folder import leave_nothing


@hydra.main(version_base="1.3", config_path="pkg://fedlaf.conf", config_name="config")
def run(config: DictConfig) -> float | None:
    """One job: from the composed configuration to the report's files.

    Returns the mean distance to the retrained model, for sweepers.
    """
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
        run()


def _job(config: DictConfig) -> float | None:
    from fedlaf import report
    from fedlaf.experiment.api import execute, unless_stopped

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    plan = prepare(config, hydra_config.runtime.choices.get("forget") or "")
    command = shlex.join(["fedlaf", *hydra_config.overrides.task])
    finished = execute(plan, folder, command, multirun=hydra_config.mode == RunMode.MULTIRUN)
    report.tell(finished, folder)
    unless_stopped(finished)
    return finished.results[-1].measure("gap", "unlearned") if finished.results else None


def _compare(overrides: list[str]) -> None:
    from fedlaf.experiment.comparison import compare, usage

    help_flags = {"--help", "-h"} & set(overrides)
    print(usage([o for o in overrides if o not in help_flags]) if help_flags else compare(overrides))


def _multirun(overrides: list[str]) -> None:
    from fedlaf.experiment.comparison import multirun

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
    if overrides is not None:
        print(compare(overrides))
    else:
        report.tell(api.resume(folder), folder)


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except USER_ERRORS as error:
        if HydraConfig.initialized():
            leave_nothing(Path(HydraConfig.get().runtime.output_dir))
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
