"""What a run was asked for, noted in its folder before it begins: all that it takes to go on with it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fedlaf.core.errors import InvalidValue, require
from fedlaf.core.safe_files import write_text

RECORD = "run.json"
"""File of a run's record."""

UNSAVED = ("_state_", "_source_")
"""Keys in a configuration that stand for an object that only its own program can make again."""


@dataclass(frozen=True)
class RunRecord:
    """A run's configuration, the name of its method, the command that began it, whether it is one of a
    multirun, and hashes of what it is made with.
    """

    config: Mapping[str, Any]
    method: str
    command: str = ""
    multirun: bool = False
    provenance: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> RunRecord:
        """The record in a run's folder. Raises InvalidValue where there is none."""
        try:
            return cls(**json.loads((folder / RECORD).read_text()))
        except (OSError, ValueError, TypeError) as error:
            expected = f"the folder of a run ({RECORD}: {type(error).__name__})"
            raise InvalidValue("resume", expected, str(folder)) from error

    def write(self, folder: Path) -> None:
        """Note it in the run's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RECORD, json.dumps(asdict(self), indent=1) + "\n")

    def composed(self) -> DictConfig:
        """The configuration, to be prepared again."""
        found: DictConfig = OmegaConf.create(json.loads(json.dumps(self.config)))
        return found

    def objects(self) -> list[str]:
        """Sections whose value was an object that no configuration describes whole."""
        return [name for name, node in self.config.items() if _stands_for_an_object(node)]


def goes_on(folder: Path, config: Mapping[str, Any], provenance: Mapping[str, str]) -> bool:
    """Whether a run of this very configuration, made with the same, was begun in the folder. Of one that
    was made with another source or device nothing can be taken up, so it begins anew.
    """
    if not (folder / RECORD).is_file():
        return False
    try:
        found = RunRecord.of(folder)
        same = found.config == json.loads(json.dumps(config))
        return bool(same and found.provenance == dict(provenance))
    except InvalidValue:
        return False


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let no other process work in the folder meanwhile. Raises InvalidValue when one does."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # a file system without locks has none to heed
            free = error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
            require(free, "resume", "a folder in which no other process runs", str(folder))
        yield
    finally:
        os.close(handle)


def _stands_for_an_object(node: Any) -> bool:
    if isinstance(node, Mapping):
        return any(key in UNSAVED for key in node) or any(map(_stands_for_an_object, node.values()))
    return isinstance(node, list) and any(map(_stands_for_an_object, node))
