"""Three kinds of arrays: only trainable weights enter norms and projections."""

from __future__ import annotations

import numpy as np
import pytest

from fedlaf.core.weights import in_dtype, norm, trainable
from fedlaf.models.normalisation import train_mode
from fedlaf.strategies.base.aggregate import remove_reverting_component, weighted_mean
from fedlaf.strategies.base.history import with_trainable
from fedlaf.strategies.federaser import calibrated
from fedlaf.strategies.pgd import without


def model(weight: float, mean: float, variance: float, count: int) -> dict[str, np.ndarray]:
    """A layer of one weight with BatchNorm behind it."""
    return {
        "conv.weight": np.array([weight], np.float32),
        "bn.running_mean": np.array([mean], np.float32),
        "bn.running_var": np.array([variance], np.float32),
        "bn.num_batches_tracked": np.array(count, np.int64),
    }


def test_only_trainable_weights_enter_a_norm() -> None:
    assert norm(model(0.55, 3.0, 4.0, 63)) == pytest.approx(0.55)
    assert list(trainable(model(1, 2, 3, 4))) == ["conv.weight"]


def test_means_of_counts_are_rounded_not_cut() -> None:
    many = [model(1, 0, 1, 7), model(1, 0, 1, 7), model(1, 0, 1, 7)]
    assert weighted_mean(many, [0.1, 0.2, 0.7])["bn.num_batches_tracked"] == 7
    assert in_dtype(np.array(6.9999), np.dtype(np.int64)) == 7


def test_counts_do_not_hide_that_an_update_leads_back() -> None:
    """The weight moves back by half of the way from the origin; batches counted go far ahead."""
    origin, now = model(0, 0, 1, 0), model(1, 0, 1, 100)
    proposed = model(0.5, 0.2, 0.9, 200)
    kept = remove_reverting_component(now, proposed, now, origin)
    assert kept["conv.weight"] == pytest.approx(1.0)
    assert kept["bn.num_batches_tracked"] == 200
    assert kept["bn.running_var"] == pytest.approx(0.9)


def test_extrapolated_models_keep_the_statistics_of_the_trained_one() -> None:
    trained, withdrawn = model(1, 0.5, 0.4, 10), model(3, 2.0, 4.0, 10)
    left = without(trained, [(0.5, withdrawn)])
    assert left["conv.weight"] == pytest.approx(-1.0)
    assert left["bn.running_var"] == trained["bn.running_var"]
    erased = with_trainable(trained, model(9, 0, -7, 3))
    assert erased["conv.weight"] == 9
    assert erased["bn.running_var"] == trained["bn.running_var"]
    assert erased["bn.num_batches_tracked"] == 10


def test_calibration_scales_trainable_updates_only() -> None:
    stored, update = model(4, 9, 9, 9), model(2, 0.1, 0.2, 5)
    found = calibrated(stored, {k: v.astype(np.float64) for k, v in update.items()})
    assert found["conv.weight"] == pytest.approx(4)
    assert (found["bn.running_var"], found["bn.num_batches_tracked"]) == (np.float32(0.2), 5)


def test_a_batch_of_one_row_trains() -> None:
    import torch

    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    for rows in (4, 1):
        train_mode(network, rows)
        network(torch.randn(rows, 3)).sum().backward()
    assert network.training
    assert not network[1].training
    assert int(network[1].num_batches_tracked) == 1
