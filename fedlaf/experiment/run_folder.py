"""The folder of a run: which of it the run makes, what an earlier run left in it, and what goes again."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

LEFT = ("report.json", "report.md", "report.html", "page.json", "curves.png", "drift.png", "timeline.png")
"""Files that speak of a whole run: those of an earlier one go before another begins."""

_there: list[Path] = []
"""The nearest folder above each run's that was there before Hydra made the run's."""


class NotesFolders(Callback):
    """Hydra's callback before it makes a folder: notes which folders are not the run's own."""

    def on_run_start(self, config: DictConfig, **more: Any) -> None:
        """Before a job's folder is made."""
        note(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **more: Any) -> None:
        """Before a sweep's folder is made."""
        note(Path(config.hydra.sweep.dir))


def note(folder: Path) -> None:
    """Remember the nearest folder at or above `folder` that is there now."""
    _there.append(next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir()))


def leave_nothing(folder: Path) -> None:
    """Remove empty folders from `folder` upwards, but none that was there before the run."""
    with contextlib.suppress(OSError):
        for place in (folder.absolute(), *folder.absolute().parents):
            if not _there or place in _there or place in _there[-1].parents:
                return
            place.rmdir()


def clear(folder: Path) -> None:
    """Remove what an earlier run left in the folder that would speak for this one."""
    for name in LEFT:
        (folder / name).unlink(missing_ok=True)
