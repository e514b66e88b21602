"""Every command of the README and the documentation exists, composes, and ends in the error that is shown."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from support.doc_commands import ROOT, Command, commands, pages

from fedlaf import __main__ as entry
from fedlaf.client.registry import STEPS
from fedlaf.core.errors import require
from fedlaf.experiment import config as configuration
from fedlaf.experiment.commands import COMMANDS
from fedlaf.experiment.comparison.plan import Comparison, job
from fedlaf.experiment.config_errors import USER_ERRORS, explained
from fedlaf.experiment.plan import prepare

SECTIONS = ("data", "partition", "corruption.backdoor", "corruption.wrong_labels", "model", "train",
            "request", "forget", "engine")  # fmt: skip
FOREIGN = {
    "openssl",
    "wandb",
    "tensorboard",
    "mlflow",
    "pip",
    "source",
    ".",
    "export",
    "sleep",
    "srun",
    "python3",
}
"""Commands of a system, which are taken as they are."""
BESIDE = {"ray", "flwr", "flower-superlink", "flower-supernode", "uv"}
"""Commands that come with what fedlaf depends on, or that stand for it."""
PLACES = {"study/NAME": "study/align_lr", "...": ""}
"""What stands for something else in the text."""
ALL = [c for page in pages() for c in commands(page.read_text(), str(page.relative_to(ROOT)))]
JOBS = {tuple(c.words[c.words.index("fedlaf") + 1 :]): c for c in ALL if "fedlaf" in c.words and not c.prints}
JOBS |= {
    tuple(text.split()): c
    for c in ALL
    if c.words[0] == "flwr" and not c.prints
    for text in re.findall(r'overrides="(.*)"', " ".join(c.words))
}
for name in COMMANDS:
    JOBS.pop((name,), None)  # its name in the text
SESSIONS = [c for c in ALL if "fedlaf: error:" in c.prints]


def unknown(words: Sequence[str]) -> str | None:
    """Why a command that is not fedlaf's does not exist; None for one that does."""
    first, rest = words[0], list(words[1:])
    if first == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return next((f"make has no {word}" for word in rest if "=" not in word and word not in targets), None)
    if first == "python" and rest[0] == "-m":
        return None if find_spec(rest[1]) else f"there is no module {rest[1]}"
    if first == "pip" and "-r" in rest:
        file = rest[rest.index("-r") + 1]
        return None if (ROOT / file).is_file() else f"there is no file {file}"
    if first in BESIDE:
        found = shutil.which(first) or (Path(sys.executable).parent / first).is_file() or first == "uv"
        return None if found else f"{first} is not installed"
    return None if first in FOREIGN or first == "fedlaf" else f"nobody knows {first}"


def checked(words: Sequence[str], conf: Path) -> None:
    """Compose what a command line asks for, and build its values. Raises what it would be refused with."""
    words = [PLACES.get(word, word.replace("study/NAME", "study/align_lr")) for word in words]
    words = [word for word in words if word not in ("", "-m", "--help", "--cfg", "job")]
    words = [word for word in words if not word.endswith("=?")]
    if "-p" in words:
        at = words.index("-p")
        require(words[at + 1] in SECTIONS, "-p", "a section", words[at + 1])
        del words[at : at + 2]
    if "--config-dir" in words:
        at = words.index("--config-dir")
        folder = conf if words[at + 1] == "conf" else ROOT / words[at + 1]
        words[at : at + 2] = [f"hydra.searchpath=[file://{folder}]"]
    if words[:1] == ["compare"] and len(words) == 2 and words[1].startswith("comparison="):
        # Each of these files is composed and planned by a test of comparisons.
        option = words[1].removeprefix("comparison=")
        require((ROOT / "conf" / "comparison" / f"{option}.yaml").is_file(), "comparison", "a file", option)
    elif words[:1] == ["compare"]:
        comparison = Comparison.of(configuration.composed(words[1:], "compare"))
        base = comparison.bases()[0]
        for run in (base, comparison.runs(base)[0]):
            job(run)
    elif words and words[0] in COMMANDS:
        require(len(words) >= 2, words[0], "a folder", "none")
    elif words and words[0] == "-sc":
        known = re.fullmatch(r"(un)?install=(bash|fish|zsh)", words[1])
        require(known is not None, "-sc", "a shell", words[1])
    else:
        for one in single([word for word in words if not word.startswith(("runner=", "runner."))]):
            config = configuration.composed(one)
            configuration.only_known(config)
            for section in SECTIONS:
                configuration.made(config, section)


