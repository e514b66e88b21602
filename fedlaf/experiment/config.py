"""From a composed configuration to checked values: schemas, instantiation, and one-line errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedlaf.core.errors import InvalidValue, first_line, within
from fedlaf.experiment import class_defaults
from fedlaf.experiment.config_errors import groups_not_null
from fedlaf.experiment.objects import Given, described


@dataclass
class CorruptionConfig:
    """What is planted in clients' rows; null is nothing."""

    backdoor: Any = None
    wrong_labels: Any = None


@dataclass
class EvaluationConfig:
    """`curve_rows` of each kind are measured after each round; `reference` says when to retrain; `asr`
    names the protocol of the membership attack, null leaves it out; `reference_seeds` is how many more
    times is retrained, from other seeds; `resurfacing_rounds` is how many rounds training goes on from each
    model of a request, to see where it goes. Attacks and representations take `most_rows` of each kind;
    `measure` has the measures that are added to those of every run, each with its `_target_`.
    """

    curve_rows: int = MISSING
    reference: str = MISSING
    asr: str | None = MISSING
    reference_seeds: int = MISSING
    resurfacing_rounds: int = MISSING
    most_rows: int = MISSING
    measure: dict[str, Any] = field(default_factory=dict)
    gate: Any = MISSING


@dataclass
class ClientConfig:
    """`steps` are modules of one's own that register client steps."""

    steps: list[str] = MISSING


@dataclass
class CheckpointsConfig:
    """A stage leaves a checkpoint every `every` rounds; 0: only when it ends."""

    every: int = MISSING


@dataclass
class LedgerConfig:
    """Files of keys: an Ed25519 private key that signs the ledger, and the key of the clients' names."""

    signing_key: str | None = MISSING
    names_key: str | None = MISSING


@dataclass
class Config:
    """Types of the whole configuration; values: conf/config.yaml. Groups hold a `_target_` and its keys."""

    seed: int = MISSING
    clients: int = MISSING
    server_rows: int = MISSING
    device: str = MISSING
    precision: str = MISSING
    deterministic: bool = MISSING
    timeout: float = MISSING
    resume: str | None = MISSING
    history: Any = MISSING
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    ledger: LedgerConfig = field(default_factory=LedgerConfig)
    erase: bool = MISSING
    data: Any = MISSING
    partition: Any = MISSING
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)
    model: Any = MISSING
    client: ClientConfig = field(default_factory=ClientConfig)
    train: Any = MISSING
    request: Any = MISSING
    requests: list[Any] = MISSING
    stream: Any = None
    forget: Any = MISSING
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    engine: Any = MISSING
    tracker: Any = MISSING


ROOT = frozenset(f.name for f in fields(Config))
"""Keys at the top of the configuration."""


@dataclass
class CompareConfig:
    """What `fedlaf compare` is told: keys of jobs that all share (`scenario`, then `base`), those of each
    setting (`over`), and those of each method, after those of `of`; or a key that is swept.
    """

    name: str = MISSING
    title: str = MISSING
    question: str = ""
    scenario: list[str] = MISSING
    base: list[str] = MISSING
    over: dict[str, list[str]] = MISSING
    of: list[str] = MISSING
    methods: dict[str, list[str]] = MISSING
    sweep: Any = MISSING
    only: list[str] | None = MISSING
    seeds: list[int] = MISSING
    jobs: int = MISSING
    folder: str = MISSING
    runner: Any = MISSING


def register() -> None:
    """Make the schemas known to Hydra under the names that conf/ builds on, the keys of all classes that
    files name, and `${range:0,50}` as a list of client ids.
    """
    ConfigStore.instance().store(name="schema", node=Config)
    ConfigStore.instance().store(name="compare_schema", node=CompareConfig)
    class_defaults.register()
    OmegaConf.register_new_resolver("range", lambda *bounds: list(range(*bounds)), replace=True)


SEARCH = "hydra.searchpath="
"""Start of the override that names folders of a user's own groups."""


def composed(overrides: Sequence[str], name: str = "config") -> DictConfig:
    """What these overrides compose to, outside of a job. Raises one of USER_ERRORS."""
    return composed_with_hydra(overrides, name)[0]


def composed_with_hydra(overrides: Sequence[str], name: str = "config") -> tuple[DictConfig, DictConfig]:
    """What these overrides compose to, and Hydra's own section. Raises one of USER_ERRORS.

    Hydra's global state is left as it was: the caller may be an application of Hydra too.
    """
    register()
    before = get_gh_backup()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("fedlaf.conf", version_base="1.3"), groups_not_null(overrides):
            whole = compose(name, overrides=list(overrides), return_hydra_config=True)
    finally:
        restore_gh_from_backup(before)
    own = [str(key) for key in whole if key != "hydra"]
    return OmegaConf.masked_copy(whole, own), whole.hydra


def made(config: DictConfig, key: str) -> Any:
    """The value that the section `key` describes, None for null.

    Raises InvalidValue with the full key for anything that its class refuses.
    """
    node = OmegaConf.select(config, key)
    if node is None:
        return None
    if isinstance(node, Given):
        return node.value
    if not (isinstance(node, DictConfig) and "_target_" in node):
        # Such as keys of an experiment for a section that another choice made null.
        got = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
        raise InvalidValue(key, "null, or a whole section (with its _target_)", got)
    with within(key):
        class_defaults.refuse_internal(OmegaConf.to_container(node))  # type: ignore[arg-type]
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        raise _refused(error, key) from error
    except OmegaConfBaseException as error:
        raise InvalidValue(key, "a value that can be resolved", first_line(error)) from error


def only_known(config: DictConfig) -> None:
    """Raise InvalidValue for a key at the top that nobody reads (Hydra's `+` lets it in)."""
    for key in config:
        if key not in ROOT:
            raise InvalidValue(str(key), f"one of {', '.join(sorted(ROOT))}", config[key])


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, for the report and for fingerprints."""
    found: dict[str, Any] = described(OmegaConf.to_container(config, resolve=True))
    return found


def _refused(error: InstantiationException, key: str) -> InvalidValue:
    path = re.search(r"full_key: (\S+)", str(error))
    section = path[1] if path else key
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InvalidValue):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, InvalidValue):
        return cause.within(section)
    root = error.__cause__ or error
    missing = re.search(r"Error loading '(\S+)':\n(?:\w+\(['\"])?(.+?)(?:['\"]\))?(?:\n|$)", str(root))
    if isinstance(root, ImportError) and missing:
        expected = "the dotted name of a class that can be imported (your own files: PYTHONPATH=FOLDER)"
        return InvalidValue(f"{section}._target_", f"{expected}; {missing[2]}", missing[1])
    return InvalidValue(section, "arguments that its class takes", first_line(root))
