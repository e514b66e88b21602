"""The extractor's last linear layer and what goes into it: the features phi of e = W phi + b."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def last_linear(extractor: nn.Module) -> nn.Linear | None:
    """The linear layer with a bias that ends the extractor; None where another layer is the last."""
    leaves = [module for module in extractor.modules() if not any(module.children())]
    last = leaves[-1]
    return last if isinstance(last, nn.Linear) and last.bias is not None else None


@torch.no_grad()
def features(extractor: nn.Module, x: Tensor) -> Tensor:
    """Phi [N, P] of inputs [N, ...]: what the extractor's last linear layer is given, in evaluation mode.

    A single row goes through twice: kernels for one row round otherwise than those for several, and a row's
    features must not depend on how many others its client holds.
    """
    extractor.eval()
    batch = torch.cat([x, x]) if len(x) == 1 else x
    last = last_linear(extractor)
    if last is None:
        raise LookupError("the extractor does not end in a linear layer")
    with _inputs_of(last) as seen:
        out = extractor(batch)
    (phi,) = seen
    # Two rows tell; the whole layer need not be computed twice.
    if not torch.allclose(last(phi[:2]), out[:2], rtol=1e-3, atol=1e-5 * float(out.abs().max())):
        raise LookupError("the extractor's last module is not what it computes last")
    return phi[: len(x)]


@contextmanager
def _inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()
