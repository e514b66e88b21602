"""The ladder of exactness: federated LAF against a plain centralised LAF, the obvious loop.

Rung 1: one client that holds all of D: equal bit for bit. Rung 2: any split over clients with the
optimiser on the server: equal to float tolerance.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.federations import enrolled, furthest, same_bits, small_spec
from support.plain_laf import (
    BATCH,
    SEED,
    STAGE,
    drawn,
    inputs,
    model_with,
    plain_step,
    plain_vae,
    plain_weights,
    rows_of,
    trained,
)

from fedlaf.client import ClientSpec
from fedlaf.core.request import ForgetRequest
from fedlaf.core.seeding import seed_for, torch_stream
from fedlaf.core.types import Weights
from fedlaf.method.contract import Stage
from fedlaf.models import build_vae
from fedlaf.objectives.laf import Forget, Represent
from fedlaf.strategies.base.rounds import Rounds
from fedlaf.strategies.laf_published import PublishedLaf
from fedlaf.strategies.laf_published_server import PublishedLafServer

REPRESENT = Represent(latent=4, rows="all", epochs=1, own_epochs=2, lr=1e-3, share_h_f=True)
FORGET = Forget(lr_unlearning=2e-3, lr_alignment=2.5e-3, temperature=0.7, batch_size=BATCH)


def run_to(method: PublishedLaf, spec: ClientSpec, weights: Weights, request: ForgetRequest) -> Rounds:
    grid, registry = enrolled(spec)
    rounds = Rounds(method, weights, Stage(STAGE, SEED, replace(registry, request=request)))
    rounds.run(grid)
    return rounds


@pytest.mark.parametrize("weighting", ["none", "oddness"])
@pytest.mark.parametrize("rows", ["all", "retain"])
def test_one_client_that_holds_everything_is_the_centralised_algorithm_bit_for_bit(
    weighting: str, rows: str
) -> None:
    """The published form has `none` and `all`, our default the others."""
    spec = small_spec(1, rows=300)
    weights = trained(spec)
    request = ForgetRequest.of_samples({0: range(20, 110)}, {0: 300})
    method = PublishedLaf(
        represent=replace(REPRESENT, rows=rows, share_h_f=False), represent_rounds=1,
        forget=replace(FORGET, weighting=weighting), forget_steps=5, forget_rounds=1,
        recover_rounds=0, closing_rounds=0,
    )  # fmt: skip
    federated = run_to(method, spec, weights, request).state.weights

    extractor = model_with(spec, weights).extractor
    x_r, x_f = rows_of(spec, 0, request)
    with torch.no_grad():
        e_r, e_f = (torch.cat([extractor(inputs(c)) for c in x.split(256)]) for x in (x_r, x_f))
    e = torch.cat([e_r, e_f]) if rows == "all" else e_r
    h, h_f = (build_vae(32, 4, "linear", seed_for(SEED, STAGE, name)) for name in ("h", "h_f"))
    wide = e.double()
    mean, square = wide.mean(0), wide.square().mean(0)
    for vae in (h, h_f):
        vae.shift.copy_(mean)
        vae.scale.copy_((square - mean**2).sqrt())
    plain_vae(h, e, 1, torch_stream(SEED, STAGE, "represent", "represent", 1, 0))
    plain_vae(h_f, e_f, 2, torch_stream(SEED, STAGE, "represent own", "own_vae", 0))
    adams = {
        "unlearning": torch.optim.Adam(extractor.parameters(), lr=FORGET.lr_unlearning, fused=True),
        "alignment": torch.optim.Adam(extractor.parameters(), lr=FORGET.lr_alignment, fused=True),
    }
    w = plain_weights(weighting, h, e_f)
    for b_r, b_f in drawn(0, len(x_r), len(x_f), 5):
        for name, adam in adams.items():
            batch = (x_r[b_r], x_f[b_f], e_r[b_r], e_f[b_f], w[b_f])
            plain_step(extractor, name, *batch, h, h_f, adam, FORGET.temperature)
    central = {f"extractor.{k}": v.numpy() for k, v in extractor.state_dict().items()}
    found = {k: v for k, v in federated.items() if k.startswith("extractor.")}
    assert furthest(found, {k: weights[k] for k in found}) > 1e-3  # it moved at all
    assert same_bits(found, central)


SPLITS = {
    "one client leaves": {0: range(100)},
    "spread over two, one of them whole": {0: range(100), 2: range(10, 70)},
    "spread over all": {k: range(5 * k, 5 * k + 30) for k in range(4)},
}


@pytest.mark.parametrize("weighting", ["none", "oddness"])
@pytest.mark.parametrize("rows", SPLITS.values(), ids=SPLITS.keys())
def test_any_split_with_the_optimiser_on_the_server_is_the_centralised_algorithm(
    rows: dict[int, range], weighting: str
) -> None:
    spec = small_spec(4, rows=400)
    weights = trained(spec)
    request = ForgetRequest.of_samples(rows, dict.fromkeys(range(4), 100))
    method = PublishedLafServer(
        represent=REPRESENT, represent_rounds=2, forget=replace(FORGET, weighting=weighting),
        forget_steps=5, forget_rounds=1, recover_rounds=0, closing_rounds=0,
    )  # fmt: skip
    rounds = run_to(method, spec, weights, request)

    extractor = model_with(spec, weights).extractor
    h, h_f = (build_vae(32, 4, "linear", 0).requires_grad_(False) for _ in range(2))
    for vae, name in ((h, "h"), (h_f, "h_f")):
        vae.load_state_dict({k: torch.from_numpy(v) for k, v in rounds.state.aux[name].items()})
    adams = {
        "unlearning": torch.optim.Adam(extractor.parameters(), lr=FORGET.lr_unlearning),
        "alignment": torch.optim.Adam(extractor.parameters(), lr=FORGET.lr_alignment),
    }
    sides = [rows_of(spec, k, request) for k in range(4)]
    with torch.no_grad():
        teacher = [tuple(extractor(inputs(x)) if len(x) else torch.empty(0, 32) for x in s) for s in sides]
    weighed = [plain_weights(weighting, h, e_f) for _, e_f in teacher]
    draws = [drawn(k, len(sides[k][0]), len(sides[k][1]), 5) for k in range(4)]
    for step in range(5):
        batches = [draws[k][step] for k in range(4)]
        x_r, x_f = (torch.cat([sides[k][i][batches[k][i]] for k in range(4)]) for i in (0, 1))
        e_r, e_f = (torch.cat([teacher[k][i][batches[k][i]] for k in range(4)]) for i in (0, 1))
        w_f = torch.cat([weighed[k][batches[k][1]] for k in range(4)])
        for name, adam in adams.items():
            plain_step(extractor, name, x_r, x_f, e_r, e_f, w_f, h, h_f, adam, FORGET.temperature)
    central = {f"extractor.{k}": v.numpy() for k, v in extractor.state_dict().items()}
    found = {k: v for k, v in rounds.state.weights.items() if k.startswith("extractor.")}
    moved = furthest(found, {k: weights[k] for k in found})
    # Ten Adam steps of 2e-3 and 2.5e-3; sums taken in another order leave only rounding.
    assert moved > 5e-3
    assert furthest(found, central) < 2e-5 < moved / 100


def test_local_steps_are_an_approximation_whose_gap_shrinks_with_the_rate() -> None:
    """Rung 3: with several local steps the federated result leaves the centralised one, by a gap
    that goes to nothing with the step size."""
    spec = small_spec(4, rows=400)
    weights = trained(spec)
    request = ForgetRequest.of_samples(SPLITS["spread over all"], dict.fromkeys(range(4), 100))

    def gap(rate: float) -> float:
        forget = replace(FORGET, lr_unlearning=0, lr_alignment=rate, steps=4)
        shared = {
            "represent": REPRESENT,
            "forget": forget,
            "forget_steps": 4,
            "forget_rounds": 1,
            "recover_rounds": 0,
            "closing_rounds": 0,
            "represent_rounds": 1,
        }
        local = run_to(PublishedLaf(**shared), spec, weights, request).state.weights
        server = run_to(PublishedLafServer(**shared), spec, weights, request).state.weights
        return furthest(local, server)

    wide, narrow = gap(1e-3), gap(1e-4)
    assert 0 < narrow < wide / 5


def test_the_head_stays_bit_for_bit_and_so_do_batch_norm_statistics() -> None:
    spec = small_spec()
    weights = trained(spec)
    request = ForgetRequest.of_clients([0], {0: 100})
    method = PublishedLaf(represent=REPRESENT, forget_rounds=2, closing_rounds=2)
    after = run_to(method, spec, weights, request).state.weights
    head = [k for k in weights if k.startswith("head.")]
    assert head
    assert all(np.array_equal(after[k], weights[k]) for k in head)
    assert all(not np.array_equal(after[k], weights[k]) for k in weights if k not in head)
