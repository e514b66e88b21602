"""Named random streams: every draw comes from a generator that its purpose names.

No stream depends on another, on the order in which clients run, or on the number of
workers; that is what makes weights equal bit for bit on any engine.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def seed_for(run_seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream that `names` name, e.g. `seed_for(0, "fit", round, client)`."""
    text = "/".join([str(run_seed), *(str(name) for name in names)])
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_stream(run_seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator of the named stream."""
    return torch.Generator().manual_seed(seed_for(run_seed, *names))


def numpy_stream(run_seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator of the named stream."""
    return np.random.default_rng(seed_for(run_seed, *names))
