"""Inputs as a page shows them: images as one PNG that all share, anything else as lines."""

from __future__ import annotations

import base64
import io
from math import ceil, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

SIDE = 64
"""Pixels that a picture has on a side at most; larger ones are thinned out."""
STEPS = 120
"""Values that a line has at most."""
LINES = 4
"""Lines of one input at most: the first channels."""


def pictures(x: Tensor) -> dict[str, Any]:
    """Inputs [N, ...] for a page: {kind: image, png, width, height, columns} or {kind: series, values}.

    uint8 [N, 1 or 3, h, w] becomes one PNG with `columns` pictures in a row; every other shape becomes
    at most four lines an input, of at most 120 values each.
    """
    held = x.cpu().numpy()
    if held.dtype == np.uint8 and held.ndim == 4 and held.shape[1] in (1, 3):
        return _sheet(held)
    lines = held.reshape(len(held), -1, held.shape[-1]) if held.ndim > 1 else held[:, None, None]
    step = max(1, ceil(lines.shape[-1] / STEPS))
    thin = lines[:, :LINES, ::step].astype(np.float64)
    return {"kind": "series", "values": np.round(thin, 3).tolist()}


def _sheet(images: npt.NDArray[np.uint8]) -> dict[str, Any]:
    from PIL import Image

    step = max(1, ceil(max(images.shape[2:]) / SIDE))
    thin = images[:, :, ::step, ::step]
    count, channels, height, width = thin.shape
    columns = max(1, ceil(sqrt(count)))
    sheet = np.zeros((ceil(count / columns) * height, columns * width, channels), np.uint8)
    for place, image in enumerate(thin):
        top, left = place // columns * height, place % columns * width
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(sheet.squeeze(-1) if channels == 1 else sheet).save(file, "PNG", optimize=True)
    png = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"kind": "image", "png": png, "width": width, "height": height, "columns": columns}
