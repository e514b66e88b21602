"""The step across the boundary: images stay images, floats have no bounds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedlaf.client.steps.teachers import across
from fedlaf.data import LabelledRows
from fedlaf.models import Classifier


def linear_model(weight: Tensor) -> Classifier:
    """Logits are `weight` [C, D] times the flattened input."""
    extractor, head = (
        nn.Sequential(nn.Flatten(), nn.Identity()),
        nn.Linear(weight.shape[1], len(weight), bias=False),
    )
    with torch.no_grad():
        head.weight.copy_(weight)
    # Gradients of a model without parameters in its extractor are those of its inputs all the same.
    return Classifier(extractor, head, weight.shape[1])


WEIGHT = torch.tensor([[2.0, -1.0, 0.5], [-1.0, 3.0, 0.25]])
"""Against label 0 the loss climbs where class 1 has the larger weight: down, up, down."""


@pytest.mark.parametrize(
    ("x", "moved"),
    [
        (torch.tensor([[1.5, -0.2, 2.0]]), torch.tensor([[1.4, -0.1, 1.9]])),
        (torch.tensor([[[0, 255, 51]]], dtype=torch.uint8), torch.tensor([[0.0, 1.0, 0.1]])),
    ],
    ids=["floats", "images"],
)
def test_rows_move_by_a_signed_step_in_the_unit_of_the_models_input(x: Tensor, moved: Tensor) -> None:
    before = x.clone()
    found = across(linear_model(WEIGHT), LabelledRows(x, torch.tensor([0])), 0.1)
    torch.testing.assert_close(found[0, 1], (moved @ WEIGHT.T)[0, 1])
    assert found[0].argmax() == 1  # the label itself is never the nearest class
    assert torch.equal(x, before)
    assert not x.requires_grad
