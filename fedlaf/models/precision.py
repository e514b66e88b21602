"""Mixed precision: forward passes in half precision, weights, losses and their gradients in single.

A module that was given a precision computes its forward pass under torch's autocast and hands on
float32; its weights stay float32, so that what is sent never changes its type. Single precision
leaves modules as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

PRECISIONS = ("fp32", "bf16", "fp16")

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}

FIRST_SCALE = 2.0**12
"""By which fp16 losses are first multiplied, so that small gradients do not vanish; an overflow halves it."""

M = TypeVar("M", bound=nn.Module)


def in_precision(module: M, precision: str) -> M:
    """Let `module` compute its forward passes in `precision` from now on, wherever it is."""
    if precision in HALVES:
        module.forward = _autocast(module.forward, module, HALVES[precision])  # type: ignore[method-assign]
        module.halved = precision  # type: ignore[assignment]
    return module


def _autocast(forward: Callable[..., Any], module: nn.Module, half: torch.dtype) -> Callable[..., Any]:
    def under_autocast(*inputs: Any) -> Any:
        kind = next(module.parameters()).device.type
        with torch.autocast(kind, dtype=half):
            found = forward(*inputs)
        return _single(found)

    return under_autocast


def _single(found: Any) -> Any:
    """A tensor, or a named tuple of tensors, in float32."""
    return found.float() if isinstance(found, Tensor) else type(found)(*(part.float() for part in found))


class Descent:
    """Steps of an optimiser over a module's loss; those of an fp16 module are scaled, and left out when
    they overflow.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, module: nn.Module) -> None:
        self.optimiser = optimiser
        self.scaler = scaler_of(module)

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`."""
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimiser)
        self.scaler.update()


def scaler_of(module: nn.Module) -> torch.amp.GradScaler:
    """What scales a module's losses; it does nothing unless the module computes in fp16."""
    kind = next(module.parameters()).device.type
    scaled = getattr(module, "halved", None) == "fp16"
    return torch.amp.GradScaler(kind, init_scale=FIRST_SCALE, enabled=scaled)
