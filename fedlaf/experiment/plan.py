"""A run before it starts: every value built and checked, so that nothing can be wrong half-way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fedlaf.client import ClientSpec
from fedlaf.client.registry import STEPS, import_steps
from fedlaf.client.runtime import SHIPPED_STEPS, device_of
from fedlaf.core.errors import InvalidValue, require
from fedlaf.core.request import ForgetRequest
from fedlaf.core.seeding import seed_for
from fedlaf.core.types import Shape, Weights
from fedlaf.data.federation import Federation, FederationSpec, build
from fedlaf.data.request_specs import EachClient, schedule
from fedlaf.data.sources import load_once
from fedlaf.evaluation import Gate, MeasureFunction, catalogue_of
from fedlaf.experiment.config import ROOT, made, only_known, plain
from fedlaf.experiment.ledger import LedgerSettings
from fedlaf.experiment.needs import check_model, check_needs, history_spec_for
from fedlaf.experiment.objects import Given
from fedlaf.experiment.provenance import provenance
from fedlaf.experiment.scalars import check_scalars
from fedlaf.method.contract import ClientRegistry, Method, TrainingMethod
from fedlaf.method.update_history import HistorySpec
from fedlaf.models import Classifier
from fedlaf.objectives import Fit
from fedlaf.report import Tracker, partition_view


@dataclass(frozen=True)
class Plan:
    """All that a run is made from. The requests of its schedule are served one after the other or, where they
    are `alternatives`, each from the same model.
    """

    spec: ClientSpec
    federation: Federation
    train: TrainingMethod
    schedule: tuple[tuple[int, ForgetRequest], ...]
    method: Method
    engine: Any
    seed: int
    timeout: float
    curve_rows: int
    reference: str
    asr: str | None
    reference_seeds: int
    most_rows: int
    measures: tuple[MeasureFunction, ...]
    gate: Gate
    method_name: str
    resume: Path | None
    history: HistorySpec
    config: Mapping[str, Any]
    provenance: Mapping[str, str]
    limits: tuple[str, ...] = ()
    checkpoint_every: int = 1
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    erase: bool = False
    tracker: Tracker = field(default_factory=Tracker)
    stream: Any = None
    alternatives: bool = False
    resurfacing_rounds: int = 0

    def fresh(self, seed: int) -> Classifier:
        """A model that has learned nothing, drawn from `seed`."""
        dataset = self.federation.dataset
        return self.spec.model.build(dataset.shape, dataset.num_classes, seed)

    def initial_weights(self, seed: int | None = None) -> Weights:
        """The initial weights: a function of the seed (None: the run's) alone, shared by all trainings."""
        drawn = self.fresh(seed_for(self.seed if seed is None else seed, "initial weights"))
        return {k: v.numpy().copy() for k, v in drawn.state_dict().items()}

    @property
    def partition(self) -> dict[str, Any]:
        """Rows by client and class for the page, the clients of all requests marked."""
        asked = {client for _, request in self.schedule for client in request.clients}
        return partition_view(self.federation.labels, self.federation.dataset.num_classes, asked)

    def fingerprint(self, *sections: str, **more: object) -> str:
        """A hash of those sections of the configuration, and of `more`: what a stage depends on."""
        chosen = {name: self.config[name] for name in sections} | more
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


SECTIONS = ("data", "partition", "model", "train", "forget", "engine")
"""Sections that every run has."""

FEDERATION = (
    "seed", "clients", "server_rows", "data", "partition", "corruption", "model",
    "precision", "deterministic",
)  # fmt: skip
"""Sections that describe the federation, its start and how it computes."""


def prepare(config: DictConfig, method_name: str = "") -> Plan:
    """Build and check everything that the configuration names. Raises InvalidValue, nothing else.

    Data are found (or downloaded) here; nothing is trained and nothing written to the run's folder.
    """
    only_known(config)
    for section in SECTIONS:
        node = OmegaConf.select(config, section)
        there = isinstance(node, Given) or OmegaConf.select(config, f"{section}._target_") is not None
        require(there, section, "a section with its _target_", node)
    check_scalars(config)
    spec = spec_of(config)
    _located(spec.federation.source.prepare, "data")
    federation = _located(lambda: build(spec.federation), "data")
    _located(lambda: spec.model.build(federation.dataset.shape, federation.dataset.num_classes, 0), "model")
    train: TrainingMethod = made(config, "train")
    method: Method = made(config, "forget")
    for section, value in (("train", train), ("forget", method)):
        _check_inputs(value, federation.dataset.shape, section)
    specs = [made(config, f"requests[{i}]") for i in range(len(config.requests))]
    scheduled = _located(lambda: schedule(specs, federation.holdings, train.rounds), "request")
    name = method_name or type(method).__name__
    import_steps(spec.steps)
    alternatives = any(isinstance(spec, EachClient) for spec in specs)
    kept = not (alternatives and config.erase)
    require(kept, "erase", "false where each client leaves in turn", config.erase)
    limits = _check_methods(train, method, scheduled, federation, name, alternatives=alternatives)
    dataset = federation.dataset
    check_model(method, spec.model.build(dataset.shape, dataset.num_classes, 0), name)
    plan = Plan(
        spec, federation, train, scheduled, method, made(config, "engine"), config.seed,
        config.timeout, config.evaluation.curve_rows, config.evaluation.reference,
        config.evaluation.asr, config.evaluation.reference_seeds, config.evaluation.most_rows,
        _measures(config), made(config, "evaluation.gate"),
        name, Path(config.resume) if config.resume else None,
        history_spec_for(method, plain(config)["history"]), plain(config),
        provenance(federation.dataset, plain(config), device_of(spec)), limits,
        config.checkpoints.every, _ledger(config), config.erase, made(config, "tracker"),
        alternatives=alternatives, resurfacing_rounds=config.evaluation.resurfacing_rounds,
    )  # fmt: skip
    return _with_stream(plan, config)


def _with_stream(plan: Plan, config: DictConfig) -> Plan:
    """The plan with the stream of the configuration, where it has one."""
    if OmegaConf.select(config, "stream") is None:
        return plan
    from fedlaf.experiment.stream.planning import with_stream

    return with_stream(plan, made(config, "stream"))


def provenance_of(config: DictConfig) -> dict[str, str]:
    """The provenance that a run of this configuration would have here. Raises InvalidValue."""
    spec = spec_of(config)
    _located(spec.federation.source.prepare, "data")
    dataset = _located(lambda: load_once(spec.federation.source), "data")
    return provenance(dataset, plain(config), device_of(spec))


def _ledger(config: DictConfig) -> LedgerSettings:
    settings = LedgerSettings(config.ledger.signing_key, config.ledger.names_key)
    settings.check()
    return settings


def _measures(config: DictConfig) -> tuple[MeasureFunction, ...]:
    found = {name: made(config, f"evaluation.measure.{name}") for name in config.evaluation.measure}
    for name, function in found.items():
        known = isinstance(function, MeasureFunction)
        require(known, f"evaluation.measure.{name}", "a MeasureFunction", function)
    catalogue_of(tuple(found.values()))  # names that are taken stop here
    return tuple(found.values())


def spec_of(config: DictConfig) -> ClientSpec:
    """What a client must know of the configuration. Raises InvalidValue."""
    federation = FederationSpec(
        made(config, "data"), made(config, "partition"), config.clients, config.seed,
        made(config, "corruption.backdoor"), made(config, "corruption.wrong_labels"),
        config.server_rows,
    )  # fmt: skip
    return ClientSpec(
        federation, made(config, "model"), config.device, config.precision, config.deterministic,
        (*SHIPPED_STEPS, *config.client.steps, *_methods_not_shipped(config)),
    )  # fmt: skip


def _methods_not_shipped(config: DictConfig) -> list[str]:
    """Where methods come from that are not fedlaf's own: their files may hold their client steps too."""
    targets = [OmegaConf.select(config, f"{section}._target_") for section in ("train", "forget")]
    return [target for target in targets if target and not target.startswith("fedlaf.")]


def _check_methods(
    train: TrainingMethod,
    method: Method,
    scheduled: tuple[tuple[int, ForgetRequest], ...],
    federation: Federation,
    name: str,
    *,
    alternatives: bool,
) -> tuple[str, ...]:
    """What the method cannot do for the requests. Raises InvalidValue for what it cannot serve at all."""
    registry, limits = ClientRegistry({}, federation.sizes), []
    _located(lambda: train.check(registry), "train")
    _check_steps(train, registry, "train")
    removed = ForgetRequest()
    for at, request in scheduled:
        asked = ClientRegistry({}, federation.sizes, request, removed, at)
        check_needs(method, asked, name, server_rows=len(federation.on_server()))
        _located(lambda asked=asked: method.check(asked), "forget")  # type: ignore[misc]
        _check_steps(method, asked, "forget")
        limits += [limit.message for limit in method.limits(asked)]
        removed = removed if alternatives else removed.joined(request, federation.sizes)
    return tuple(dict.fromkeys(limits))


def _check_inputs(value: object, shape: Shape, section: str) -> None:
    """Raise InvalidValue for training settings, at any depth of a section, that do not suit the inputs."""
    if isinstance(value, Fit):
        _located(lambda: value.check_inputs(shape), section)
    elif is_dataclass(value):
        for part in fields(value):
            _check_inputs(getattr(value, part.name), shape, f"{section}.{part.name}")


def _check_steps(method: Method, registry: ClientRegistry, section: str) -> None:
    expected = f"registered client steps (known: {', '.join(sorted(STEPS))}; client.steps adds modules)"
    for step in sorted(method.client_steps(registry) - set(STEPS)):
        raise InvalidValue(section, expected, step)


def _located(call: Any, section: str) -> Any:
    # Values know their own key, the section is known here; keys that begin at the root stay as they are.
    try:
        return call()
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        # A class that took what it cannot use, such as null for a section of its own.
        raise InvalidValue(
            section, "values that its class can use", f"{type(error).__name__}: {error}"
        ) from error
    except InvalidValue as error:
        # A request names clients of its own.
        rooted = error.key.split(".")[0] in ROOT and (section, error.key) != ("request", "clients")
        raise (error if rooted else error.within(section)) from None
