"""The story: enrol, train, serve each request, retrain without its rows, measure, report."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from time import perf_counter

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedlaf import __version__
from fedlaf.client import make_client_app
from fedlaf.core.cost import Cost
from fedlaf.core.memory import Peak
from fedlaf.core.request import ForgetRequest
from fedlaf.core.seeding import seed_for
from fedlaf.core.types import Weights
from fedlaf.evaluation import Subjects, subjects_of
from fedlaf.experiment.checkpoints import NOTHING, MadeFrom, Shelf
from fedlaf.experiment.curve import Curve
from fedlaf.experiment.judge import Judge
from fedlaf.experiment.needs import given_to
from fedlaf.experiment.plan import FEDERATION, Plan
from fedlaf.method.contract import (
    Outcome,
    RequestStopped,
    Roster,
    RoundRecord,
    Runnable,
    Stage,
    asked,
    failures,
)
from fedlaf.method.update_history import Keep, Kept
from fedlaf.protocol.enrolment import check_rows, enrol
from fedlaf.protocol.row_counts import Noted
from fedlaf.report import Point, Report, Served, Watch

LIBRARIES = ("flwr", "ray", "torch", "numpy")


def run(plan: Plan, folder: Path, watch: Watch) -> Report:
    """Run the plan on its engine; each stage's result is saved in `folder` as it comes.

    Raises RoundFailed when clients fail; what was finished before is then in `folder`.
    """
    told: list[Report] = []
    clock = perf_counter()
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        told.append(Story(plan, grid, Shelf(folder, plan.resume), watch).tell())

    plan.engine.run(server, make_client_app(plan.spec), len(plan.federation))
    seconds = {**told[0].seconds, "total": perf_counter() - clock}
    return replace(told[0], seconds=seconds)


@dataclass
class Story:
    """One run in progress."""

    plan: Plan
    grid: Grid
    shelf: Shelf
    watch: Watch
    curves: list[Point] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)

    def tell(self) -> Report:
        """Everything, in order."""
        plan = self.plan
        clock = perf_counter()
        roster = enrol(self.grid, expected=len(plan.federation), timeout=plan.timeout)
        check_rows(roster, plan.federation.sizes)
        self.seconds["enrolment"] = perf_counter() - clock
        served: list[Served] = []
        weights, done, spent = self.start(), 0, Cost()
        for number, (arrives, request) in enumerate(plan.schedule, 1):
            trained = self.train(weights, roster, done, arrives)
            asking = replace(roster, request=request, trained=arrives)
            last = number == len(plan.schedule)
            name = f"request-{number}"
            answer, weights = self.serve(name, arrives, trained.weights, asking, last)
            served.append(answer)
            done, spent = arrives, spent + trained.cost
            if answer.stopped:
                return self._report(served, spent)
            gone = roster.gone.joined(request, roster.sizes)
            roster = replace(roster, gone=gone)
        if done < plan.train.rounds:
            trained = self.train(weights, roster, done, plan.train.rounds)
            spent += trained.cost
            if plan.schedule:
                served.append(self.afterwards(trained.weights, roster))
        return self._report(served, spent)

    def _report(self, served: list[Served], spent: Cost) -> Report:
        plan = self.plan
        versions = {"fedlaf": __version__, "python": python_version()}
        versions |= {name: version(name) for name in LIBRARIES}
        return Report(
            plan.seed, plan.method_name, tuple(served), tuple(self.curves), spent, self.seconds,
            versions, plan.config,
        )  # fmt: skip

    def start(self, seed: int | None = None) -> Weights:
        """The initial weights: a function of the seed alone, shared by training and retraining."""
        named = seed_for(self.plan.seed if seed is None else seed, "initial weights")
        return {k: v.numpy().copy() for k, v in self.plan.fresh(named).state_dict().items()}

    def train(self, weights: Weights, roster: Roster, done: int, until: int) -> Outcome:
        """Train from round `done` to `until` on all rows that are not gone."""
        if 0 < done == until:  # several requests after the same round
            return Outcome(weights, Cost(), ())
        name = "train" if done == 0 else f"train-from-{done}"
        subjects = self._curve_subjects(roster, until)
        stage = Stage("train", self.plan.seed, roster, skip=done, timeout=self.plan.timeout)
        keep = self.plan.keep if any(at >= until for at, _ in self.plan.schedule) else NOTHING
        trained = self._stage(name, self.plan.train.until(until), weights, stage, subjects, keep=keep)
        self.kept += [trained.kept] if trained.kept else []
        return trained

    def serve(
        self, name: str, arrives: int, original: Weights, roster: Roster, last: bool
    ) -> tuple[Served, Weights]:
        """Forget the roster's request, retrain without its rows, and compare; the report of it and
        the weights to go on with. A request that its method stops leaves the weights as they were.
        """
        subjects = subjects_of(self.plan.federation, roster.request, roster.gone)
        few = subjects.some(self.plan.curve_rows) if self.plan.curve_rows else None
        given = given_to(self.plan.method, roster, self.kept, self.start, spec=self.plan.spec)
        stage = Stage(name, self.plan.seed, roster, timeout=self.plan.timeout, given=given)
        try:
            forgotten, stopped = self._stage(name, self.plan.method, original, stage, few), False
            self.watch.withdrawn({k: roster.nodes[k] for k in sorted(roster.request.withdrawn)})
        except RequestStopped as error:
            forgotten, stopped = error.outcome, True
        models = {"original": original, "unlearned": forgotten.weights}
        costs, took_part = {"unlearned": forgotten.cost}, {"unlearned": asked(forgotten.records)}
        if not stopped and (last or self.plan.reference == "each"):
            left = roster.served
            retrained = self._retrain(name.replace("request", "retrain"), left, arrives, few)
            models["retrained"], costs["retrained"] = retrained.weights, retrained.cost
            took_part["retrained"] = asked(retrained.records)
            models |= self._retrained_again(name, left, arrives)
        found = Judge(self.plan, self.shelf, name, subjects).judged(models)
        request = roster.request
        rows = sum(len(request.of(k)) for k in request.clients)
        answer = Served(
            name, arrives, request.clients, rows, tuple(sorted(request.withdrawn)),
            found.models, costs, failures(forgotten.records), forgotten.findings, stopped,
            found.between.mean, found.verdict, took_part,
        )  # fmt: skip
        return answer, forgotten.weights

    def afterwards(self, weights: Weights, roster: Roster) -> Served:
        """The model trained to the end, against the one retrained to the end."""
        last = ForgetRequest(roster.gone.rows, roster.gone.withdrawn)
        subjects = subjects_of(self.plan.federation, last, ForgetRequest())
        rounds = self.plan.train.rounds
        retrained = self._retrain("retrain-end", roster, rounds, None)
        models = {"unlearned": weights, "retrained": retrained.weights}
        models |= self._retrained_again("request-end", roster, rounds)
        found = Judge(self.plan, self.shelf, "request-end", subjects).judged(models)
        between, verdict = found.between.mean, found.verdict
        return Served("end", rounds, (), 0, (), found.models, {}, yardstick=between, verdict=verdict)

    def _retrain(self, name: str, roster: Roster, until: int, few: Subjects | None) -> Outcome:
        stage = Stage("train", self.plan.seed, roster, timeout=self.plan.timeout)
        return self._stage(name, self.plan.train.until(until), self.start(), stage, few)

    def _retrained_again(self, name: str, roster: Roster, until: int) -> dict[str, Weights]:
        """Retrained from other seeds, on the same rows: the yardstick of all distances."""
        found = {}
        for again in range(1, self.plan.yardstick + 1):
            seed = seed_for(self.plan.seed, "yardstick", again)
            stage = Stage("train", seed, roster, timeout=self.plan.timeout)
            label = f"{name.replace('request', 'yardstick')}-{again}"
            outcome = self._stage(label, self.plan.train.until(until), self.start(seed), stage, None)
            found[f"yardstick-{again}"] = outcome.weights
        return found

    def _stage(
        self, name: str, method: Runnable, weights: Weights, stage: Stage, few: Subjects | None,
        *, keep: Keep = NOTHING,
    ) -> Outcome:  # fmt: skip
        """One stage: from the shelf when an earlier run finished the same, else run and saved."""
        made_from = self._made_from(name, stage, method.total_rounds(stage.roster))
        found = self.shelf.get(name, made_from, keep)
        clock = perf_counter()
        if found is None:
            curve = Curve(name, self.plan, few, stage.skip, weights)
            rounds = method.total_rounds(stage.roster) - stage.skip
            self.watch.stage(name, rounds)

            def on_round(record: RoundRecord, now: Weights) -> None:
                curve.follow(record, now)
                self.watch.advance(name)

            recorder = self.shelf.recorder(name, keep)
            with Peak() as peak:
                grid = Noted(self.grid, name)
                outcome = method.run(grid, weights, replace(stage, on_round=on_round, recorder=recorder))
            outcome = replace(outcome, cost=outcome.cost + Cost(driver_memory=peak.bytes))
            found = outcome, curve.points
        outcome, points = found
        self.shelf.put(name, made_from, outcome, points)
        self.curves += points
        self.seconds[name] = perf_counter() - clock
        return outcome

    def _made_from(self, name: str, stage: Stage, rounds: int) -> MadeFrom:
        plan, requests = self.plan, ("train", "requests")
        curve = plan.fingerprint(*FEDERATION, *requests, rows=plan.curve_rows)
        if name == "train" or name.startswith(("retrain", "yardstick")):
            # None depends on how rows are forgotten: only on which are gone, on its rounds and its seed.
            gone = {str(k): rows for k, rows in stage.roster.gone.rows.items()}
            other = {} if stage.seed == plan.seed else {"other_seed": stage.seed}
            hashed = plan.fingerprint(*FEDERATION, "train", gone=gone, rounds=rounds, **other)
            return MadeFrom(hashed, curve)
        return MadeFrom(plan.fingerprint(*FEDERATION, *requests, "forget"), curve)

    def _curve_subjects(self, roster: Roster, until: int) -> Subjects | None:
        """Rows to follow training on: those that the next request will ask to forget."""
        coming = [request for at, request in self.plan.schedule if at >= until]
        if not self.plan.curve_rows or not coming:
            return None
        whole = subjects_of(self.plan.federation, coming[0], roster.gone)
        return whole.some(self.plan.curve_rows)
