"""Client steps of one's own: registered by a module that the run names, or by the method's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlaf.client import make_client_app
from fedlaf.client.registry import STEPS, import_steps
from fedlaf.client.runtime import SHIPPED_STEPS
from fedlaf.core.errors import InvalidValue
from fedlaf.experiment.checkpoints import StageKind
from fedlaf.experiment.config import composed
from fedlaf.experiment.plan import prepare, spec_of

SMALL = ("data=digits", "model=small_cnn", "corruption.backdoor.patch=2", "engine=inline", "train.rounds=1")

STEP = """
from fedlaf.client.registry import NoSettings, client_step
from fedlaf.protocol.messages import Reply

@client_step("{name}", NoSettings)
def {name}(context, settings):
    return Reply()
"""
METHOD = """
from dataclasses import dataclass, replace
from fedlaf.strategies.fine_tune import FineTune

@dataclass(frozen=True)
class Method(FineTune):
    def phases(self, registry):
        return [replace(phase, step="{name}") for phase in super().phases(registry)]
"""
OWN = ("forget=fine_tune", "forget._target_=own_method.Method")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path; what its modules register is forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    import_steps(SHIPPED_STEPS)
    before = dict(STEPS)
    yield tmp_path
    STEPS.clear()
    STEPS.update(before)
    for name in ("own_method", "own_step"):
        sys.modules.pop(name, None)


def test_the_file_of_a_method_may_hold_its_client_step(folder: Path) -> None:
    (folder / "own_method.py").write_text(METHOD.format(name="mine") + STEP.format(name="mine"))
    spec = spec_of(composed([*SMALL, *OWN]))
    assert "mine" not in STEPS  # a client's process knows the configuration alone
    app = make_client_app(spec)
    assert "mine" in STEPS
    assert app is not None
    prepare(composed([*SMALL, *OWN]))


def test_a_module_of_steps_can_be_named(folder: Path) -> None:
    (folder / "own_method.py").write_text(METHOD.format(name="mine"))
    (folder / "own_step.py").write_text(STEP.format(name="mine"))
    with pytest.raises(InvalidValue, match=r"forget: expected registered client steps \(known: .*got 'mine'"):
        prepare(composed([*SMALL, *OWN]))
    prepare(composed([*SMALL, *OWN, "client.steps=[own_step]"]))
    assert "mine" in STEPS


@pytest.mark.parametrize("module", ["own_step", "json.nothing_there", "no name"])
def test_a_module_that_cannot_be_imported_is_one_line(module: str) -> None:
    with pytest.raises(InvalidValue, match=rf"client.steps: expected modules .*, got '{module}'"):
        prepare(composed([*SMALL, f"client.steps=['{module}']"]))


def test_a_name_that_is_taken_is_one_line(folder: Path) -> None:
    (folder / "own_step.py").write_text(STEP.format(name="fit"))
    with pytest.raises(InvalidValue, match=r"'fit' is registered by fedlaf\.client\.steps.*, got 'own_step'"):
        prepare(composed([*SMALL, "client.steps=[own_step]"]))


def test_modules_of_steps_do_not_touch_what_training_made() -> None:
    """Training is taken up by runs with other client steps; what a method made is not."""
    assert "client" not in StageKind.TRAINING.sections
    assert "client" in StageKind.FORGETTING.sections
