"""CKA of layers that work on tokens: all tokens of a row are one vector; what is never called has none."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fedlaf.evaluation.inside import grams, layers_alike
from fedlaf.models import Classifier, Transformer


def weights(model: nn.Module) -> dict[str, np.ndarray]:
    return {k: v.numpy().copy() for k, v in model.state_dict().items()}


def test_each_linear_layer_has_the_products_of_all_its_tokens() -> None:
    model = Transformer(width=8, heads=2, dims=6, depth=1).build((1, 12), 3, 0)
    x = torch.randn(260, 1, 12, generator=torch.Generator().manual_seed(0))  # more than a chunk
    found = grams(model, weights(model), x)
    assert set(found) == {
        "extractor.0.stem", "extractor.1.attention.1.queries_keys_values", "extractor.1.attention.1.mixed",
        "extractor.1.tokenwise.1", "extractor.1.tokenwise.3", "extractor.4", "head",
    }  # fmt: skip
    tokens, block = model.extractor[0], model.extractor[1]  # type: ignore[index]
    with torch.no_grad():
        inner = tokens(x)
        inner = block.attention[1].queries_keys_values(block.attention[0](inner))
        flat = inner.reshape(len(x), -1).double()
    np.testing.assert_allclose(
        found["extractor.1.attention.1.queries_keys_values"], (flat @ flat.T).numpy(), rtol=1e-4, atol=1e-4
    )
    assert layers_alike(found, found).keys() == found.keys()
    np.testing.assert_allclose(list(layers_alike(found, found).values()), 1.0)


class Twice(nn.Module):
    """One layer used twice, and torch's attention, which works around the layer it has."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.shared(self.shared(x))
        found: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1)
        return found


def test_a_layer_that_is_called_twice_has_both_outputs_and_one_never_called_has_none() -> None:
    model = Classifier(Twice(), nn.Linear(4, 2), 4)
    x = torch.randn(9, 3, 4, generator=torch.Generator().manual_seed(0))
    found = grams(model, weights(model), x)
    assert set(found) == {"extractor.shared", "head"}
    with torch.no_grad():
        once = model.extractor.shared(x)  # type: ignore[operator,union-attr]
        both = torch.cat([once, model.extractor.shared(once)], 1).flatten(1).double()  # type: ignore[operator,union-attr]
    np.testing.assert_allclose(found["extractor.shared"], (both @ both.T).numpy(), rtol=1e-4, atol=1e-5)
