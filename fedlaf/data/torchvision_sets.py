"""torchvision's sets, read by torchvision from wherever a copy is."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fedlaf.core.errors import InvalidValue

Split: TypeAlias = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Known:
    """How a set is called, and where an installed copy may lie."""

    package: str | None = None
    installed: Path | None = None


SETS = {
    "FashionMNIST": Known("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist")),
    "MNIST": Known(),
    "CIFAR10": Known(),
    "SVHN": Known(),
}


def cache_folder() -> Path:
    """Where downloads go when no root is given: `$FEDLAF_DATA`, else `~/.cache/fedlaf`."""
    chosen = os.environ.get("FEDLAF_DATA")
    return Path(chosen) if chosen else Path("~/.cache/fedlaf").expanduser()


def locate(name: str, root: str | None, *, download: bool) -> Path:
    """The folder that holds the set; with `download`, fetch it there when no copy is found.

    Raises InvalidValue for `root`, saying what to install or set, when there is none.
    """
    candidates = [Path(root).expanduser()] if root is not None else [cache_folder()]
    installed = SETS[name].installed
    if root is None and installed is not None:
        candidates.append(installed)
    for folder in candidates:
        if _present(name, folder):
            return folder
    target = candidates[0]
    # A root that the user names must be a folder already: a typing error is no reason to download.
    if download and (root is None or target.is_dir()) and _download(name, target):
        return target
    raise InvalidValue("root", _remedy(name), str(target))


def read(name: str, folder: Path) -> tuple[Split, Split]:
    """Training and test split of the set in `folder`, as uint8 [N, c, h, w] and int64 [N]."""
    if folder == SETS[name].installed:
        with tempfile.TemporaryDirectory() as unpacked:
            _unpack(name, folder, Path(unpacked))
            return read(name, Path(unpacked))
    return _split(_open(name, folder, train=True)), _split(_open(name, folder, train=False))


def _open(name: str, folder: Path, *, train: bool, download: bool = False) -> Any:
    from torchvision import datasets

    if name == "SVHN":
        which = "train" if train else "test"
        return datasets.SVHN(str(folder), split=which, download=download)
    return getattr(datasets, name)(str(folder), train=train, download=download)


def _split(opened: Any) -> Split:
    data = np.asarray(opened.data)
    labels = np.asarray(opened.labels if hasattr(opened, "labels") else opened.targets)
    if data.ndim == 3:
        data = data[:, None]
    elif data.shape[-1] == 3:
        data = data.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(data, dtype=np.uint8), labels.astype(np.int64)


def _present(name: str, folder: Path) -> bool:
    if folder == SETS[name].installed:
        return (folder / "train-images-idx3-ubyte.gz").is_file()
    if not folder.is_dir():
        return False
    try:
        _open(name, folder, train=True)
        _open(name, folder, train=False)
    except (RuntimeError, ValueError):  # torchvision's "not found or corrupted"; numpy's, of an empty file
        return False
    return True


def _download(name: str, folder: Path) -> bool:
    try:
        _open(name, folder, train=True, download=True)
        _open(name, folder, train=False, download=True)
    except (RuntimeError, OSError, EOFError, ValueError, HTTPException):  # no network, a broken file
        return False
    return True


def _unpack(name: str, packed: Path, root: Path) -> None:
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for file in sorted(packed.glob("*.gz")):
        with gzip.open(file) as source, (raw / file.stem).open("wb") as target:
            shutil.copyfileobj(source, target)


def _remedy(name: str) -> str:
    package = SETS[name].package
    ways = [f"apt-get install {package}"] if package else []
    ways += [
        f"data.root set to a folder with torchvision's {name} files",
        "a network to download it from",
    ]
    return f"a copy of {name} ({', or '.join(ways)})"
