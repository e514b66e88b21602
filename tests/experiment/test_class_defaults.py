"""Defaults stand in the classes; configuration files state what differs, and all keys are there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from fedlaf.core.errors import InvalidValue
from fedlaf.experiment import config as configuration
from fedlaf.experiment.config_errors import explained
from fedlaf.strategies.laf_adam import LafAdam
from fedlaf.strategies.laf_repair import LafRepair

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(
    path.relative_to(CONF).with_suffix("").as_posix()
    for path in CONF.rglob("*.yaml")
    if path.parent != CONF and path.relative_to(CONF).parts[0] not in ("comparison", "runner")
)
NOWHERE = object()


def composed(*overrides: str, folder: Path | None = None, name: str = "config") -> DictConfig:
    own = [] if folder is None else [f"hydra.searchpath=[file://{folder}]"]
    return configuration.composed([*own, *overrides], name)


def leaves(stated: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(stated, Mapping) and stated:
        for name, value in stated.items():
            if name not in ("_target_", "defaults"):
                yield from leaves(value, f"{key}.{name}" if key else str(name))
    elif key:
        yield key, stated


def targets(stated: Any) -> Any:
    """The same section with nothing but its classes and what it builds on."""
    return {
        key: targets(value) if isinstance(value, Mapping) else value
        for key, value in stated.items()
        if key in ("_target_", "defaults") or (isinstance(value, Mapping) and "_target_" in value)
    }


@pytest.mark.parametrize("option", OPTIONS)
def test_a_file_states_only_what_it_changes(option: str, tmp_path: Path) -> None:
    """Without the keys that it states, its composition has another value for each of them, or none."""
    group, _, name = option.rpartition("/")
    text = (CONF / f"{option}.yaml").read_text()
    stated: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{option}.yaml"))
    keys = dict(leaves(stated))
    if not keys:
        return
    header = "# @package _global_\n" if "@package _global_" in text else ""
    bare = tmp_path / group / f"bare_{name}.yaml"
    bare.parent.mkdir(parents=True)
    bare.write_text(header + OmegaConf.to_yaml(OmegaConf.create(targets(stated))))
    top, *below = group.split("/")
    within = group == "evaluation/measure"  # a group in a group
    choice = f"{group}=bare_{name}" if within else f"{top}={'/'.join([*below, f'bare_{name}'])}"
    whole = composed(choice, folder=tmp_path, name="compare" if group == "runner" else "config")
    section = whole if header else OmegaConf.select(whole, group.replace("/", "."))
    for key, value in keys.items():
        try:
            without = OmegaConf.to_container(section, resolve=False)
            for part in key.split("."):
                without = without[part]  # type: ignore[index,call-overload]
        except (KeyError, TypeError):
            without = NOWHERE
        assert without != value, f"{option}: {key} is {value!r} anyway"


def test_all_keys_of_the_class_are_there() -> None:
    """laf_adam.yaml states no key at all."""
    config = composed("forget=laf_adam", "forget.align.lr=1e-4", "forget.represent.most_rows=${clients}")
    assert (config.forget.align.lr, config.forget.represent.most_rows) == (1e-4, 10)
    made = configuration.made(composed("forget=laf_adam"), "forget")
    assert made == LafAdam()
    assert OmegaConf.to_container(config.forget.target_rule) == {
        "_target_": "fedlaf.objectives.laf_targets.TargetRule", "outlier_quantile": 0.05,
        "project_outliers": True, "max_projection": 1.5, "strength": 2.5, "negative_weight": 2.0,
    }  # fmt: skip


def test_a_misspelt_key_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigCompositionException) as refused:
        composed("forget=laf_adam", "forget.align.ler=1e-4")
    assert explained(refused.value) == "forget.align.ler: no such key 'ler'; did you mean lr?"


@pytest.mark.parametrize("override", ["forget.target_rule.threshold=1"])
def test_what_the_program_sets_is_no_key(override: str) -> None:
    with pytest.raises(ConfigCompositionException):
        composed("forget=laf_adam", override)
    with pytest.raises(InvalidValue, match="the program sets it"):
        configuration.made(composed("forget=laf_adam", f"+{override}"), "forget")


def test_a_file_overrules_the_class_of_one_that_builds_on_it() -> None:
    """pgd builds on fine_tune, which trains as `train` does; laf_one_client_repair on laf_one_client."""
    method = configuration.made(composed("forget=pgd", "train=sgd", "train.cohort=4"), "forget")
    assert (method.fit.optimizer, method.fit.momentum, method.cohort) == ("sgd", 0.9, 4)
    method = configuration.made(composed("forget=laf_one_client_repair"), "forget")
    assert isinstance(method, LafRepair)
    assert method.rule.most_rows == 9600
    assert (method.repair.labels, method.repair.lr) == (0.25, 1e-4)


def test_a_users_file_needs_no_more_than_the_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_module.py").write_text(
        "from dataclasses import dataclass, field\n"
        "@dataclass(frozen=True)\nclass Inner:\n    depth: int = 2\n"
        "@dataclass(frozen=True)\nclass Own:\n    name: str\n    width: int = 8\n"
        "    sides: tuple[int, int] = (1, 2)\n    inner: Inner = field(default_factory=Inner)\n"
    )
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "own.yaml").write_text("_target_: own_module.Own\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_module", raising=False)
    folder = tmp_path / "conf"
    config = composed("model=own", "model.name=x", "model.inner.depth=3", folder=folder)
    made = configuration.made(config, "model")
    assert (made.name, made.width, list(made.sides), made.inner.depth) == ("x", 8, [1, 2], 3)
    with pytest.raises(ConfigCompositionException):
        composed("model=own", "model.depth=3", folder=folder)
    with pytest.raises(InvalidValue, match=r"^model"):
        configuration.made(composed("model=own", folder=folder), "model")


def test_a_class_that_cannot_be_imported_is_refused_when_it_is_built(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "lost.yaml").write_text("_target_: nowhere.Lost\nwidth: 3\n")
    config = composed("model=lost", folder=tmp_path)
    assert config.model.width == 3
    with pytest.raises(InvalidValue, match=r"^model.*nowhere"):
        configuration.made(config, "model")
