"""What runs of every kind share: who takes part, one stage at a time, and what is noted of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from flwr.serverapp import Grid

from fedlaf.core.cost import Cost
from fedlaf.core.errors import RoundFailed
from fedlaf.core.request_record import RequestStatus
from fedlaf.core.seeding import seed_for
from fedlaf.core.types import Weights
from fedlaf.core.weights import weights_digest
from fedlaf.experiment import client_states, erasure, saved_results
from fedlaf.experiment.checkpoints import NO_HISTORY, CheckpointStore, StageFingerprint, StageKind
from fedlaf.experiment.curve import Curve, Followed
from fedlaf.experiment.fingerprints import saved_digest, stage_fingerprint
from fedlaf.experiment.judge import REFERENCE
from fedlaf.experiment.ledger import Ledger
from fedlaf.experiment.plan import FEDERATION, Plan
from fedlaf.experiment.provenance import versions
from fedlaf.experiment.request_records import of_failure
from fedlaf.experiment.stage_run import StageRun
from fedlaf.experiment.withdrawals import Refused, Withdrawals
from fedlaf.method.answers import Answers
from fedlaf.method.contract import ClientRegistry, Method, RoundRecord, Stage, StageResult
from fedlaf.method.update_history import HistoryHandle, HistorySpec
from fedlaf.protocol.enrolment import check_rows, enrol
from fedlaf.protocol.row_counts import TaggedGrid
from fedlaf.protocol.withdrawal import WithdrawalGuard
from fedlaf.report import Point, Report, RequestResult, RequestView, Watch


@dataclass
class StagedRun:
    """One run in progress. `withdrawals` are the clients that nobody may ask again; `current` is the stage
    whose weights the next one starts from, `taken_up` the last stage, where an earlier process finished it.
    """

    plan: Plan
    grid: Grid
    store: CheckpointStore
    watch: Watch
    curves: list[Point] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    histories: list[HistoryHandle] = field(default_factory=list)
    records: dict[str, tuple[RoundRecord, ...]] = field(default_factory=dict)
    current: str = ""
    taken_up: str = ""
    withdrawals: Withdrawals = field(init=False)
    guard: WithdrawalGuard = field(init=False)
    ledger: Ledger = field(init=False)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.store.folder.parent

    def enter(self) -> ClientRegistry:
        """Open the ledger and enrol all clients but those that have withdrawn. Raises RoundFailed."""
        plan, clock = self.plan, perf_counter()
        self.withdrawals = self._noted_withdrawals()
        self.grid = self.guard = WithdrawalGuard(self.grid)
        self.guard.withdraw(self.withdrawals.nodes)
        self._open_ledger()
        clients = len(plan.federation)
        # One that came back and withdrew again is known under its first identity too.
        known = {client: held for client, held in self.withdrawals.known.items() if client < clients}
        registry = enrol(self.grid, expected=clients, timeout=plan.timeout, known=known)
        check_rows(registry, plan.federation.sizes)
        self.seconds["enrolment"] = perf_counter() - clock
        return registry

    def _noted_withdrawals(self) -> Withdrawals:
        federation = self.plan.fingerprint(*FEDERATION)
        if self.store.goes_on:
            return Withdrawals.of(self.folder, federation)
        earlier = Withdrawals.of(self.plan.resume, federation) if self.plan.resume else None
        kept = earlier if earlier is not None and earlier.erased else Withdrawals(federation)
        kept.write(self.folder)
        return kept

    def _open_ledger(self) -> None:
        plan = self.plan
        sections = {name: plan.config[name] for name in ("train", "forget")}
        run = {"method": plan.method_name, **sections, "provenance": dict(plan.provenance), "seed": plan.seed}
        private = json.dumps(plan.config, sort_keys=True)
        self.ledger = Ledger.opened(self.folder, plan.ledger, run, private=private, go_on=self.store.goes_on)

    def let_go(self, name: str, registry: ClientRegistry) -> None:
        """The request of a registry is served: clients that withdrew in it are out of reach from now on."""
        nodes = {k: registry.nodes[k] for k in sorted(registry.request.withdrawn)}
        if not set(nodes) <= set(self.withdrawals.clients):
            self.withdrawals = self.withdrawals.joined(nodes, registry, name)
            self.withdrawals.write(self.folder)
        self.guard.withdraw(nodes)
        self.watch.withdrawn(nodes)

    def settled(self, result: RequestResult, registry: ClientRegistry, fingerprint: str) -> RequestResult:
        """The result of a request that was served, noted; with `erase`, what held its influence goes."""
        if result.stopped:
            return result
        # A page draws rows of the clients.
        shown = replace(result, view=RequestView()) if self.plan.erase else result
        saved_results.save(self.store.folder, fingerprint, shown)
        if self.plan.erase:
            self.withdrawals = replace(self.withdrawals, erased=True)
            self.withdrawals.write(self.folder)
            self.erase(result.name, registry)
        return shown

    def served_before(self, name: str, fingerprint: str) -> RequestResult | None:
        """The result of a request that an earlier process of this run has served and measured."""
        return saved_results.load(self.store.folder, name, fingerprint) if self.store.goes_on else None

    def erase(self, name: str, registry: ClientRegistry) -> None:
        """Delete what holds the influence of a request's rows, and note in the ledger what that was."""
        left = {name, name.replace("request", "retrain")}
        references = f"{name.replace('request', REFERENCE)}-"
        before = [stage for stage in self.records if stage not in left and not stage.startswith(references)]
        request, forgetting = registry.request, registry.forget_clients
        stages = erasure.erase(self.store.folder, name, before, request.withdrawn, forgetting)
        self.curves = [replace(point, represented=None) for point in self.curves]
        names = sorted(map(self.ledger.names.of_client, registry.request.withdrawn))
        body = {"request": name, "stages": stages, "stored_updates_of": names}
        if not any(entry.kind == "erased" and entry.body == body for entry in self.ledger.entries):
            self.ledger.append("erased", body)
        if self.store.earlier is not None and self.store.earlier != self.store.folder:
            self.watch.note(f"{name}: {self.store.earlier} is of another run, which this one does not erase")

    @contextmanager
    def telling_of_failure(
        self, name: str, arrives: int, weights: Weights, registry: ClientRegistry
    ) -> Iterator[None]:
        """Let the ledger know of a request that fails or is refused while the context lasts."""
        try:
            yield
        except RoundFailed as error:
            status = RequestStatus.REFUSED if isinstance(error, Refused) else RequestStatus.FAILED
            self.ledger.request(
                of_failure(
                    name, status, arrives, registry.request, before=weights, stage=self.current,
                    method=self.plan.method_name, reason=str(error),
                )
            )  # fmt: skip
            raise

    def _report(self, results: list[RequestResult], spent: Cost) -> Report:
        plan = self.plan
        client_states.only(self.store.folder, "")  # no stage follows
        self.ledger.append("ended", {"late_replies_refused": self.guard.refused})
        shown = {} if plan.erase else plan.partition
        ledger = {"entries": len(self.ledger.entries), "head": self.ledger.head}
        return Report(
            plan.seed, plan.method_name, tuple(results), tuple(self.curves), spent, self.seconds,
            versions(), plan.config, {name: Answers.of(records) for name, records in self.records.items()},
            self.folder, partition=shown, ledger=ledger, provenance=plan.provenance, rounds=self.records,
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
            self._check_possible(name, weights, stage.registry)
            self._restore_states()
            curve = self._curve(name, few, stage.skip, weights)
            run = StageRun(name, rounds, self.store, fingerprint, self.watch, self.plan.checkpoint_every)
            grid = TaggedGrid(self.grid, name)
            found = run.run(grid, method, weights, stage, curve=curve, history=history)
            self.seconds["checkpoints"] = self.seconds.get("checkpoints", 0.0) + run.seconds
            client_states.save(self.store.folder, name, self.guard.private_states())
        result, points = found
        self.store.put(name, fingerprint, result, points)
        if self.store.took_up(name):
            self.taken_up = name
        else:
            client_states.only(self.store.folder, name)
        self.curves += points
        self.records[name] = result.records
        self.seconds[name] = perf_counter() - clock
        return result

    def _check_possible(self, name: str, weights: Weights, registry: ClientRegistry) -> None:
        """Raise RoundFailed for a stage that would touch who has withdrawn, or whose start was erased."""
        self.withdrawals.refuse(name, registry)
        if not weights:
            raise Refused(f"{name} is refused: the model that it starts from was erased with a withdrawal")

    def _restore_states(self) -> None:
        """Let clients have what they had at the end of the last stage that was taken up in this folder."""
        if self.taken_up and self.store.goes_on:
            states = client_states.load(self.store.folder, self.taken_up)
            there = {k: state for k, state in states.items() if k not in self.withdrawals.clients}
            self.guard.restore_states(there)
        self.taken_up = ""

    def _curve(self, name: str, few: Followed | None, skip: int, weights: Weights) -> Curve:
        return Curve(name, self.plan, few, skip, weights)

    def _fingerprint(self, kind: StageKind, stage: Stage, rounds: int, start: Weights) -> StageFingerprint:
        # Weights that were erased have left their hash.
        digest = weights_digest(start) if start else saved_digest(self.store.folder, self.current)
        return stage_fingerprint(self.plan, kind, stage, rounds=rounds, start=digest)
