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
from torch.nn.utils import clip_grad_norm_

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
    """Steps of an optimiser over a module's loss. Those of an fp16 module are scaled, and taken again at half
    the scale where they overflow: a client's few steps are too few to leave one out.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, module: nn.Module) -> None:
        self.optimiser, self.parameters = optimiser, list(module.parameters())
        kind = self.parameters[0].device.type
        self.scaler = torch.amp.GradScaler(kind, init_scale=FIRST_SCALE, enabled=_scaled(module))

    def step(self, loss: Tensor, clip: float | None = None) -> None:
        """One step down the gradient of `loss`, of norm `clip` at most; none where there is no finite one."""
        scaler = self.scaler
        while True:
            self.optimiser.zero_grad()
            scaler.scale(loss).backward(retain_graph=scaler.is_enabled())  # type: ignore[no-untyped-call]
            if clip is not None:
                scaler.unscale_(self.optimiser)
                clip_grad_norm_(self.parameters, clip)
            scaler.step(self.optimiser)
            scale = scaler.get_scale()
            scaler.update()
            if scaler.get_scale() >= scale or scale <= 1:
                return


def gradients_of(loss: Tensor, module: nn.Module, *, again: bool = False) -> dict[str, Tensor]:
    """Gradients of `loss` by name, scaled on their way like those of `Descent`; `again` keeps the graph."""
    names, parameters = zip(*module.named_parameters(), strict=True)
    scale = FIRST_SCALE if _scaled(module) else 1.0
    while True:
        found = torch.autograd.grad(loss * scale, parameters, retain_graph=again or scale > 1)
        if scale <= 1 or all(bool(gradient.isfinite().all()) for gradient in found):
            return {name: gradient / scale for name, gradient in zip(names, found, strict=True)}
        scale /= 2


def _scaled(module: nn.Module) -> bool:
    return getattr(module, "halved", None) == "fp16"
