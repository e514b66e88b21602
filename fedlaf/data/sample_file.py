"""Where the sample of Fashion-MNIST lies: beside this file, or where the package is installed."""

from __future__ import annotations

from pathlib import Path

from fedlaf.core.errors import InvalidValue
from fedlaf.core.package_files import package_file

SAMPLE = "fashion_sample.npz"


def sample_file(root: str | None) -> Path:
    """The file in `root`, else in the package. Raises InvalidValue that says what to do."""
    found = package_file("data", SAMPLE) if root is None else Path(root) / SAMPLE
    if found is None or not found.is_file():
        where = f"fedlaf installed here, with its {SAMPLE}" if root is None else f"a folder with {SAMPLE}"
        raise InvalidValue("root", where, root)
    return found
