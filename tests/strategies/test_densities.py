"""What the methods with densities put together: moments of clients, and the extractor's part of a model."""

from __future__ import annotations

import numpy as np
import torch
from support.federations import same_bits

from fedlaf.client.steps import representations
from fedlaf.models import ResNet18
from fedlaf.models.arrays import weights_of
from fedlaf.strategies.base.aggregate import weighted_mean
from fedlaf.strategies.base.densities import extractor_of, with_extractor


def test_the_clients_moments_by_rows_are_those_of_all_rows() -> None:
    whole = torch.randn(60, 5, generator=torch.Generator().manual_seed(3)) + 5
    parts = [whole[:7], whole[7:7], whole[7:40], whole[40:]]
    moments = [representations.moments(part, full=True) for part in parts]
    assert {k: v.shape for k, v in moments[0].items()} == {"mean": (5,), "second_moment": (5, 5)}
    joined = weighted_mean(moments, [len(part) for part in parts])
    pooled = representations.moments(whole, full=True)
    for name, array in joined.items():
        np.testing.assert_allclose(array, pooled[name], rtol=1e-12, atol=1e-12)


def test_the_extractors_arrays_are_cut_out_and_put_back_by_name() -> None:
    model = ResNet18(8, "imagenet", 40).build((3, 8, 8), 4, 0)
    weights = weights_of(model)
    cut = extractor_of(weights)
    assert list(cut) == list(model.extractor.state_dict())
    moved = {k: np.asarray(v + 1) for k, v in cut.items()}
    back = with_extractor(weights, moved)
    assert list(back) == list(weights)
    assert all(back[k] is weights[k] for k in back if k.startswith("head."))
    model.load_state_dict({k: torch.from_numpy(v) for k, v in back.items()})
    assert same_bits(weights_of(model.extractor), moved)
