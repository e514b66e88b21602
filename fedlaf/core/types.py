"""Aliases, the legend of shapes, and the error that a wrong value raises.

Shapes, everywhere in the project: N rows of a batch, C classes, D dimensions of a
representation, Z latent dimensions of the VAE, P rows of one client, K clients.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

ClientId: TypeAlias = int
"""The partition id of a client, 0 to K - 1; node ids of the transport stay in the strategies."""

Weights: TypeAlias = dict[str, npt.NDArray[Any]]
"""Named arrays of a model, in the order of its state dict."""

Numbers: TypeAlias = dict[str, float]
"""Scalars that a client reports: counts, losses, seconds."""

Shape: TypeAlias = tuple[int, ...]
"""Axes of one input: channels, height and width of an image, channels and length of a series, columns of a
table's row.
"""

Indices: TypeAlias = npt.NDArray[np.int64]
