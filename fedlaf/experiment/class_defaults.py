"""To Hydra, a section that names a dataclass as its `_target_` has all keys of that class.

Defaults stand in the classes. A configuration file states what it sets otherwise; all other keys are there
too, so that they can be overridden, referred to and shown, and a misspelt one is refused. This holds for a
user's own files as for those of `fedlaf.conf`.

A source of configurations makes each dataclass one, by its dotted name: `defaults: [/module.Class@_here_]`.
Whatever Hydra loads from a file gets such an entry for each `_target_` in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from pkgutil import resolve_name  # Hydra's get_class logs what it cannot import: three times, to the screen
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from fedlaf.core.errors import InvalidValue
from fedlaf.core.settings import is_key


class ClassSource(ConfigSource):
    """Configurations that are the keys of dataclasses, with their defaults."""

    @staticmethod
    def scheme() -> str:
        """As in `class://`."""
        return "class"

    def load_config(self, config_path: str) -> ConfigResult:
        """The keys of the dataclass of this dotted name."""
        keys = OmegaConf.create(keys_of(resolve_name(config_path)))
        return ConfigResult("class", self.full_path(), keys, {"package": None})

    def is_group(self, config_path: str) -> bool:
        """Never: modules are not listed."""
        return False

    def is_config(self, config_path: str) -> bool:
        """Whether it is the dotted name of a dataclass."""
        return "/" not in config_path and _is_dataclass(config_path)

    def available(self) -> bool:
        """Always."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Nothing."""
        return []


class ClassSearchPath(SearchPathPlugin):
    """Makes Hydra look for a dataclass where no file has that name."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the source."""
        search_path.append("class", "class://")


def register() -> None:
    """From now on, Hydra completes each file that it loads in this process."""
    for plugin in (ClassSource, ClassSearchPath):
        Plugins.instance().register(plugin)
    for source in Plugins.instance().discover(ConfigSource):
        if source.scheme() in ("file", "pkg"):  # type: ignore[attr-defined]
            _complete_what_it_loads(source)


def keys_of(described: Any) -> dict[str, Any]:
    """The keys of a dataclass, or of an instance, as plain values; `???` where there is no default."""
    of = described if isinstance(described, type) else type(described)
    whole: dict[str, Any] = {"_target_": f"{of.__module__}.{of.__qualname__}"}
    for field in fields(of):
        if is_key(field):
            value = _default(field) if described is of else getattr(described, field.name)
            whole[field.name] = _plain(value)
    return whole


def refuse_internal(stated: Mapping[str, Any]) -> None:
    """Raise InvalidValue where a section sets a field that is no key (as `+` can): nothing would read it."""
    for package, section in _sections(stated):
        name = section["_target_"]
        internal = (
            [f.name for f in fields(resolve_name(name)) if not is_key(f)] if _is_dataclass(name) else []
        )
        for key in section.keys() & set(internal):
            path = f"{package}.{key}" if package else str(key)
            raise InvalidValue(path, "no such key: the program sets it", section[key])


def _complete_what_it_loads(source: Any) -> None:
    load = source.load_config
    if hasattr(load, "__wrapped__"):  # done before
        return

    @wraps(load)
    def completed(self: ConfigSource, config_path: str) -> ConfigResult:
        loaded: ConfigResult = load(self, config_path)
        if isinstance(loaded.config, DictConfig):
            _complete(loaded.config)
        return loaded

    source.load_config = completed


def _complete(config: DictConfig) -> None:
    stated: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
    own = stated.pop("defaults", ["_self_"])
    classes = [
        f"/{section['_target_']}@{package or '_here_'}"
        for package, section in _sections(stated)
        if _is_dataclass(section["_target_"])
    ]
    if classes:  # ahead of the file's own list: any file overrules a class
        config["defaults"] = [*classes, *own]


def _sections(stated: Mapping[str, Any], package: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(stated.get("_target_"), str):
        yield package, stated
    for key, value in stated.items():
        if isinstance(value, Mapping):
            yield from _sections(value, f"{package}.{key}" if package else str(key))


def _is_dataclass(name: str) -> bool:
    try:
        found = resolve_name(name) if "." in name else None
        return isinstance(found, type) and is_dataclass(found)
    except Exception:  # whatever is wrong with it: its section is refused, by name, when it is built
        return False


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return "???" if field.default_factory is MISSING else field.default_factory()


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return keys_of(value)
    return list(value) if isinstance(value, tuple) else value
