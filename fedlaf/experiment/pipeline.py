"""A run: enrol, train, serve each request, retrain without its rows, measure, report."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedlaf.client import make_client_app
from fedlaf.core.cost import Cost
from fedlaf.core.memory import Peak
from fedlaf.core.request import ForgetRequest
from fedlaf.core.seeding import seed_for
from fedlaf.core.types import Weights
from fedlaf.evaluation import splits_for
from fedlaf.experiment.checkpoints import NO_HISTORY, CheckpointStore, StageFingerprint, StageKind
from fedlaf.experiment.curve import Curve, Followed
from fedlaf.experiment.fingerprints import stage_fingerprint
from fedlaf.experiment.judge import REFERENCE, Judge
from fedlaf.experiment.needs import inputs_for
from fedlaf.experiment.plan import Plan
from fedlaf.experiment.provenance import versions
from fedlaf.method.answers import Answers, clients_answered
from fedlaf.method.contract import (
    ClientRegistry,
    Method,
    RequestStopped,
    RoundRecord,
    Stage,
    StageResult,
)
from fedlaf.method.update_history import HistoryHandle, HistorySpec
from fedlaf.protocol.enrolment import check_rows, enrol
from fedlaf.protocol.row_counts import TaggedGrid
from fedlaf.report import Point, Report, RequestResult, Watch


def run(plan: Plan, folder: Path, watch: Watch) -> Report:
    """Run the plan on its engine; each stage's result is saved in `folder` as it ends.

    Raises RoundFailed when clients fail; the stages that ended before are then in `folder`.
    """
    reports: list[Report] = []
    clock = perf_counter()
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        from fedlaf.experiment.stream.kind import pipeline_of

        store = CheckpointStore(folder, plan.resume, plan.provenance)
        reports.append(pipeline_of(plan)(plan, grid, store, watch).run())

    plan.engine.run(server, make_client_app(plan.spec), len(plan.federation))
    (report,) = reports
    return replace(report, seconds={**report.seconds, "total": perf_counter() - clock})


@dataclass
class Pipeline:
    """One run in progress."""

    plan: Plan
    grid: Grid
    store: CheckpointStore
    watch: Watch
    curves: list[Point] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    histories: list[HistoryHandle] = field(default_factory=list)
    answers: dict[str, Answers] = field(default_factory=dict)
    current: str = ""  # the stage whose weights the next one starts from

    def run(self) -> Report:
        """Enrol, train, serve each request as it arrives, train to the end. Raises RoundFailed."""
        plan, clock = self.plan, perf_counter()
        registry = enrol(self.grid, expected=len(plan.federation), timeout=plan.timeout)
        check_rows(registry, plan.federation.sizes)
        self.seconds["enrolment"] = perf_counter() - clock
        results: list[RequestResult] = []
        weights, done, spent = self.plan.initial_weights(), 0, Cost()
        for number, (arrives, request) in enumerate(plan.schedule, 1):
            trained = self.train(weights, registry, done, arrives)
            asking = replace(registry, request=request, trained=arrives)
            last = number == len(plan.schedule)
            result, weights = self.serve(f"request-{number}", arrives, trained.weights, asking, last)
            results.append(result)
            done, spent = arrives, spent + trained.cost
            if result.stopped:
                return self._report(results, spent)
            registry = replace(registry, removed=asking.after_request.removed)
        if done < plan.train.rounds:
            trained = self.train(weights, registry, done, plan.train.rounds)
            spent += trained.cost
            if plan.schedule:
                results.append(self.evaluate_end(trained.weights, registry))
        return self._report(results, spent)

    def _report(self, results: list[RequestResult], spent: Cost) -> Report:
        plan = self.plan
        return Report(
            plan.seed, plan.method_name, tuple(results), tuple(self.curves), spent, self.seconds,
            versions(), plan.config, self.answers, self.store.folder.parent, partition=plan.partition,
        )  # fmt: skip

    def train(self, weights: Weights, registry: ClientRegistry, done: int, until: int) -> StageResult:
        """Train from round `done` to round `until` on all rows that are not removed."""
        if 0 < done == until:  # several requests after the same round
            return StageResult(weights, Cost(), ())
        name = "train" if done == 0 else f"train-from-{done}"
        stage = Stage("train", self.plan.seed, registry, skip=done, timeout=self.plan.timeout)
        coming = any(at >= until for at, _ in self.plan.schedule)
        trained = self._stage(
            StageKind.TRAINING, name, self.plan.train.until(until), weights, stage,
            self._curve_splits(registry, until), history=self.plan.history if coming else NO_HISTORY,
        )  # fmt: skip
        self.histories += [trained.history] if trained.history else []
        self.current = name
        return trained

    def serve(
        self, name: str, arrives: int, original: Weights, registry: ClientRegistry, last: bool
    ) -> tuple[RequestResult, Weights]:
        """Forget the registry's request, retrain without its rows, and compare.

        Gives the result and the weights to go on with; a request that its method stops leaves them as they
        were.
        """
        splits = splits_for(self.plan.federation, registry.request, registry.removed)
        few = Followed.of(splits, self.plan.curve_rows)
        inputs = inputs_for(
            self.plan.method, registry, self.histories, self.plan.initial_weights, spec=self.plan.spec
        )
        stage = Stage(name, self.plan.seed, registry, timeout=self.plan.timeout, inputs=inputs, strict=True)
        try:
            unlearned = self._stage(StageKind.FORGETTING, name, self.plan.method, original, stage, few)
            stopped = False
        except RequestStopped as error:
            unlearned, stopped = error.result, True
        judge = Judge(self.plan, self.store, name, splits, registry.request.clients)
        if not stopped:
            unlearned, stopped = judge.guarded(unlearned, original)
        if not stopped:
            self.watch.withdrawn({k: registry.nodes[k] for k in sorted(registry.request.withdrawn)})
        stages = {"unlearned": unlearned}
        references: dict[str, Weights] = {}
        if not stopped and (last or self.plan.reference == "each"):
            left = registry.after_request
            stages["retrained"] = self._retrain(name.replace("request", "retrain"), left, arrives, few)
            references = self._retrain_from_other_seeds(name, left, arrives)
        saved = {"original": self.current, "unlearned": self.current if stopped else name}
        saved |= {"retrained": name.replace("request", "retrain")} if "retrained" in stages else {}
        self.current = saved["unlearned"]
        models = {"original": original, **{model: stage.weights for model, stage in stages.items()}}
        judged = judge.judge(models | references)
        request = registry.request
        result = RequestResult(
            name, arrives, request.clients, sum(len(request.of(k)) for k in request.clients),
            tuple(sorted(request.withdrawn)), judged.models,
            {model: stage.cost for model, stage in stages.items()}, Answers.of(unlearned.records),
            unlearned.findings, stopped, judged.spread.mean, judged.verdict,
            {model: clients_answered(stage.records) for model, stage in stages.items()}, saved, judged.view,
        )  # fmt: skip
        return result, unlearned.weights

    def evaluate_end(self, weights: Weights, registry: ClientRegistry) -> RequestResult:
        """The model trained to the end, against the one retrained to the end."""
        removed = ForgetRequest(registry.removed.rows, registry.removed.withdrawn)
        splits = splits_for(self.plan.federation, removed, ForgetRequest())
        rounds = self.plan.train.rounds
        retrained = self._retrain("retrain-end", registry, rounds, None)
        models = {"unlearned": weights, "retrained": retrained.weights}
        models |= self._retrain_from_other_seeds("request-end", registry, rounds)
        judged = Judge(self.plan, self.store, "request-end", splits).judge(models)
        return RequestResult(
            "end", rounds, (), 0, (), judged.models, {}, spread=judged.spread.mean, verdict=judged.verdict,
            stages={"unlearned": self.current, "retrained": "retrain-end"}, view=judged.view,
        )  # fmt: skip

    def _retrain(
        self, name: str, registry: ClientRegistry, until: int, few: Followed | None,
        seed: int | None = None,
    ) -> StageResult:  # fmt: skip
        """Train from initial weights for `until` rounds, on all rows that are not removed."""
        # Strict: a reference that misses a client is no reference.
        run_seed = self.plan.seed if seed is None else seed
        stage = Stage("train", run_seed, registry, timeout=self.plan.timeout, strict=True)
        method, start = self.plan.train.until(until), self.plan.initial_weights(seed)
        return self._stage(StageKind.TRAINING, name, method, start, stage, few)

    def _retrain_from_other_seeds(
        self, name: str, registry: ClientRegistry, until: int
    ) -> dict[str, Weights]:
        """Models retrained from the reference seeds on the same rows: how far retrainings are apart."""
        models = {}
        for number in range(1, self.plan.reference_seeds + 1):
            seed = seed_for(self.plan.seed, "yardstick", number)
            label = f"{name.replace('request', REFERENCE)}-{number}"
            models[f"{REFERENCE}-{number}"] = self._retrain(label, registry, until, None, seed).weights
        return models

    def _stage(
        self, kind: StageKind, name: str, method: Method, weights: Weights, stage: Stage,
        few: Followed | None, *, history: HistorySpec = NO_HISTORY,
    ) -> StageResult:  # fmt: skip
        """One stage: from the store when an earlier run finished the same, else run and saved."""
        rounds = method.total_rounds(stage.registry)
        fingerprint = self._fingerprint(kind, stage, rounds, weights)
        found = self.store.get(name, fingerprint, history)
        if name in self.store.notes:
            self.watch.note(f"{name}: {self.store.notes[name]}")
        clock = perf_counter()
        if found is None:
            curve = self._curve(name, few, stage.skip, weights)
            self.watch.stage(name, rounds - stage.skip)

            def on_round(record: RoundRecord, now: Weights) -> None:
                curve.follow(record, now)
                self.watch.advance(name)

            writer = self.store.history_writer(name, history)
            with Peak() as peak:
                grid = TaggedGrid(self.grid, name)
                result = method.run(grid, weights, replace(stage, on_round=on_round, history_writer=writer))
            found = replace(result, cost=result.cost + Cost(driver_memory=peak.bytes)), curve.points
        result, points = found
        self.store.put(name, fingerprint, result, points)
        self.curves += points
        self.answers[name] = Answers.of(result.records)
        self.seconds[name] = perf_counter() - clock
        return result

    def _curve(self, name: str, few: Followed | None, skip: int, weights: Weights) -> Curve:
        return Curve(name, self.plan, few, skip, weights)

    def _fingerprint(self, kind: StageKind, stage: Stage, rounds: int, start: Weights) -> StageFingerprint:
        return stage_fingerprint(self.plan, kind, stage, rounds=rounds, start=start)

    def _curve_splits(self, registry: ClientRegistry, until: int) -> Followed | None:
        """Rows to follow training on: those that the next request will ask to forget."""
        coming = [request for at, request in self.plan.schedule if at >= until]
        most = self.plan.curve_rows
        if not most or not coming:
            return None
        return Followed.of(splits_for(self.plan.federation, coming[0], registry.removed), most)
