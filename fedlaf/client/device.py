"""A process's device: how exactly it computes, and which rows lie on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fedlaf.data import LabelledRows

FREE = 0.5
"""Share of a GPU's memory, whoever uses it, that rows leave free."""


def settle_numerics(device: torch.device, *, deterministic: bool) -> None:
    """How this process computes on a GPU, to be said before it uses one; a CPU is always deterministic.

    `deterministic` has torch refuse operations whose results depend on chance. Without it cuDNN tries
    which kernels are fastest, and matrices and convolutions may be multiplied in TF32.
    """
    if device.type != "cuda":
        return
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = not deterministic
    torch.backends.cuda.matmul.allow_tf32 = not deterministic


@contextmanager
def numerics(device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """One thread, and `settle_numerics`, while the context lasts; then all is as the caller had it."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    torch.set_num_threads(1)
    settle_numerics(device, deterministic=deterministic)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


def resident(rows: LabelledRows, device: torch.device) -> LabelledRows:
    """The rows on a GPU where they fit: as long as FREE of its memory stays free. Else, and on a CPU, as
    they are; then their batches travel by way of pinned memory (`fedlaf.data.moved`).
    """
    if device.type != "cuda":
        return rows
    free, total = torch.cuda.mem_get_info(device)
    if not fits(rows.x.nbytes + rows.y.nbytes, free, total):
        return rows
    return LabelledRows(rows.x.to(device), rows.y.to(device))


def fits(size: int, free: int, total: int) -> bool:
    """Whether `size` bytes leave FREE of `total` bytes free, of which `free` are."""
    return free - size >= FREE * total
