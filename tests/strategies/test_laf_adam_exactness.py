"""LAF with targets at one client that holds all rows is the obvious centralised loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.federations import enrolled, furthest, small_spec
from support.plain_laf import SEED, STAGE, drawn, inputs, model_with, plain_vae, rows_of, trained

from fedlaf.client.runtime import ClientSpec
from fedlaf.core.request import ForgetRequest
from fedlaf.core.seeding import seed_for, torch_stream
from fedlaf.core.types import Weights
from fedlaf.data.federation import build
from fedlaf.method.contract import Stage
from fedlaf.models import build_vae
from fedlaf.objectives.laf import Represent
from fedlaf.objectives.laf_targets import Alignment, TargetRule
from fedlaf.strategies.laf_adam import LafAdam

REPRESENT = Represent(latent=4, rows="retain", epochs=3, most_rows=None)
ALIGN = Alignment(batch_size=16, steps=5)

Array = np.ndarray[Any, np.dtype[Any]]


def run(method: LafAdam, spec: ClientSpec, weights: Weights, request: ForgetRequest) -> Weights:
    grid, registry = enrolled(spec)
    return method.run(grid, weights, Stage(STAGE, SEED, replace(registry, request=request))).weights


def poisoned(spec: ClientSpec) -> list[int]:
    """The rows of client 0 that carry the trigger."""
    clean = build(replace(spec.federation, backdoor=None)).client(0).rows.x
    changed = (build(spec.federation).client(0).rows.x != clean).flatten(1).any(1)
    return changed.nonzero().flatten().tolist()


def plain_targets(
    rule: TargetRule, e: tuple[Array, Array], errors: tuple[Array, Array], h: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Forget rows' representations without what outliers share, row by row; and which are outliers."""
    shift, scale = h
    outlier = errors[1] > np.quantile(errors[0], 1 - rule.outlier_quantile)
    assert 2 * rule.outlier_quantile <= outlier.mean() < 0.95  # both kinds are there
    units = (e[1] - shift) / scale
    ordinary = units[~outlier].mean(0)
    special = units[outlier].mean(0) - ordinary
    length = np.sqrt((special**2).sum())
    for i in np.flatnonzero(outlier):
        along = (units[i] - ordinary) @ special / length
        units[i] -= min(max(along, 0), rule.max_projection * length) * special / length
    return units * scale + shift, outlier


def plain_shift(rule: TargetRule, of_retain: Array, of_targets: Array, outlier: Array) -> Array:
    """The logit shift for the logits of retain rows' representations and of forget rows' targets."""
    classes = of_retain.shape[1]
    retain, forget = np.bincount(of_retain.argmax(1), minlength=classes), np.zeros(classes)
    for row, special in zip(of_targets, outlier, strict=True):
        p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        doubt = 0 if special else 2 * p.max() - 1
        forget[p.argmax()] += 1 if p.max() >= 0.5 else doubt
    odds = forget / (retain + 1)
    shift = np.where(
        odds > 0, -rule.strength * np.minimum(odds, 5), rule.negative_weight * np.minimum(-odds, 1)
    )
    return shift - shift.mean()


def plain_errors(represent: Represent, e: Array, h: dict[str, Any]) -> Array:
    if represent.density == "gaussian":
        return ((e - h["mean"]) @ h["precision"] * (e - h["mean"])).mean(1)
    vae = h["vae"]
    target = (torch.from_numpy(e).float() - vae.shift) / vae.scale
    with torch.no_grad():
        return (vae.decoder(vae.mean(vae.encoder(target))) - target).square().mean(1).numpy()


def plain_density(represent: Represent, e_r: torch.Tensor) -> dict[str, Any]:
    wide = e_r.double()
    mean, deviation = wide.mean(0), wide.std(0, correction=0)
    found: dict[str, Any] = {"mean": mean.numpy(), "deviation": deviation.numpy()}
    if represent.density == "gaussian":
        covariance = np.cov(wide.numpy().T, bias=True)
        dims = len(covariance)
        shrunk = 0.9 * covariance + 0.1 * np.trace(covariance) / dims * np.eye(dims)
        return {**found, "precision": np.linalg.inv(shrunk)}
    vae = build_vae(32, 4, "linear", seed_for(SEED, STAGE, "h"))
    vae.shift.copy_(mean)
    vae.scale.copy_(deviation)
    stream = torch_stream(SEED, STAGE, "represent", "represent", 1, 0)
    return {
        **found,
        "vae": plain_vae(vae, e_r, represent.epochs, stream),
    }


@pytest.mark.parametrize(("density", "distance"), [("vae", "relative"), ("gaussian", "cosine")])
def test_one_client_that_holds_everything_is_the_centralised_algorithm(density: str, distance: str) -> None:
    spec = small_spec(1, rows=300)
    weights = trained(spec)
    request = ForgetRequest.of_samples({0: sorted({*poisoned(spec), *range(60)})}, {0: 300})
    represent = REPRESENT if density == "vae" else Represent(density=density, most_rows=None)
    rule, align = TargetRule(strength=6.0, negative_weight=4.0), replace(ALIGN, distance=distance)
    method = LafAdam(
        represent=represent,
        represent_rounds=1,
        target_rule=rule,
        align=align,
        warmup_steps=0,
        align_rounds=1,
    )
    federated = run(method, spec, weights, request)

    model = model_with(spec, weights)
    x_r, x_f = rows_of(spec, 0, request)
    with torch.no_grad():
        e_r, e_f = (torch.cat([model.extractor(inputs(c)) for c in x.split(256)]) for x in (x_r, x_f))
    h = plain_density(represent, e_r)
    retain, forget = e_r.double().numpy(), e_f.double().numpy()
    errors = [plain_errors(represent, e, h) for e in (retain, forget)]
    targets, outlier = plain_targets(
        rule, (retain, forget), (errors[0], errors[1]), (h["mean"], h["deviation"])
    )
    weight, bias = (getattr(model.head, name).detach().double().numpy() for name in ("weight", "bias"))
    shift = plain_shift(rule, retain @ weight.T + bias, targets @ weight.T + bias, outlier)
    assert np.abs(shift).max() > 0.05
    moved = np.linalg.lstsq(weight, shift, rcond=None)[0]
    g_r, g_f = (torch.from_numpy(g + moved).float() for g in (retain, targets))

    adam = torch.optim.Adam(model.extractor.parameters(), lr=align.lr)
    for b_r, b_f in drawn(0, len(x_r), len(x_f), 5, "align"):
        student = model.extractor(inputs(torch.cat([x_r[b_r], x_f[b_f]])))
        target = torch.cat([g_r[b_r], g_f[b_f]])
        if distance == "cosine":
            d = 1 - (student * target).sum(1) / (student.norm(dim=1) * target.norm(dim=1))
        else:
            d = ((student - target) ** 2).sum(1) / (target**2).sum(1)
        adam.zero_grad()
        d.sum().backward()
        adam.step()
    central = {f"extractor.{k}": v.numpy() for k, v in model.extractor.state_dict().items()}
    found = {k: v for k, v in federated.items() if k.startswith("extractor.")}
    moved_by = furthest(found, {k: weights[k] for k in found})
    # Five Adam steps of 1e-3; targets found in double precision leave only rounding.
    assert moved_by > 3e-3
    assert furthest(found, central) < 2e-5
