"""The Gaussian of representations against scikit-learn's covariance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import ShrunkCovariance
from torch import Tensor

from fedlaf.models import Gaussian
from fedlaf.objectives import laf_losses


def rows(seed: int, count: int, dims: int) -> Tensor:
    """Correlated rows about a mean of their own, dimensions of different size."""
    stream = torch.Generator().manual_seed(seed)
    mixed = torch.randn(dims, dims, generator=stream, dtype=torch.float64)
    return torch.randn(count, dims, generator=stream, dtype=torch.float64) @ mixed + 5 * mixed[0]


def fitted(e: Tensor) -> Gaussian:
    h = Gaussian(e.shape[1]).double()
    h.fit(e.mean(0), e.T @ e / len(e))
    return h


@pytest.mark.parametrize(("count", "dims"), [(200, 6), (40, 12), (5, 12), (1, 3)], ids=str)
def test_the_error_is_the_mahalanobis_distance_of_the_shrunk_covariance(count: int, dims: int) -> None:
    e = rows(0, count, dims)
    others = rows(1, 7, dims)
    found = laf_losses.reconstruction_error(fitted(e)(others), "sum").numpy()
    if count == 1:  # nothing varies: where rows differ from the one that was seen, errors are huge
        assert (found > 1e9).all()
        return
    oracle = ShrunkCovariance(shrinkage=0.1).fit(e.numpy())
    np.testing.assert_allclose(found, oracle.mahalanobis(others.numpy()), rtol=1e-6)
    mean = laf_losses.reconstruction_error(fitted(e)(others), "mean").numpy()
    np.testing.assert_allclose(mean * dims, found, rtol=1e-12)


def test_a_dimension_that_never_varies_has_scale_one() -> None:
    e = rows(2, 50, 4)
    e[:, 2] = 7
    h = fitted(e)
    assert float(h.scale[2]) == 1
    np.testing.assert_allclose(h.scale[[0, 1, 3]], e.std(0, correction=0)[[0, 1, 3]], rtol=1e-9)
    assert torch.isfinite(h.whiten).all()
    np.testing.assert_allclose(h.shift, e.mean(0), rtol=1e-12)


def test_the_score_of_the_paper_works_on_it() -> None:
    h = fitted(rows(4, 100, 6))
    retain, forget = rows(4, 100, 6), rows(4, 100, 6) + 50
    phi = [laf_losses.score(laf_losses.reconstruction_error(h(e), "mean")) for e in (retain, forget)]
    assert all(((p >= 1) & (p < np.e)).all() for p in phi)
    assert float(phi[1].min()) > float(phi[0].max())
    student = retain.clone().requires_grad_()
    laf_losses.score(laf_losses.reconstruction_error(h(student), "mean")).sum().backward()
    assert torch.isfinite(student.grad).all()  # type: ignore[arg-type]
    assert h(retain, torch.ones(100, 3)).target.equal(h(retain).target)  # there is no latent noise
    assert laf_losses.reconstruction_error(h(retain[:0]), "sum").shape == (0,)
