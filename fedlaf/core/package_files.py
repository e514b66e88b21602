"""Files of this package that are no code: beside the code, or where the package is installed.

Flower runs an app from a copy of the code that holds no others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path


def package_file(*parts: str) -> Path | None:
    """The file of these parts below the package, else below another copy that Python can find; or None."""
    found = (folder.joinpath(*parts) for folder in _packages())
    return next((path for path in found if path.is_file()), None)


def _packages() -> Iterator[Path]:
    yield Path(__file__).parent.parent
    for spec in _specs():
        for folder in (spec and spec.submodule_search_locations) or ():
            yield Path(folder)


def _specs() -> Iterator[ModuleSpec | None]:
    for entry in sys.path:
        yield PathFinder.find_spec("fedlaf", [entry])
    for finder in sys.meta_path:  # an editable install has a finder of its own
        yield finder.find_spec("fedlaf", None)
