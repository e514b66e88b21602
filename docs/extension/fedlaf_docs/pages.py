"""The keys of the configuration as Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import yaml
from hydra.utils import get_class

from fedlaf_docs.keys import CONF, Key, Option, classes, groups, keys

PLAIN = {"str": "string", "bool": "true or false", "int": "integer", "float": "number",
         "ClientId": "client id", "Any": "value",}  # fmt: skip


def group_page(name: str) -> str:
    """A group: its options in a table, then the keys of each of their classes."""
    options = groups()[name]
    shown = dict.fromkeys(option.target for option in options if option.target is not None)
    # Under a heading of its own: what has none would come after all that has one.
    parts = [
        f"### {name}: options",
        options_table(options),
        *(class_section(of) for of in shown if keys_of(of)),
    ]
    return "\n\n".join(parts)


def shared_page() -> str:
    """Classes that no option is, but that sections of options are."""
    direct = {option.target for options in groups().values() for option in options}
    return "\n\n".join(class_section(of) for of in classes() if of not in direct and keys_of(of))


def schema_page(schema: type, file: str) -> str:
    """Keys of a schema and of its sections, with the values of the files that complete them."""
    whole: dict[str, Any] = yaml.safe_load((CONF / file).read_text())
    chosen = choices(whole)
    rows = []
    for key in keys(schema):
        stated = whole.get(key.name, chosen.get(key.name, key.default))
        kind = "group" if chosen.get(key.name) else type_of(key.type)
        if is_dataclass(key.default):
            file = f"{key.name}/{chosen[key.name]}.yaml" if key.name in chosen else ""
            within = yaml.safe_load((CONF / file).read_text()) if file else stated
            option = value(chosen[key.name]) if key.name in chosen else ""
            rows += [(f"`{key.name}`", kind, option, key.meaning)]
            rows += section_rows(key, {**choices(within), **within})
        else:
            rows.append((f"`{key.name}`", kind, value(stated), key.meaning))
    return table(("key", "type", "default", "meaning"), rows)


def section_rows(section: Key, stated: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The keys of a section that has a schema of its own, by their dotted names."""
    return [
        (
            f"`{section.name}.{key.name}`",
            type_of(key.type),
            value(stated.get(key.name, key.default)),
            key.meaning,
        )
        for key in keys(type(section.default))
    ]


def choices(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Options by group, of a file's list of defaults."""
    named = [entry for entry in whole.get("defaults", []) if isinstance(entry, dict)]
    return {group: option for entry in named for group, option in entry.items()}


def options_table(options: Iterable[Option]) -> str:
    """Names, what they are, and what their files set."""
    rows = [
        (f"`{option.name}`", link(option.target), option.says, sets(option.sets)) for option in options
    ]  # fmt: skip
    with_class = any(row[1] for row in rows)
    head = ("option", "class", "what it is", "its file sets")
    keep = [0, 1, 2, 3] if with_class else [0, 2, 3]
    return table([head[i] for i in keep], [[row[i] for i in keep] for row in rows])


def class_section(of: type) -> str:
    """A class's keys under a heading that others link to."""
    rows = [(f"`{key.name}`", cell_type(key), cell_default(key), key.meaning) for key in keys(of)]
    heading = f"({anchor(of)})=\n### {of.__name__}"
    return f"{heading}\n\n{table(('key', 'type', 'default', 'meaning'), rows)}"


def keys_of(of: type) -> list[Key]:
    """None for what is no dataclass."""
    return keys(of) if is_dataclass(of) else []


def cell_type(key: Key) -> str:
    """A section's class as a link."""
    return link(type(key.default)) if is_dataclass(key.default) else type_of(key.type)


def cell_default(key: Key) -> str:
    """Of a section, the keys that differ from its class's own defaults."""
    if not is_dataclass(key.default):
        return value(key.default)
    other = {
        field.name: getattr(key.default, field.name)
        for field in fields(key.default)
        if getattr(key.default, field.name) != field.default and field.name in names(type(key.default))
    }
    return sets({name: found for name, found in other.items() if not is_dataclass(found)})


def names(of: type) -> set[str]:
    """Names of a class's keys."""
    return {key.name for key in keys(of)}


def type_of(written: str) -> str:
    """A type as a user of YAML says it."""
    optional = re.fullmatch(r"(.*) \| None", written)
    if optional:
        return f"{type_of(optional[1])}, or null"
    many = re.fullmatch(r"(?:Sequence|list|tuple)\[(\w+).*\]", written)
    if many:
        return f"list of {plural(type_of(many[1]))}"
    if re.match(r"(?:Mapping|dict)\[", written):
        return "mapping"
    return "section" if written.endswith("Config") else PLAIN.get(written, f"`{written}`")


def plural(word: str) -> str:
    """Of the words of PLAIN."""
    return f"{word}s" if not word.startswith("true") else word


def value(found: Any) -> str:
    """As it is written in YAML."""
    if found == "???":
        return "required"
    if found == "":
        return "empty"
    if isinstance(found, dict) and "_target_" in found:
        return link(get_class(found["_target_"]))
    if isinstance(found, float) and not found.is_integer():
        return f"`{found:.4g}`"
    return f"`{found if isinstance(found, str) else json.dumps(found, default=list)}`"


def sets(stated: Mapping[str, Any]) -> str:
    """`key=value` for each."""
    shown = (f"`{name}={value(found)[1:-1]}`" for name, found in stated.items())
    return "<br>".join(shown)


def link(of: type | None) -> str:
    """To the section of its keys; its name alone where it has none."""
    if of is None:
        return ""
    return f"[{of.__name__}](#{anchor(of)})" if keys_of(of) else f"`{of.__name__}`"


def anchor(of: type) -> str:
    """The label of a class's section."""
    return f"keys-{of.__name__}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown; a bar within a cell is escaped."""
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
