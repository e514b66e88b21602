"""Every key of the configuration, from the schemas, the dataclasses and the files of `conf/` themselves.

A key's type and default stand in its class. Its meaning stands in `docs/keys.toml`, under the class that
declares it; a subclass may say more, and otherwise has the meaning of its base.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_class

from fedlaf.core.settings import is_key
from fedlaf.experiment.config import CompareConfig, Config

ROOT = Path(__file__).parents[3]
CONF = ROOT / "conf"
Values = dict[str, Any]


@dataclass(frozen=True)
class Key:
    """A key of a class: its type as it is written, its default, and what it means."""

    name: str
    type: str
    default: Any
    meaning: str


@dataclass(frozen=True)
class Option:
    """A file of a group: its name, its comment, its class, and the keys that it sets otherwise."""

    name: str
    says: str
    target: type | None
    sets: Mapping[str, Any]


class MissingMeaning(LookupError):
    """A key that docs/keys.toml does not explain."""


@cache
def meanings() -> Mapping[str, Mapping[str, str]]:
    """By the name of the class, then of the key."""
    return tomllib.loads((ROOT / "docs" / "keys.toml").read_text())


def meaning_of(of: type, name: str) -> tuple[str, str]:
    """The section of docs/keys.toml that explains a key of `of`, and its words. Raises MissingMeaning."""
    for base in of.__mro__:
        for section in (f"{base.__module__.rpartition('.')[2]}.{base.__name__}", base.__name__):
            if name in meanings().get(section, {}):
                return section, meanings()[section][name]
    raise MissingMeaning(f"docs/keys.toml: say under [{of.__name__}] what {name} means")


def keys(of: type) -> list[Key]:
    """All keys of a class that is configured. Raises MissingMeaning."""
    return [
        Key(f.name, str(f.type), default_of(f), meaning_of(of, f.name)[1])
        for f in fields(of)
        if is_key(f)
    ]  # fmt: skip


def default_of(of: Field[Any]) -> Any:
    """Its default, `???` where there is none."""
    if of.default is not MISSING:
        return of.default
    return "???" if of.default_factory is MISSING else of.default_factory()


@cache
def groups() -> dict[str, list[Option]]:
    """The options of each group of `conf/`, by the group's name, in the order of their names."""
    found: dict[str, list[Option]] = {}
    for file in sorted(CONF.rglob("*.yaml")):
        group, name = group_and_name(file)
        if group and not name.startswith("shared/"):  # what several comparisons build on
            found.setdefault(group, []).append(option(file, name))
    return found


def group_and_name(file: Path) -> tuple[str, str]:
    """A folder below `experiment` or `comparison` is a part of the option's name, not a group."""
    place = file.relative_to(CONF).with_suffix("")
    top = place.parts[0]
    if top in ("experiment", "comparison") and len(place.parts) > 1:
        return top, "/".join(place.parts[1:])
    return place.parent.as_posix() if len(place.parts) > 1 else "", place.name


def option(file: Path, name: str) -> Option:
    """What a file says of itself, and what it sets."""
    text = file.read_text()
    comment = " ".join(
        line.lstrip("# ").rstrip()
        for line in leading_comment(text)
        if not line.startswith("# @package")
    )  # fmt: skip
    target = target_of(file)
    stated: Values = yaml.safe_load(text) or {}
    for key in ("defaults", "_target_"):
        stated.pop(key, None)
    return Option(name, comment, get_class(target) if target else None, dict(flat(stated)))


def target_of(file: Path) -> str | None:
    """The class that a file names, or one of those of its group that it builds on."""
    stated: Values = yaml.safe_load(file.read_text()) or {}
    if "_target_" in stated:
        return str(stated["_target_"])
    bases = (file.parent / f"{base}.yaml" for base in stated.get("defaults", []) if isinstance(base, str))
    return next((found for base in bases if base.is_file() and (found := target_of(base))), None)


def leading_comment(text: str) -> Iterator[str]:
    """The lines of the comment at the head of a file."""
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        yield line


def flat(stated: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Values by their dotted key; a section's class by `key._target_`."""
    for name, value in stated.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


@cache
def classes() -> list[type]:
    """Every class that a file names or that such a class holds, each once, those of files first."""
    named = [
        get_class(name)
        for file in sorted(CONF.rglob("*.yaml"))
        for name in re.findall(r"^\s*(?:- )?_target_: (\S+)", file.read_text(), re.MULTILINE)
    ]
    found: dict[type, None] = {}
    waiting = [of for of in named if is_dataclass(of)]
    while waiting:
        of = waiting.pop(0)
        found.setdefault(of)
        waiting += [type(key) for key in held(of) if type(key) not in found]
    return list(found)


def schemas() -> list[type]:
    """Those of a job, its sections' among them, and that of a comparison."""
    return [Config, *(type(section) for section in held(Config)), CompareConfig]


def held(of: type) -> list[Any]:
    """Defaults of a class that are configured themselves."""
    defaults = (default_of(f) for f in fields(of) if is_key(f))  # type: ignore[arg-type]
    return [value for value in defaults if is_dataclass(value)]
