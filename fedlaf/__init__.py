"""fedlaf: a federated unlearning simulator.

A federation is trained, clients withdraw or ask that rows be removed, the request is served by
Label-Agnostic Forgetting or another method, and the result is held against the model retrained
without those rows.
"""

import os as _os
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

from fedlaf.core import version as _version

# Flower reads these once, when it is first imported: a simulator of privacy requests sends none.
_os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
_os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

# `fedlaf.conf` and `fedlaf.strategies` lie in this folder, copied or linked. Flower
# leaves links out of an app that it packs: there they lie beside this folder.
if not (_Path(__file__).parent / "strategies" / "__init__.py").is_file():
    __path__.append(str(_Path(__file__).parent.parent))

if _TYPE_CHECKING:
    from fedlaf.experiment.api import Comparison, Report, compare, load, resume, run

__version__ = _version.VERSION
__all__ = ["Comparison", "Report", "__version__", "compare", "load", "resume", "run"]


def __getattr__(name: str) -> object:
    """The public names, imported when they are first used: torch and Flower take seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'fedlaf' has no attribute {name!r}")
    from fedlaf.experiment import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
