"""The page of all keys: none is missing, none is there that no class has, and values are those of a job."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from fedlaf_docs import keys, pages
from omegaconf import OmegaConf
from support.runs import composed

from fedlaf.core.settings import is_key
from fedlaf.experiment.config import Config

NAMED = {of.__name__: of for of in keys.classes()}


def every_class() -> list[type]:
    return [*keys.schemas(), *keys.classes()]


@pytest.mark.parametrize("of", every_class(), ids=lambda of: of.__name__)
def test_each_key_has_a_meaning_in_a_sentence(of: type) -> None:
    for key in keys.keys(of):
        assert key.meaning[:1] == key.meaning[:1].upper(), key.name
        assert key.meaning.endswith("."), key.name


def test_no_meaning_is_left_over() -> None:
    used = {
        (keys.meaning_of(of, field.name)[0], field.name)
        for of in every_class()
        for field in dataclasses.fields(of)
        if is_key(field)
    }
    assert {(section, name) for section, told in keys.meanings().items() for name in told} == used


def test_a_key_that_nobody_explains_says_what_to_do() -> None:
    @dataclasses.dataclass
    class Other:
        unheard_of: int = 1

    with pytest.raises(
        keys.MissingMeaning, match=r"docs/keys\.toml: say under \[Other\] what unheard_of means"
    ):
        keys.keys(Other)


def leaves(found: Mapping[str, Any]) -> Iterator[str]:
    """Names of all keys below a section, at any depth."""
    for name, value in found.items():
        if name != "_target_":
            yield name
            if isinstance(value, dict):
                yield from leaves(value)


@pytest.mark.parametrize("overrides", [(), ("forget=laf_paper", "engine=ray_cluster")], ids=str)
def test_the_page_has_every_key_that_a_job_shows(overrides: tuple[str, ...]) -> None:
    """The oracle is Hydra: what a job composes to."""
    text = "".join(pages.group_page(group) for group in keys.groups()) + pages.shared_page()
    job = OmegaConf.to_container(composed(*overrides))
    assert isinstance(job, dict)
    for section in ("data", "partition", "corruption", "model", "train", "request", "forget", "engine"):
        for name in leaves(job[section]):
            assert f"| `{name}` |" in text or name in ("backdoor", "wrong_labels"), name


def test_the_page_has_every_group_and_option() -> None:
    page = (keys.ROOT / "docs" / "configuration.md").read_text()
    for group, options in keys.groups().items():
        assert f"```{{keys}} group {group}\n" in page
        assert all(f"| `{option.name}` |" in pages.group_page(group) for option in options)


def test_defaults_are_those_of_the_composed_job() -> None:
    config = composed()
    rows = dict(row(line) for line in pages.schema_page(Config, "config.yaml").splitlines()[2:])
    top = {field.name for field in dataclasses.fields(Config)}
    within = {
        f"{name}.{key}"
        for name in ("corruption", "client", "checkpoints", "ledger", "evaluation")
        for key in config[name]
    }
    assert set(rows) == top | within
    scalars = ("seed", "clients", "server_rows", "device", "precision", "deterministic", "timeout", "history")
    scalars += tuple(f"evaluation.{name}" for name in ("curve_rows", "reference", "asr", "reference_seeds"))
    assert {name: rows[name] for name in scalars} == {
        name: pages.value(shown(OmegaConf.select(config, name))) for name in scalars
    }


def shown(value: Any) -> Any:
    """As the file states it: 3600, not 3600.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def row(line: str) -> tuple[str, str]:
    """The key and its default of a row of the table."""
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    return cells[0].strip("`"), cells[2]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("int | None", "integer, or null"),
        ("Sequence[ClientId] | None", "list of client ids, or null"),
        ("tuple[int, int]", "list of integers"),
        ("Mapping[ClientId, Sequence[int]] | None", "mapping, or null"),
        ("bool", "true or false"),
    ],
)
def test_types_are_said_as_a_user_of_yaml_says_them(written: str, said: str) -> None:
    assert pages.type_of(written) == said
    assert NAMED["Laf"] in keys.classes()
