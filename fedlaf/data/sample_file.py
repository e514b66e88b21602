"""Where the sample of Fashion-MNIST lies: beside this file, or where the package is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from fedlaf.core.errors import require

SAMPLE = "fashion_sample.npz"


def sample_file(root: str | None) -> Path:
    """The file in `root`, else in this package, else in another copy of it that Python can find.

    Flower runs an app from a copy without data files. Raises InvalidValue that says what to do.
    """
    places = [Path(root)] if root is not None else list(_packages())
    found = [place / SAMPLE for place in places if (place / SAMPLE).is_file()]
    where = f"a folder with {SAMPLE}" if root is not None else f"fedlaf installed here, with its {SAMPLE}"
    require(bool(found), "root", where, root)
    return found[0]


def _packages() -> Iterator[Path]:
    yield Path(__file__).parent
    for spec in _specs():
        for folder in (spec and spec.submodule_search_locations) or ():
            yield Path(folder) / "data"


def _specs() -> Iterator[ModuleSpec | None]:
    for entry in sys.path:
        yield PathFinder.find_spec("fedlaf", [entry])
    for finder in sys.meta_path:  # an editable install has a finder of its own
        yield finder.find_spec("fedlaf", None)
