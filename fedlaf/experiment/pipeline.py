"""A run: enrol, train, serve each request, retrain without its rows, measure, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedlaf.client import make_client_app
from fedlaf.core.cost import Cost
from fedlaf.core.request import ForgetRequest
from fedlaf.core.request_record import RequestRecord
from fedlaf.core.types import Weights
from fedlaf.evaluation import EvaluationSplits, splits_for
from fedlaf.experiment import resurfacing
from fedlaf.experiment.checkpoints import NO_HISTORY, CheckpointStore, StageKind
from fedlaf.experiment.curve import Followed
from fedlaf.experiment.judge import Judge
from fedlaf.experiment.needs import inputs_for
from fedlaf.experiment.plan import Plan
from fedlaf.experiment.request_records import of_result
from fedlaf.experiment.run_record import RunRecord, alone_in
from fedlaf.experiment.staged_run import StagedRun
from fedlaf.method.answers import Answers, clients_answered
from fedlaf.method.contract import (
    ClientRegistry,
    RequestStopped,
    Stage,
    StageResult,
)
from fedlaf.report import Report, RequestResult, Watch


def run(
    plan: Plan, folder: Path, watch: Watch, *, command: str = "", multirun: bool = False, go_on: bool = False
) -> Report:
    """Run the plan on its engine; what it has done is saved in `folder` after each round and stage.

    With `go_on`, it is the run that was begun in `folder`. Raises RoundFailed when clients fail, Interrupted
    when the user wants the run to end: what was saved before is then in `folder`.
    """
    reports: list[Report] = []
    clock = perf_counter()
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        record = RunRecord(plan.config, plan.method_name, command, multirun, dict(plan.provenance))
        reports.append(play(plan, grid, folder, watch, record, go_on=go_on))

    with alone_in(folder):
        plan.engine.run(server, make_client_app(plan.spec), len(plan.federation))
    (report,) = reports
    return replace(report, seconds={**report.seconds, "total": perf_counter() - clock})


def play(
    plan: Plan, grid: Grid, folder: Path, watch: Watch, record: RunRecord, *, go_on: bool = False
) -> Report:
    """Run the plan on a grid that is there, whoever made it; else as `run`."""
    from fedlaf.experiment.stream.kind import pipeline_of

    record.write(folder)
    for limit in plan.limits:
        watch.note(f"{plan.method_name}: {limit}")
    store = CheckpointStore(folder, plan.resume, plan.provenance, goes_on=go_on)
    return pipeline_of(plan)(plan, grid, store, watch).run()


@dataclass
class Pipeline(StagedRun):
    """One run in progress, whose requests are scheduled."""

    def run(self) -> Report:
        """Enrol, train, serve each request as it arrives, train to the end. Raises RoundFailed."""
        plan, registry = self.plan, self.enter()
        results: list[RequestResult] = []
        weights, done, spent = self.plan.initial_weights(), 0, Cost()
        for number, (arrives, request) in enumerate(plan.schedule, 1):
            trained = self.train(weights, registry, done, arrives)
            asking = replace(registry, request=request, trained=arrives)
            last = number == len(plan.schedule)
            with self.telling_of_failure(f"request-{number}", arrives, trained.weights, asking):
                result, weights = self.serve(f"request-{number}", trained.weights, asking, last)
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
        self, name: str, original: Weights, registry: ClientRegistry, last: bool
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
        seeded = self.seeded_as(name)
        stage = Stage(seeded, self.plan.seed, registry, timeout=self.plan.timeout, inputs=inputs, strict=True)
        try:
            unlearned = self._stage(StageKind.FORGETTING, name, self.plan.method, original, stage, few)
            stopped = False
        except RequestStopped as error:
            unlearned, stopped = error.result, True
        of_stage = self._fingerprint(StageKind.FORGETTING, stage, 0, original).weights
        fingerprint = self.plan.fingerprint(
            "evaluation", stage=of_stage, provenance=dict(self.plan.provenance)
        )
        before = None if stopped else self.served_before(name, fingerprint)
        if before is not None:
            return self._taken_up(before, registry, few), unlearned.weights
        judge = Judge(self.plan, self.store, name, splits, registry.request.clients)
        if not stopped:
            unlearned, stopped = judge.guarded(unlearned, original)
        if not stopped:
            self.let_go(name, registry)
        return self._judged(name, original, registry, unlearned, judge, few, last=last, stopped=stopped,
                            fingerprint=fingerprint), unlearned.weights  # fmt: skip

    def seeded_as(self, name: str) -> str:
        """The name that a request's random streams are drawn by."""
        return name

    def note(self, record: RequestRecord) -> None:
        """Let the ledger know of a request that was served or stopped."""
        self.ledger.request(record)

    def _judged(
        self, name: str, original: Weights, registry: ClientRegistry, unlearned: StageResult, judge: Judge,
        few: Followed | None, *, last: bool, stopped: bool, fingerprint: str,
    ) -> RequestResult:  # fmt: skip
        """Retrain without the request's rows, compare, and let the ledger know."""
        stages, references, request = {"unlearned": unlearned}, dict[str, Weights](), registry.request
        arrives, again = registry.trained, name.replace("request", "retrain")
        if not stopped and (last or self.plan.reference == "each"):
            left = registry.after_request
            stages["retrained"] = self._retrain(again, left, arrives, few)
            references = self._retrain_from_other_seeds(name, left, arrives)
        saved = {"original": self.current, "unlearned": self.current if stopped else name}
        saved |= {"retrained": again} if "retrained" in stages else {}
        self.current = saved["unlearned"]
        models = {"original": original, **{model: stage.weights for model, stage in stages.items()}}
        self.watch.measuring(name)
        onward = self._onward(name, models, registry.after_request, arrives, judge.splits)
        noted = resurfacing.noted(stages, onward, registry.after_request.retain_clients)
        judged = judge.judge(models | references, noted)
        result = RequestResult(
            name, arrives, request.clients, sum(len(request.of(k)) for k in request.clients),
            tuple(sorted(request.withdrawn)), judged.models,
            {model: stage.cost for model, stage in stages.items()}, Answers.of(unlearned.records),
            unlearned.findings, stopped, judged.spread.mean, judged.verdict,
            {model: clients_answered(stage.records) for model, stage in stages.items()}, saved, judged.view,
            onward,
        )  # fmt: skip
        self.note(of_result(result, request, original, unlearned, self.plan.method_name))
        return self.settled(result, registry, fingerprint)

    def _onward(
        self, name: str, models: Mapping[str, Weights], left: ClientRegistry, arrives: int,
        splits: EvaluationSplits,
    ) -> dict[str, tuple[float, ...]]:  # fmt: skip
        """Train on from each model of a request without its rows; their distances after each round."""
        rounds, few = self.plan.resurfacing_rounds, Followed.of(splits, self.plan.most_rows)
        if not rounds or "retrained" not in models:
            return {}
        method, points = self.plan.train.until(arrives + rounds), {}
        for model in (model for model in resurfacing.MODELS if model in models):
            stage = Stage("train", self.plan.seed, left, skip=arrives, timeout=self.plan.timeout, strict=True)
            before, label = len(self.curves), resurfacing.stage_name(name, model)
            self._stage(StageKind.TRAINING, label, method, models[model], stage, few)
            points[model] = self.curves[before:]
        return resurfacing.distances(points)

    def _taken_up(
        self, result: RequestResult, registry: ClientRegistry, few: Followed | None
    ) -> RequestResult:
        """The result of a request that an earlier process of this run has served and measured."""
        name, left = result.name, registry.after_request
        self.let_go(name, registry)
        if "retrained" in result.stages:
            self._retrain(result.stages["retrained"], left, result.round, few)
            self._retrain_from_other_seeds(name, left, result.round)
        self.current = result.stages["unlearned"]
        if self.plan.erase:
            self.erase(name, registry)
        return result

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

    def _curve_splits(self, registry: ClientRegistry, until: int) -> Followed | None:
        """Rows to follow training on: those that the next request will ask to forget."""
        coming = [request for at, request in self.plan.schedule if at >= until]
        most = self.plan.curve_rows
        if not most or not coming:
            return None
        return Followed.of(splits_for(self.plan.federation, coming[0], registry.removed), most)
