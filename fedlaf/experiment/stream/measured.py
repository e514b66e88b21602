"""What is measured of a run over a stream: after each service a little, at prefixes and at the end all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from fedlaf.client.runtime import measured_model
from fedlaf.core.cost import Cost, total
from fedlaf.core.request import ForgetRequest
from fedlaf.core.stream import BatchOutcome
from fedlaf.core.types import Weights
from fedlaf.core.weights import weights_digest
from fedlaf.evaluation import EvaluationSplits, predict, splits_for
from fedlaf.evaluation.fairness import accuracy_by_client, fairness
from fedlaf.evaluation.guards import guards
from fedlaf.evaluation.persistence import Sighting
from fedlaf.experiment.checkpoints import StageFingerprint
from fedlaf.experiment.judge import RETRAINED, Judge
from fedlaf.experiment.stream.quality import FEW, accuracy_on, few_of_test, model_of
from fedlaf.experiment.stream.run import StreamRun
from fedlaf.experiment.stream.state import Pending
from fedlaf.method.contract import ClientRegistry, Finding, StageResult
from fedlaf.report import RequestResult
from fedlaf.report.stream import Prefix


@dataclass
class MeasuredRun(StreamRun):
    """The measures of a run over a stream."""

    prefixes: list[Prefix] = field(default_factory=list)
    sightings: dict[str, list[Sighting]] = field(default_factory=dict)
    digests: dict[str, tuple[str, str]] = field(default_factory=dict)
    original: dict[str, str] = field(default_factory=dict)
    left: list[int] = field(default_factory=list)
    _reference: tuple[object, StageResult] | None = None

    def guarded(self, name: str, batch: Sequence[Pending], before: Weights, after: Weights) -> list[Finding]:
        """What is wrong with a result, whatever the method; how long that took is in `seconds`."""
        clock = perf_counter()
        splits = self._splits(batch).some(self.plan.most_rows)
        network = measured_model(self.plan.spec)
        seen = [predict(network, weights, splits) for weights in (before, after)]
        found = list(guards(before, after, seen[0], seen[1], splits))
        self.seconds[f"{name}, check"] = perf_counter() - clock
        return found

    def measured(self, batch: Sequence[Pending], outcome: BatchOutcome, before: Weights) -> dict[str, float]:
        """Accuracies before and after a batch; at a prefix the models are judged too."""
        few = few_of_test(self.plan.federation, FEW)
        rows = {p.request.id: self.roll.meant_rows(p.request) for p in batch}
        found = {}
        for name, weights in (("before", before), ("after", self.weights)):
            model = model_of(self.plan, weights)
            found[f"test_{name}"] = accuracy_on(model, few)
            on = {of: accuracy_on(model, some) for of, some in rows.items()}
            sizes = [len(some) for some in rows.values()]
            found[f"forget_{name}"] = sum(a * n for a, n in zip(on.values(), sizes, strict=True)) / sum(sizes)
        done = len(self.state.served)
        if any(done < number <= done + len(batch) for number in self.stream.prefixes):
            self._at_prefix(batch, outcome, before, done + len(batch))
        else:
            for of, accuracy in on.items():
                self.sightings[of] = [Sighting(outcome.round, outcome.completed, accuracy)]
        return found

    def end(self) -> None:
        """The model at the end against the one retrained to the end, if anything was to be forgotten."""
        registry = self.roll.registry
        if not registry.removed.rows:
            return
        retrained = self.reference("retrain-end", registry)
        removed = ForgetRequest(registry.removed.rows, registry.removed.withdrawn)
        splits = splits_for(self.roll.federation, removed, ForgetRequest())
        models = {"unlearned": self.weights, RETRAINED: retrained.weights}
        models |= self._retrain_from_other_seeds("request-end", registry, self.state.round)
        judge = Judge(self.plan, self.store, "request-end", splits)
        judged = judge.judge(models)
        spent = total(Cost.of(dict(batch.cost)) for batch in self.state.batches)
        costs = {"unlearned": spent, RETRAINED: retrained.cost}
        self.results.append(RequestResult(
            "end", self.state.round, (), 0, (), judged.models, costs,
            spread=judged.spread.mean, verdict=judged.verdict,
            stages={"unlearned": self.current, RETRAINED: "retrain-end"}, view=judged.view,
        ))  # fmt: skip
        self._note_prefix(judge, len(self.state.resolved), self.state.elapsed, None)
        self._sight([], self.weights, retrained.weights, self.state.round, self.state.elapsed)

    def reference(self, name: str, registry: ClientRegistry) -> StageResult:
        """The model retrained to the present round on the registry's rows; the last one is not made twice."""
        key = (self.state.round, registry.removed, tuple(registry.sizes))
        if self._reference is None or self._reference[0] != key:
            self._reference = key, self._retrain(name, registry, self.state.round, None)
        else:
            self.keep(name, self._reference[1].weights)
        return self._reference[1]

    def _at_prefix(
        self, batch: Sequence[Pending], outcome: BatchOutcome, before: Weights, number: int
    ) -> None:
        """Judge the model after the batch against the one retrained without all that is gone by then."""
        name, asked = outcome.stage, self.roll.asked(batch).request
        left = self.roll.without(batch)
        retrained = self.reference(name.replace("request", "retrain"), left)
        judge = Judge(self.plan, self.store, name, self._splits(batch), asked.clients)
        models = {"original": before, "unlearned": self.weights, RETRAINED: retrained.weights}
        models |= self._retrain_from_other_seeds(name, left, self.state.round)
        judged = judge.judge(models)
        saved = {"original": self.state.weights, "unlearned": self.current}
        self.results.append(RequestResult(
            name, self.state.round, asked.clients, sum(map(len, asked.rows.values())),
            tuple(sorted(asked.withdrawn)), judged.models,
            {"unlearned": Cost.of(dict(outcome.cost)), RETRAINED: retrained.cost},
            spread=judged.spread.mean, verdict=judged.verdict,
            stages={**saved, RETRAINED: name.replace("request", "retrain")}, view=judged.view,
        ))  # fmt: skip
        test = judged.models["original"].measures["accuracy_test"]
        self._note_prefix(judge, number, outcome.completed, test)
        self._sight(batch, self.weights, retrained.weights, outcome.round, outcome.completed)

    def _note_prefix(self, judge: Judge, requests: int, elapsed: int, before: float | None) -> None:
        result = self.results[-1]
        owners, labels = judge.splits.owners["retain"], judge.splits.retain.y.numpy()
        by_client: dict[str, Mapping[int, float]] = {
            model: accuracy_by_client(judge.seen[model].retain, labels, owners)
            for model in ("unlearned", RETRAINED)
        }
        ours, theirs = by_client["unlearned"], by_client[RETRAINED]
        test = {model: result.models[model].measures["accuracy_test"] for model in by_client}
        self.prefixes.append(Prefix(
            requests, result.name, result.round, elapsed, test["unlearned"], test[RETRAINED],
            result.measure("gap", "unlearned") or 0.0, before, fairness(ours, theirs),
            {k: (ours[k], theirs[k]) for k in ours},
        ))  # fmt: skip

    def _sight(
        self, batch: Sequence[Pending], ours: Weights, theirs: Weights, round_: int, elapsed: int
    ) -> None:
        """See how both models do on the rows of all requests served so far."""
        served = [outcome.request for outcome in self.state.served] + [p.request for p in batch]
        rows = {request.id: self.roll.meant_rows(request) for request in served}
        model = model_of(self.plan, ours)
        own = {name: accuracy_on(model, some) for name, some in rows.items()}
        model = model_of(self.plan, theirs)
        for name, some in rows.items():
            seen = Sighting(round_, elapsed, own[name], accuracy_on(model, some))
            self.sightings.setdefault(name, []).append(seen)

    def _splits(self, batch: Sequence[Pending]) -> EvaluationSplits:
        return splits_for(self.roll.federation, self.roll.asked(batch).request, self.roll.gone)

    def keep(self, name: str, weights: Weights) -> None:
        """Save weights that no stage of that name made."""
        print_ = self.plan.fingerprint(weights=weights_digest(weights))
        self.store.put(name, StageFingerprint(print_, print_), StageResult(weights, Cost(), ()), [])
