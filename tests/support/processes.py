"""Processes that import this checkout and tests/support, whatever folder they are started in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
QUIET_RAY = {"RAY_memory_monitor_refresh_ms": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Environment of a cluster that ends no worker for the machine's memory, and reports to nobody."""


def python(
    *arguments: str, cwd: Path, timeout: float = 240, **environment: str
) -> subprocess.CompletedProcess[str]:
    """What this interpreter makes of the arguments, in a process of its own with a Ray of its own."""
    path = os.pathsep.join([str(ROOT), str(TESTS)])
    # A short path, for sockets lie in it; Ray notes there which cluster is the machine's.
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "RAY_TMPDIR": folder, **environment}
        return subprocess.run(
            [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout,
            env={**os.environ, **own}, check=False,
        )  # fmt: skip
