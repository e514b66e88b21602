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
from fedlaf.experiment import pipeline
from fedlaf.experiment.comparison.plan import Run, job
from fedlaf.experiment.config import plain
from fedlaf.experiment.config_errors import USER_ERRORS, explained
from fedlaf.experiment.plan import prepare
from fedlaf.experiment.tracked import tracked

REPORT = "report.json"


@dataclass(frozen=True)
class Done:
    """What became of a run: its report, or why there is none; and its files, if it was made elsewhere."""

    run: Run
    report: dict[str, Any] | None
    error: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


Submit = Callable[[Run, DictConfig], "Future[Done]"]


class Runner(Protocol):
    """Where runs are made: a context that takes them; InvalidValue is raised for one that it cannot make."""

    def started(self) -> AbstractContextManager[Submit]:
        """Begin; what is running when the context ends may be given up."""


def run_all(
    first: Sequence[Run], later: Callable[[Run], Sequence[Run]], runner: Runner,
    ended: Callable[[Done], None], say: Callable[[str], None],
) -> list[Done]:  # fmt: skip
    """The first runs, then those that are `later` than each. `ended` is told of each run as it ends.

    What cannot be run is part of the result, not an error. `say` is told what lies in the way of a run.
    """
    found = []
    with runner.started() as submit:
        for done in _as_they_end(first, later, submit, say):
            ended(done)
            found.append(done)
    return found


def _as_they_end(
    first: Sequence[Run], later: Callable[[Run], Sequence[Run]], submit: Submit, say: Callable[[str], None]
) -> Iterator[Done]:  # fmt: skip
    ready: deque[Done] = deque()
    running: dict[Future[Done], Run] = {}
    coming = deque(first)
    while coming or ready or running:
        while coming:
            run = coming.popleft()
            config = job(run)
            kept = finished(run, plain(config), say)
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
            yield from (Done(run, None, f"its training: {done.error}") for run in later(done.run))
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
    return replace(done, files={})


def made(run: Run, config: DictConfig, folder: Path | None = None, training: Path | None = None) -> Done:
    """Make the run and write its report; `folder` and `training` say where they are if not at home."""
    at, after = folder or run.folder, training or run.after
    config.resume = str(after) if after else config.resume
    choice = next(key.removeprefix("forget=") for key in run.overrides[::-1] if key.startswith("forget="))
    command = shlex.join(["fedlaf", *run.overrides])
    try:
        plan = prepare(config, choice)
        # What a single run has to tell would drown what the comparison does: it is in the run's own log.
        watch = report.StageProgress(report.Lines())
        with report.log_to(at / report.LOG_FILE, errors=False), tracked(plan, at, watch, command) as tracking:
            finished = pipeline.run(plan, at, tracking)
            at_home = {**finished.config, **({"resume": str(run.after)} if run.after else {})}
            tracking.finish(replace(finished, config=at_home, command=command), at)
    except USER_ERRORS as error:
        return Done(run, None, explained(error))
    except RoundFailed as error:
        return Done(run, None, str(error))
    except Exception as error:  # one faulty method must not take the others along
        return Done(run, None, _line(error))
    kept = json.loads((at / REPORT).read_text())
    return Done(run, kept, _stopped(kept))


def finished(
    run: Run, config: Mapping[str, Any], say: Callable[[str], None] = lambda _: None
) -> dict[str, Any] | None:
    """The report that an earlier comparison left in the run's folder, if it is of the same configuration.

    Anything else that lies there is ignored, and `say` is told so.
    """
    path = run.folder / REPORT
    if not path.exists():
        return None
    wanted = json.loads(json.dumps({**config, "resume": None}))
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
        if {**kept["config"], "resume": None} == wanted and isinstance(kept["requests"], list):
            return kept
    except (OSError, ValueError, TypeError, KeyError):
        pass
    say(f"{path}: not of this configuration, made again")
    return None


def save(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files (contents by path from `folder`): each whole or not there, the report last."""
    for name in sorted(files, key=lambda name: name == REPORT):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".part")
        draft.write_bytes(files[name])
        draft.replace(path)


def _stopped(kept: dict[str, Any]) -> str:
    """Why the method stopped its request, if it did."""
    last = kept["requests"][-1] if kept["requests"] else None
    return f"stopped: {last['findings'][-1]['message']}" if last and last["stopped"] else ""


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
