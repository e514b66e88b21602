"""The runs of a comparison: trainings first; what exists is kept, and what fails is reported."""

from __future__ import annotations

import json
import shlex
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig

from fedlaf import report
from fedlaf.core.errors import InvalidValue, RoundFailed
from fedlaf.core.whole_file import whole
from fedlaf.experiment import pipeline
from fedlaf.experiment.comparison.plan import Run, job
from fedlaf.experiment.config import plain
from fedlaf.experiment.config_errors import USER_ERRORS, explained
from fedlaf.experiment.interruption import Interrupted, requested
from fedlaf.experiment.plan import prepare, provenance_of
from fedlaf.experiment.provenance import DEVICE, different
from fedlaf.experiment.round_checkpoints import settle_all
from fedlaf.experiment.run_record import goes_on
from fedlaf.experiment.tracked import tracked

REPORT = "report.json"
NOT_STARTED = "not started: interrupted"


@dataclass(frozen=True)
class Done:
    """What became of a run: its report, or why there is none; and its files, if it was made elsewhere.

    One that was `interrupted` was ended, or not started, because the user asked for it.
    """

    run: Run
    report: dict[str, Any] | None
    error: str = ""
    interrupted: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


Submit = Callable[[Run, DictConfig], "Future[Done]"]


class Runner(Protocol):
    """Where runs are made: a context that takes them; InvalidValue is raised for one that it cannot make."""

    @property
    def elsewhere(self) -> bool:
        """Whether runs are made on other machines, of whatever kind."""

    def started(self) -> AbstractContextManager[Submit]:
        """Begin; what is running when the context ends may be given up."""


def run_all(
    first: Sequence[Run], later: Callable[[Run], Sequence[Run]], runner: Runner,
    ended: Callable[[Done], None], say: Callable[[str], None],
) -> list[Done]:  # fmt: skip
    """The first runs, then those that are `later` than each. `ended` is told of each run as it ends.

    What cannot be run is part of the result, not an error. `say` is told what lies in the way of a run.
    Raises Interrupted when the user wants to end: runs in progress have ended their round, no other was
    started.
    """
    found = []
    with runner.started() as submit:
        for done in _as_they_end(first, later, submit, say, elsewhere=runner.elsewhere):
            ended(done)
            found.append(done)
    if any(done.interrupted for done in found):
        there = [str(done.run.folder) for done in found if done.report]
        raise Interrupted(f"with {len(there)} runs finished: {', '.join(there) or 'none'}")
    return found


def _as_they_end(
    first: Sequence[Run], later: Callable[[Run], Sequence[Run]], submit: Submit, say: Callable[[str], None],
    *, elsewhere: bool,
) -> Iterator[Done]:  # fmt: skip
    ready: deque[Done] = deque()
    running: dict[Future[Done], Run] = {}
    coming = deque(first)
    while coming or ready or running:
        while coming:
            run = coming.popleft()
            if requested():
                ready.append(Done(run, None, NOT_STARTED, interrupted=True))
                continue
            config = job(run)
            kept = finished(run, config, say, elsewhere=elsewhere)
            if kept is None:
                running[submit(run, config)] = run
            else:
                ready.append(Done(run, kept, _stopped(kept)))
        if not ready:
            futures, _ = wait(running, return_when=FIRST_COMPLETED)
            ended = [future for future in running if future in futures]  # in the order of their start
            ready.extend(_result(future, running.pop(future)) for future in ended)
        done = ready.popleft()
        yield done
        if done.run.after is None and done.report is None:
            yield from (
                replace(done, run=run, error=f"its training: {done.error}") for run in later(done.run)
            )
        elif done.run.after is None:
            coming.extend(later(done.run))


def _result(future: Future[Done], run: Run) -> Done:
    try:
        done = future.result()
    except InvalidValue:
        raise
    except Exception as error:  # whatever became of its process or its node
        return Done(run, None, _line(error))
    save(done.files, run.folder)
    if done.report and done.files:  # made elsewhere, from what is here of it
        settle_all(run.folder / "stages")
    return replace(done, files={})


def made(run: Run, config: DictConfig, folder: Path | None = None, training: Path | None = None) -> Done:
    """Make the run and write its report; `folder` and `training` say where they are if not at home."""
    at, after = folder or run.folder, training or run.after
    resume = config.resume
    config.resume = str(after) if after else resume
    choice = next(key.removeprefix("forget=") for key in run.overrides[::-1] if key.startswith("forget="))
    command = shlex.join(["fedlaf", *run.overrides])
    try:
        at.mkdir(parents=True, exist_ok=True)
        plan = prepare(config, choice)
        again = goes_on(at, plan.config, plan.provenance)  # it was begun, and its process has ended
        # What a single run has to tell would drown what the comparison does: it is in the run's own log.
        watch = report.StageProgress(report.Lines())
        with report.log_to(at / report.LOG_FILE, errors=False), tracked(plan, at, watch, command) as tracking:
            finished = pipeline.run(plan, at, tracking, go_on=again)
            at_home = {**finished.config, "resume": str(run.after) if run.after else resume}
            tracking.finish(replace(finished, config=at_home, command=command), at)
    except Interrupted as error:
        return Done(run, None, f"interrupted {error}", interrupted=True)
    except USER_ERRORS as error:
        return Done(run, None, explained(error))
    except RoundFailed as error:
        return Done(run, None, str(error))
    except Exception as error:  # one faulty method must not take the others along
        return Done(run, None, _line(error))
    kept = json.loads((at / REPORT).read_text())
    return Done(run, kept, _stopped(kept))


def finished(
    run: Run, config: DictConfig, say: Callable[[str], None] = lambda _: None, *, elsewhere: bool = False
) -> dict[str, Any] | None:
    """The report that an earlier comparison left in the run's folder, if it is of the same configuration and
    provenance (where runs are made `elsewhere`, of any kind of device).

    Anything else that lies there is made again. `say` is told which of the two, in a line.
    """
    path = run.folder / REPORT
    if not path.exists():
        return None
    why, kept = "not of this configuration", _same_configuration(path, plain(config))
    if kept is not None:
        changed = different(provenance_of(config), kept.get("provenance") or {})
        why = ", ".join(name for name in changed if not (elsewhere and name == DEVICE))
        why = f"changed since: {why}" if why else ""
    say(f"{path}: {f'{why}, made again' if why else 'taken up'}")
    return None if why else kept


def _same_configuration(path: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    wanted = json.loads(json.dumps({**config, "resume": None}))
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
        same = {**kept["config"], "resume": None} == wanted and isinstance(kept["requests"], list)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return kept if same else None


def save(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files (contents by path from `folder`): each whole or not there, the report last."""
    for name in sorted(files, key=lambda name: name == REPORT):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as draft:
            draft.write_bytes(files[name])


def _stopped(kept: dict[str, Any]) -> str:
    """Why the method stopped its request, if it did."""
    last = kept["requests"][-1] if kept["requests"] else None
    return f"stopped: {last['findings'][-1]['message']}" if last and last["stopped"] else ""


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
