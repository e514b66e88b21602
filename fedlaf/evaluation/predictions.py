"""What one model says of all rows: computed once, and all that measures need of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from fedlaf.core.types import Weights
from fedlaf.data import Rows, as_input
from fedlaf.evaluation.measures import Probabilities
from fedlaf.evaluation.splits import KINDS, LABELLED, EvaluationSplits, spaced
from fedlaf.models import Classifier

CHUNK = 250
REPRESENTED, GRAM = "represented.", "gram."
"""Prefixes of representations and of Gram matrices among a model's saved arrays."""


@dataclass(frozen=True)
class Predictions:
    """Class probabilities [N, C] of one model on each kind of rows.

    `represented` has the representations [M, D] of some rows of each kind, where asked for: those at
    the positions `spaced` of it. `grams` has Gram matrices of layers on forgotten rows, where asked for.
    """

    retain: Probabilities
    forget: Probabilities
    test: Probabilities
    triggered: Probabilities | None = None
    represented: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    grams: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def of(self, kind: str) -> Probabilities:
        """The probabilities of one of the kinds that have labels."""
        found: Probabilities = getattr(self, kind)
        return found

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """All of it as named float32 arrays, which is what networks compute in."""
        held = {kind: getattr(self, kind) for kind in KINDS}
        held |= {REPRESENTED + kind: array for kind, array in self.represented.items()}
        held |= {GRAM + layer: array for layer, array in self.grams.items()}
        return {k: a.astype(np.float32, order="C") for k, a in held.items() if a is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.float32]]) -> Predictions:
        """What `arrays` gave away."""
        kinds = {kind: arrays[kind].astype(np.float64) for kind in KINDS if kind in arrays}
        inner, grams = (
            {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            for prefix in (REPRESENTED, GRAM)
        )
        return cls(**kinds, represented=inner, grams=grams)


def digest(weights: Weights, splits: EvaluationSplits) -> str:
    """A hash of all that predictions depend on, but for the network's structure."""
    found = hashlib.sha256()
    kinds = {name: getattr(splits, name) for name in KINDS}
    rows = {name: kind.x.numpy() for name, kind in kinds.items() if kind is not None}
    for name, array in (*weights.items(), *rows.items()):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@torch.no_grad()
def predict(
    model: Classifier, weights: Weights, splits: EvaluationSplits, *, represented: int = 0
) -> Predictions:
    """Load `weights` into `model` and predict all subjects, in evaluation mode.

    Of at most `represented` rows of each kind with labels the representations are kept too.
    """
    model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    model.eval()
    kinds: dict[str, Probabilities] = {}
    inner: dict[str, npt.NDArray[np.float32]] = {}
    for kind in KINDS:
        rows = getattr(splits, kind)
        if rows is None:
            continue
        most = represented if kind in LABELLED else 0
        kinds[kind], held = _outputs(model, rows.x, spaced(len(rows), most))
        if most:
            inner[kind] = held
    retain, forget, test = (kinds[kind] for kind in LABELLED)
    return Predictions(retain, forget, test, kinds.get("triggered"), inner)


@torch.no_grad()
def represent(model: Classifier, rows: Rows) -> npt.NDArray[np.float32]:
    """Representations [N, D] of rows by the model as it is, in evaluation mode."""
    model.eval()
    return _outputs(model, rows.x, spaced(len(rows), len(rows)))[1]


@torch.no_grad()
def probabilities(model: Classifier, x: torch.Tensor) -> Probabilities:
    """Class probabilities [N, C] of rows [N, ...] by the model as it is, in evaluation mode."""
    model.eval()
    return _outputs(model, x, spaced(len(x), 0))[0]


def _outputs(
    model: Classifier, x: torch.Tensor, kept: npt.NDArray[np.int64]
) -> tuple[Probabilities, npt.NDArray[np.float32]]:
    """Probabilities of all rows, and representations of those at `kept`."""
    device = next(model.parameters()).device
    probabilities, inner = [], [torch.empty(0, model.dims)]
    for start in range(0, len(x), CHUNK):
        output = model(as_input(x[start : start + CHUNK], device))
        probabilities.append(output.logits.softmax(1))
        here = kept[(kept >= start) & (kept < start + CHUNK)] - start
        if len(here):
            inner.append(output.representation[torch.from_numpy(here)].float().cpu())
    if not probabilities:
        return np.empty((0, 1)), np.empty((0, model.dims), np.float32)
    return torch.cat(probabilities).double().cpu().numpy(), torch.cat(inner).numpy()
