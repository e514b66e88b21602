"""The VAEs of many clients as one stacked model: what `representing.fit_vae` does to each, at once.

A client's batches and its noise are drawn from its own stream, in the order in which it draws them alone.
Clients of fewer steps end sooner and leave the stack; a batch that is shorter than another's is filled
up with rows that a mask keeps out of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.adam import adam

from fedlaf.client import batches
from fedlaf.models import Reconstruction, Vae
from fedlaf.objectives.laf import Represent

State = dict[str, Tensor]


@dataclass(frozen=True)
class Lesson:
    """What one client's VAE learns: its representations [P, D], drawn `epochs` times from its stream."""

    vae: Vae
    rows: Tensor
    epochs: int
    stream: torch.Generator

    def draws(self, settings: Represent) -> list[tuple[Tensor, Tensor]]:
        """Positions and noise of each step; none without rows."""
        return [
            (batch, torch.randn(len(batch), settings.latent, generator=self.stream))
            for _ in range(self.epochs)
            for batch in batches.epoch(len(self.rows), settings.batch_size, self.stream)
            if len(batch)
        ]


def fit_vaes(lessons: Sequence[Lesson], settings: Represent) -> list[tuple[float, int]]:
    """Train each lesson's VAE in place; gives the mean loss of the last epoch and the VAE passes of each.

    Equal to training one by one to rounding.
    """
    draws = [lesson.draws(settings) for lesson in lessons]
    # Who takes most steps comes first, so that those who still learn are the head of the stack.
    order = sorted((k for k in range(len(lessons)) if draws[k]), key=lambda k: -len(draws[k]))
    losses: list[list[Tensor]] = [[] for _ in lessons]
    if order:
        stack = _Stack([lessons[k] for k in order], settings)
        for step in range(len(draws[order[0]])):
            learning = [k for k in order if step < len(draws[k])]
            found = stack.step([draws[k][step] for k in learning])
            for k, loss in zip(learning, found, strict=True):
                losses[k].append(loss)
        stack.unstack()
    return [_told(one, drawn, seen) for one, drawn, seen in zip(lessons, draws, losses, strict=True)]


def _told(lesson: Lesson, draws: list[tuple[Tensor, Tensor]], losses: list[Tensor]) -> tuple[float, int]:
    if not draws:
        return 0.0, 0
    last = len(draws) // lesson.epochs
    sizes = torch.tensor([len(batch) for batch, _ in draws[-last:]], dtype=torch.float64)
    seen = torch.stack(losses[-last:]).double().cpu()
    return float((seen * sizes).sum() / len(lesson.rows)), lesson.epochs * len(lesson.rows)


class _Stack:
    """The stacked parameters of K VAEs, their Adam, and their rows behind one another."""

    def __init__(self, lessons: Sequence[Lesson], settings: Represent) -> None:
        self.vaes, self.settings = [lesson.vae for lesson in lessons], settings
        self.rows = torch.cat([lesson.rows for lesson in lessons])
        sizes = torch.tensor([len(lesson.rows) for lesson in lessons])
        self.first = sizes.cumsum(0) - sizes
        stacked, self.buffers = stack_module_state(self.vaes)  # type: ignore[arg-type]
        self.parameters: State = {name: value.detach() for name, value in stacked.items()}
        self.moments = [{k: torch.zeros_like(v) for k, v in self.parameters.items()} for _ in range(2)]
        device = self.rows.device
        self.taken = [torch.zeros((), device=device) for _ in self.parameters]
        self.losses = vmap(_masked_loss(self.vaes[0].train(), settings.kl_weight))

    def step(self, drawn: list[tuple[Tensor, Tensor]]) -> Tensor:
        """One step of the first VAEs of the stack, as many as have drawn; gives their losses."""
        count = len(drawn)
        heads = {name: value[:count].detach().requires_grad_() for name, value in self.parameters.items()}
        buffers = {name: value[:count] for name, value in self.buffers.items()}
        rows, noise, mask = self._padded(drawn)
        losses: Tensor = self.losses(heads, buffers, rows, noise, mask)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self._adam(heads, count)
        return losses.detach()

    def _adam(self, heads: State, count: int) -> None:
        means, squares = ([moment[name][:count] for name in heads] for moment in self.moments)
        adam(
            list(heads.values()), [head.grad for head in heads.values() if head.grad is not None],
            means, squares, [], self.taken, fused=True, amsgrad=False, beta1=0.9, beta2=0.999,
            lr=self.settings.lr, weight_decay=0.0, eps=1e-8, maximize=False,
        )  # fmt: skip

    def _padded(self, drawn: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """Rows [K, B, D], noise [K, B, Z] and mask [K, B], B the size of the largest batch."""
        pad = torch.nn.utils.rnn.pad_sequence
        places = pad([batch + self.first[k] for k, (batch, _) in enumerate(drawn)], batch_first=True)
        noise = pad([noise for _, noise in drawn], batch_first=True)
        mask = pad([torch.ones(len(batch)) for batch, _ in drawn], batch_first=True)
        device = self.rows.device
        return self.rows[places.to(device)], noise.to(device), mask.to(device)

    def unstack(self) -> None:
        """Give the VAEs what they learned."""
        for k, vae in enumerate(self.vaes):
            vae.load_state_dict({name: value[k] for name, value in self.parameters.items()}, strict=False)


def _masked_loss(vae: Vae, kl_weight: float) -> Callable[[State, State, Tensor, Tensor, Tensor], Tensor]:
    """`losses.elbo` of one VAE over the rows that the mask leaves in."""

    def loss(parameters: State, buffers: State, rows: Tensor, noise: Tensor, mask: Tensor) -> Tensor:
        fit: Reconstruction = functional_call(vae, (parameters, buffers), (rows, noise))
        squared = (fit.decoded - fit.goal).square().sum(1)
        kl = 0.5 * (fit.mean.square() + fit.log_variance.exp() - 1.0 - fit.log_variance).sum(1)
        return ((squared + kl_weight * kl) * mask).sum() / mask.sum()

    return loss
