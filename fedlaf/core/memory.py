"""Peak memory of this process while something runs, as the operating system and CUDA count it."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress

import torch

from fedlaf.core.cost import Cost

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which `ru_maxrss` counts."""
RESET_PEAK = b"5"
"""What Linux takes for: forget the highest resident size so far (man 5 proc)."""

_open: list[Peak] = []


class Peak:
    """The peak of resident memory and of CUDA memory between `with` and its end, in bytes.

    Peaks may be nested. Where the system cannot forget an earlier peak, it is that of the whole process.
    """

    def __enter__(self) -> Peak:
        for outer in _open:
            outer._look()
        with suppress(OSError):
            file = os.open("/proc/self/clear_refs", os.O_WRONLY)
            try:
                os.write(file, RESET_PEAK)
            finally:
                os.close(file)
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        self.bytes = self.gpu_bytes = 0
        _open.append(self)
        return self

    def __exit__(self, *raised: object) -> None:
        for meter in _open:
            meter._look()
        _open.remove(self)

    def _look(self) -> None:
        self.bytes = max(self.bytes, _peak())
        if torch.cuda.is_initialized():
            self.gpu_bytes = max(self.gpu_bytes, torch.cuda.max_memory_allocated())

    @property
    def of_client(self) -> Cost:
        """As a client's cost."""
        return Cost(client_memory=self.bytes, gpu_memory=self.gpu_bytes)


def _peak() -> int:
    """The peak of this process since it was last reset, in bytes.

    Linux's VmHWM is of this program alone; `ru_maxrss` also counts what the process was before exec, and what
    its parent was before fork.
    """
    with suppress(OSError, ValueError), open("/proc/self/status", "rb", buffering=0) as status:
        text = status.read()
        return int(text[text.index(b"VmHWM:") + len(b"VmHWM:") :].split(None, 1)[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
