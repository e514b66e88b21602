"""Label-Agnostic Forgetting in one process and the obvious way: what federated LAF is compared with."""

from __future__ import annotations

import torch
from torch import nn

from fedlaf.client import ClientSpec
from fedlaf.client.batches import steps
from fedlaf.core.request import ForgetRequest
from fedlaf.core.seeding import torch_stream
from fedlaf.core.types import Weights
from fedlaf.data.federation import build
from fedlaf.method.contract import Stage
from fedlaf.models import Classifier, Vae
from fedlaf.objectives import Fit
from fedlaf.strategies.fedavg import FedAvg
from support.federations import enrolled, initial_weights

SEED, STAGE = 7, "request-1"
BATCH = 16
"""Size of the batches that `drawn` draws."""


def trained(spec: ClientSpec) -> Weights:
    """Two rounds of training from fresh weights."""
    grid, registry = enrolled(spec)
    method = FedAvg(rounds=2, fit=Fit(lr=1e-3))
    return method.run(grid, initial_weights(spec), Stage("train", 0, registry)).weights


def model_with(spec: ClientSpec, weights: Weights) -> Classifier:
    """The specification's model with these weights, in evaluation mode."""
    dataset = build(spec.federation).dataset
    model = spec.model.build(dataset.shape, dataset.num_classes, 0)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    return model.eval()


def inputs(x: torch.Tensor) -> torch.Tensor:
    """uint8 [N, c, h, w] as a model takes them."""
    return (x.float() / 255).contiguous(memory_format=torch.channels_last)


def plain_vae(vae: Vae, e: torch.Tensor, epochs: int, stream: torch.Generator) -> Vae:
    """Train a VAE on representations, as the paper says."""
    adam = torch.optim.Adam(vae.parameters(), lr=1e-3, fused=True)  # the same kernel: bits
    for _ in range(epochs):
        for batch in torch.randperm(len(e), generator=stream).split(32):
            target = (e[batch] - vae.shift) / vae.scale
            hidden = vae.encoder(target)
            mean, log_variance = vae.mean(hidden), vae.log_variance(hidden)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=stream)
            squared = (vae.decoder(z) - target).square().sum(1).mean()
            kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1).mean()
            adam.zero_grad()
            (squared + 0.025 * kl).backward()
            adam.step()
    return vae


def phi(vae: Vae, e: torch.Tensor) -> torch.Tensor:
    """exp(m / (m + 1)) [N] of the reconstruction errors m of representations e [N, D]."""
    target = (e - vae.shift) / vae.scale
    m = (vae.decoder(vae.mean(vae.encoder(target))) - target).square().mean(1)
    return torch.exp(m / (m + 1.0))


def plain_weights(weighting: str, h: Vae, e_f: torch.Tensor) -> torch.Tensor:
    """Each forget row's error under h over their mean, or 1."""
    if weighting == "none" or len(e_f) == 0:
        return torch.ones(len(e_f))
    with torch.no_grad():
        target = (e_f - h.shift) / h.scale
        m = (h.decoder(h.mean(h.encoder(target))) - target).square().mean(1)
    return m / m.mean()


def plain_step(
    extractor: nn.Module, loss_of: str, x_r: torch.Tensor, x_f: torch.Tensor, e_r: torch.Tensor,
    e_f: torch.Tensor, w_f: torch.Tensor, h: Vae, h_f: Vae, adam: torch.optim.Optimizer, temperature: float,
) -> None:  # fmt: skip
    """One Adam step of one of the two losses, over one batch of retain and of forget rows."""
    both = extractor(inputs(torch.cat([x_r, x_f])))
    s_r, s_f = both[: len(x_r)], both[len(x_r) :]
    if loss_of == "unlearning":
        loss = phi(h, s_r).sum() - (w_f * phi(h_f, s_f)).sum()
    else:
        d_r = 1 - torch.cosine_similarity(s_r, e_r, dim=1)
        d_f = 1 - torch.cosine_similarity(s_f, e_f, dim=1)
        exponent = d_f / temperature + torch.log(w_f)
        loss = d_r.sum() - len(d_r) * torch.logsumexp(exponent, dim=0)
    adam.zero_grad()
    loss.backward()
    adam.step()


def drawn(
    client: int, retain: int, forget: int, count: int, phase: str = "forget"
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The batches that a client draws in the first round of a phase."""
    first = torch_stream(SEED, STAGE, phase, "rows", 1, client)
    second = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=first)))
    return list(zip(steps(retain, BATCH, count, first), steps(forget, BATCH, count, second), strict=True))


def rows_of(spec: ClientSpec, client: int, request: ForgetRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of the client's retain and forget rows."""
    data = build(spec.federation).client(client)
    return data.inputs(request.of(client)).x, data.inputs_at(request.of(client)).x
