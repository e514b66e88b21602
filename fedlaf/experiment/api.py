"""The way in, for the command line and from Python: `fedlaf.run`, `fedlaf.compare`, `fedlaf.load`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from fedlaf import report as reports
from fedlaf.client.device import numerics
from fedlaf.client.runtime import device_of
from fedlaf.core.errors import InvalidValue, RoundFailed, require
from fedlaf.experiment import config as configuration
from fedlaf.experiment import pipeline
from fedlaf.experiment.config_errors import USER_ERRORS, InvalidConfiguration, explained, groups_not_null
from fedlaf.experiment.objects import with_objects
from fedlaf.experiment.plan import Plan, prepare
from fedlaf.experiment.run_folder import clear, leave_nothing, note
from fedlaf.experiment.run_record import RunRecord
from fedlaf.experiment.tracked import tracked
from fedlaf.report import Report, load

__all__ = ["Comparison", "Report", "compare", "execute", "load", "resume", "run", "unless_stopped"]

KEPT = "finished stages are kept, resume= takes them up"


def run(*overrides: str, folder: str | Path | None = None, **objects: Any) -> Report:
    """One run, described as on the command line; its files go to `folder`, by default where they go there.

    An object that is named like a section of the configuration stands in for it: `data`, `partition`,
    `model`, `train`, `request` or a list of `requests`, `forget`, `engine`, `tracker`, `backdoor`,
    `wrong_labels`, and a list of `measures`. Raises InvalidValue with the command line's text, and
    RoundFailed.
    """
    with _explained(overrides):
        composed, hydra = configuration.composed_with_hydra(overrides)
        chosen = "" if "forget" in objects else hydra.runtime.choices.get("forget") or ""
        plan = prepare(with_objects(composed, objects), chosen)
    place = Path(hydra.run.dir if folder is None else folder).absolute()
    note(place)
    place = _claimed(place) if folder is None else place
    command = "" if objects else shlex.join(["fedlaf", *overrides])
    try:
        return unless_stopped(execute(plan, place, command))
    finally:
        leave_nothing(place)


def resume(folder: str | Path, *, screen: TextIO | None = None, **objects: Any) -> Report:
    """Go on with a run whose process has ended, in its own folder: the same bits as if it had not.

    A finished run is only read. `objects` are those that `run` was given and no file describes. Raises
    InvalidValue for a folder that holds no run or one that another process works on, and RoundFailed.
    Progress is shown on `screen`, by default stderr.
    """
    place = Path(folder)
    record = RunRecord.of(place)
    if (place / "report.json").is_file():
        return load(place)
    with _explained(()):
        missing = [name for name in record.objects() if name not in objects]
        expected = f"the object that the run was made with: fedlaf.resume(folder, {(missing or [''])[0]}=...)"
        require(not missing, (missing or [""])[0], expected, None)
        plan = prepare(with_objects(record.composed(), objects), record.method)
    finished = execute(plan, place, record.command, multirun=record.multirun, go_on=True, screen=screen)
    return unless_stopped(finished)


def execute(
    plan: Plan, folder: Path, command: str = "", *,
    multirun: bool = False, go_on: bool = False, screen: TextIO | None = None,
) -> Report:  # fmt: skip
    """Run a plan and write its files, which name the `command` that makes them again; with `multirun`, held
    against the runs beside its folder; with `go_on`, as the run that was begun there. Progress is shown on
    `screen`, by default stderr.

    Raises RoundFailed.
    """
    clear(folder)
    # As in every worker: the same bits on any engine, and in a second run of this process.
    here = numerics(device_of(plan.spec), deterministic=plan.spec.deterministic)
    with reports.watching(screen) as watch, tracked(plan, folder, watch, command) as tracking:
        try:
            with here:
                finished = pipeline.run(
                    plan, folder, tracking, command=command, multirun=multirun, go_on=go_on
                )
        except RoundFailed as error:
            raise RoundFailed(f"{error}; {KEPT}; goes on with: fedlaf resume {folder}") from error
        if multirun:
            finished = reports.compared(finished, folder)
        finished = replace(finished, command=command)
        tracking.finish(finished, folder)
    return finished


def unless_stopped(report: Report) -> Report:
    """The report. Raises RoundFailed where a method stopped its request: the files are there even so."""
    if report.stopped is not None:
        raise RoundFailed(f"{report.stopped}; {KEPT}")
    return report


@dataclass(frozen=True)
class Comparison:
    """A comparison's table as Markdown, a row a method, its files' folder, and those of its runs."""

    text: str
    rows: tuple[Mapping[str, Any], ...]
    folder: Path
    runs: tuple[Path, ...]

    @property
    def reports(self) -> list[Report]:
        """The reports of the runs that did not fail."""
        return [load(run) for run in self.runs if (run / "report.json").is_file()]

    def to_records(self) -> list[dict[str, Any]]:
        """The rows, flat, for pandas or polars: `gap_mean`, `gap_half`, `apart_accuracy_test_mean` ..."""
        return [_flat(row) for row in self.rows]


def compare(*overrides: str) -> Comparison:
    """Many methods against one retrained model, as `fedlaf compare` does it.

    Raises InvalidValue with the command line's text, and RoundFailed.
    """
    from fedlaf.experiment import comparison
    from fedlaf.experiment.comparison import plan

    with _explained(overrides):
        text = comparison.compare(overrides)
        made = plan.Comparison.of(configuration.composed(overrides, "compare"))
    folder = made.folder / made.name
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    runs = tuple(run.folder for base in made.bases() for run in (base, *made.runs(base)))
    return Comparison(text, tuple(rows), folder, runs)


@contextmanager
def _explained(overrides: Sequence[str]) -> Iterator[None]:
    try:
        with groups_not_null(overrides):
            yield
    except InvalidValue:
        raise
    except USER_ERRORS as error:
        raise InvalidConfiguration(explained(error)) from error


def _claimed(folder: Path) -> Path:
    """A new folder of that name: two runs may begin in the same second."""
    for number in count(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            continue
        return place
    raise AssertionError


def _flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= _flat(value, f"{before}{name}_") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return flat
