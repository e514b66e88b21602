"""What a result was made with, beside its configuration: source, versions, device and data, each as a hash.

A result of an earlier run is taken up only where all of it is the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fedlaf.core.version import VERSION
from fedlaf.data.dataset import Dataset

DEVICE = "kind of device"
"""In a provenance: runs of a comparison that are made elsewhere may differ in it."""

LIBRARIES = ("flwr", "ray", "torch", "torchvision", "numpy", "scipy", "scikit-learn")
"""Libraries that a result depends on."""


def versions() -> dict[str, str]:
    """Versions of the package, of Python and of the libraries."""
    found = {"fedlaf": VERSION, "python": platform.python_version()}
    return found | {name: version(name) for name in LIBRARIES}


def provenance(dataset: Dataset, config: Mapping[str, Any], device: torch.device) -> dict[str, str]:
    """Hashes of the source code, the libraries' versions, the kind of device, and the data."""
    # What measures or follows a model has no part in what it becomes.
    names = set(_targets({key: node for key, node in config.items() if key not in ("evaluation", "tracker")}))
    names |= set(config.get("client", {}).get("steps", ()))
    return {
        "source code": _source(tuple(sorted(name for name in names if name.split(".")[0] != "fedlaf"))),
        "versions of libraries": _hash(f"{name} {found}" for name, found in versions().items()),
        DEVICE: _device(device),
        "data": data_digest(dataset),
    }


def different(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """What differs between two provenances, in words; empty for the same."""
    return [name for name in one if one[name] != other.get(name)]


@lru_cache(maxsize=2)
def data_digest(dataset: Dataset) -> str:
    """A hash of all rows and labels of a dataset."""
    found = hashlib.sha256()
    for rows in (dataset.train, dataset.test):
        for tensor in (rows.x, rows.y):
            found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@lru_cache(maxsize=8)
def _source(names: tuple[str, ...]) -> str:
    """A hash of the package's source, and of the files of the modules that are or define these names."""
    own = Path(__file__).parents[1]
    # Strategies lie in the package, by way of a link or as a copy, or beside it (an app that Flower packed).
    inside = own / "strategies"
    roots = (own, (inside if inside.exists() else own.parent / "strategies").resolve())
    files = {path.resolve() for root in roots for path in root.glob("**/*.py")}
    files |= {file.resolve() for file in map(_file_of, names) if file is not None}
    texts = sorted((path.name, path.read_bytes()) for path in files if path.is_file())
    return _hash(f"{name} {hashlib.sha256(text).hexdigest()}" for name, text in texts)


def _file_of(name: str) -> Path | None:
    """The file of a module, or of the module that defines what is named; None for a notebook's own."""
    while name:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
        name = name.rpartition(".")[0]
    return None


def _device(device: torch.device) -> str:
    """The kind of processor that computes: weights differ in their last bits between kinds."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _targets(node: Any) -> Iterable[str]:
    """All `_target_` values in a plain configuration."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