def single(overrides: list[str]) -> list[list[str]]:
    """A multirun as jobs in which each value of each key is at least once."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    values = [
        [f"{o.input_line.split('=')[0]}={v}" for v in o.sweep_string_iterator()] if o.is_sweep_override()
        else [str(o.input_line)]
        for o in parsed
    ]  # fmt: skip
    most = max((len(v) for v in values), default=1)
    groups = max((len(v) for v in values if not v[0].startswith("seed=")), default=1)
    return [[v[min(i, len(v) - 1)] for v in values] for i in range(min(most, groups))]


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's own folder of configurations."""
    folder = tmp_path_factory.mktemp("conf")
    (folder / "data").mkdir()
    (folder / "data" / "mine.yaml").write_text("_target_: fedlaf.data.Digits\n")
    return folder


@pytest.fixture(autouse=True)
def _examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    # Their client steps are this test's alone: workers of a later one could not import them.
    yield
    for name in [name for name, step in STEPS.items() if not step.run.__module__.startswith("fedlaf.")]:
        del STEPS[name]


def test_there_are_commands_to_check() -> None:
    assert {c.page for c in ALL} >= {
        "README.md",
        "docs/usage.md",
        "docs/first_withdrawal.md",
        "docs/reproduce.md",
    }
    assert len(JOBS) > 70
    assert len(SESSIONS) >= 6


def test_each_command_exists() -> None:
    assert {str(c): why for c in ALL if (why := unknown(c.words)) is not None} == {}


@pytest.mark.parametrize("words", JOBS, ids=lambda words: " ".join(words)[:60])
def test_each_job_composes_and_its_values_can_be_built(words: tuple[str, ...], conf: Path) -> None:
    checked(words, conf)


@pytest.mark.parametrize("command", SESSIONS, ids=str)
def test_each_error_is_the_one_that_is_shown(command: Command) -> None:
    overrides = re.findall(r'overrides="(.*)"', " ".join(command.words))
    asked = overrides[0].split() if overrides else [*command.words[1:]]
    with pytest.raises(USER_ERRORS) as refused:  # noqa: PT012
        config, hydra = configuration.composed_with_hydra(asked)
        prepare(config, hydra.runtime.choices["forget"])
    shown = next(line for line in command.prints.splitlines() if "fedlaf: error:" in line)
    assert explained(refused.value) == shown.partition("fedlaf: error: ")[2]


@pytest.mark.parametrize("command", [c for c in ALL if c.run], ids=str)
def test_quick_ones_run(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*command.words])
    entry.main()
    (report,) = tmp_path.glob("outputs/*/*/report.json")
    (request,) = json.loads(report.read_text())["requests"]
    assert (
        request["models"]["unlearned"]["accuracy_forget"] < request["models"]["original"]["accuracy_forget"]
    )


@pytest.mark.parametrize(
    "words",
    ["train.rouds=3", "forget=laff", "compare comparison=study/nothing", "experiment=gone", "forget.ridge=-1",
     "gone FOLDER", "board"],
)  # fmt: skip
def test_a_command_that_no_longer_is_fails(words: str, conf: Path) -> None:
    with pytest.raises(USER_ERRORS):
        checked(words.split(), conf)


def test_unknown_commands_are_found() -> None:
    gone = ("make it", "python -m benchmarks.gone", "pip install -r gone.txt", "fedlof seed=1")
    assert all(unknown(line.split()) for line in gone)


def test_blocks_sessions_and_words_of_the_text_are_read() -> None:
    text = (
        "`fedlaf seed=1` and `make it`\n\n<!-- tests run this -->\n```sh\nA=1 fedlaf 'a=[0, 1]' \\\n"
        "  b=2  # why\nmake x && make y\n"
        "```\n\n  ```\n  $ fedlaf c=3\n  fedlaf: error: no\n  ```\n\n```python\nfedlaf.run()\n```\n"
    )
    found = [(c.words, c.prints, c.run) for c in commands(text, "page")]
    assert found == [
        (("fedlaf", "a=[0, 1]", "b=2"), "", True),
        (("make", "x"), "", True),
        (("make", "y"), "", True),
        (("fedlaf", "c=3"), "fedlaf: error: no", False),
        (("fedlaf", "seed=1"), "", False),
        (("make", "it"), "", False),
    ]
