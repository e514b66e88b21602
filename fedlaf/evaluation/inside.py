"""What a model still holds inside, on demand: likeness of layers, split halves, a probe, relearning."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlaf.core.seeding import numpy_stream, torch_stream
from fedlaf.core.types import Indices, Weights
from fedlaf.data import LabelledRows, as_input
from fedlaf.evaluation.measures import Probabilities, accuracy
from fedlaf.evaluation.predictions import CHUNK, represent
from fedlaf.evaluation.splits import spaced
from fedlaf.models import Classifier
from fedlaf.models.normalisation import train_mode

Matrix = npt.NDArray[np.float64]
Inner = npt.NDArray[np.float32]
Grams = Mapping[str, npt.NDArray[np.float32]]
"""A Gram matrix [M, M] of the activations of each layer, by the layer's name."""

LAYER_ROWS = 400
HALVES, HALF = 50, 100
"""Splits that SDE draws, and the rows of a half at most."""
STEPS, BATCH, RATE, CHECKED = 200, 32, 1e-3, 400
"""Relearning: steps of Adam at most, their size, their rate, and the rows on which accuracy is checked."""
LEARNED = 0.02
"""The share of rows from which a new head learns."""


@torch.no_grad()
def grams(model: Classifier, weights: Weights, x: Tensor) -> dict[str, npt.NDArray[np.float32]]:
    """The Gram matrix of each convolution's and linear layer's output on at most 400 of the rows.

    All that a layer gives for a row, of all its tokens and calls, is one vector. A layer that is never called
    with rows first (as in torch's own attention) has none.
    """
    load(model, weights).eval()
    few = x[torch.from_numpy(spaced(len(x), LAYER_ROWS))]
    found: dict[str, npt.NDArray[np.float32]] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            # One layer at a time: the activations of all together may not fit into memory.
            outputs = [_outputs(model, layer, chunk) for chunk in few.split(CHUNK)]
            flat = torch.cat(outputs).double()
            if flat.shape[1]:
                found[name] = (flat @ flat.T).float().cpu().numpy()
    return found


def _outputs(model: Classifier, layer: nn.Module, x: Tensor) -> Tensor:
    """What `layer` gives while the model predicts rows [M, ...], flattened: [M, features]."""
    outputs: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    model(as_input(x, next(model.parameters()).device))
    hook.remove()
    rows = [out.reshape(len(x), -1) for out in outputs if len(out) % len(x) == 0]
    return torch.cat(rows, 1) if rows else torch.empty(len(x), 0)


def layers_alike(one: Grams, other: Grams) -> dict[str, float]:
    """CKA of each layer of which both have a Gram matrix."""
    return {n: cka(gram, other[n]) for n, gram in one.items() if n in other and gram.ndim == 2}


def cka(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Linear CKA of two Gram matrices [M, M], 1 for the same but for rotation and scale; NaN below 4 rows.

    With the unbiased HSIC, so that many features and few rows do not look alike by chance
    (Kornblith et al., ICML 2019; Nguyen et al., ICLR 2021, eq. 3).
    """
    if len(one) < 4:
        return float("nan")
    whole = unbiased_hsic(one, one) * unbiased_hsic(other, other)
    return unbiased_hsic(one, other) / float(np.sqrt(whole)) if whole > 0 else float("nan")


def unbiased_hsic(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """The unbiased estimate of HSIC from kernel matrices [M, M], M >= 4 (Song et al., JMLR 2012, eq. 5)."""
    rows = len(one)
    left, right = one.astype(np.float64), other.astype(np.float64)
    np.fill_diagonal(left, 0.0)
    np.fill_diagonal(right, 0.0)
    trace = float((left * right.T).sum())
    sums = float(left.sum() * right.sum()) / ((rows - 1) * (rows - 2))
    crossed = 2.0 * float(left.sum(0) @ right.sum(1)) / (rows - 2)
    return (trace + sums - crossed) / (rows * (rows - 3))


def hsic(one: Matrix, other: Matrix) -> float:
    """HSIC of paired rows [M, D] with Gaussian kernels of width sqrt(D), 0 for independent ones.

    trace(K H L H) / (M - 1)^2 (Gretton et al., ALT 2005); NaN below two rows.
    """
    rows = len(one)
    if rows < 2:
        return float("nan")
    left, right = _gaussian(one), _gaussian(other)
    centred = left - left.mean(0) - left.mean(1, keepdims=True) + left.mean()
    return float((centred * right.T).sum()) / (rows - 1) ** 2


def _gaussian(x: Matrix) -> Matrix:
    from scipy.spatial.distance import cdist

    return np.asarray(np.exp(-cdist(x, x, "sqeuclidean") / (2.0 * x.shape[1])))


def split_halves(represented: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, float]:
    """SDE: mean HSIC of random halves of the forgotten rows' representations (times 10,000), and the
    percentage of splits whose HSIC is nearer to that of test rows than to that of remaining ones.

    Zhang et al., ICLR 2026. {} when a kind has fewer than four rows.
    """
    half = min(HALF, *(len(rows) // 2 for rows in represented.values()))
    if half < 2:
        return {}
    found: dict[str, Matrix] = {}
    for kind, rows in represented.items():
        stream = numpy_stream(0, "split halves", kind)
        drawn = [stream.permutation(len(rows))[: 2 * half] for _ in range(HALVES)]
        parts = [rows[at].astype(np.float64) for at in drawn]
        found[kind] = np.array([hsic(part[:half], part[half:]) for part in parts])
    forget, retain = (np.abs(found["forget"] - found[k].mean()) for k in ("retain", "test"))
    return {"sde": 1e4 * float(found["forget"].mean()), "sde_out": 100.0 * float((retain < forget).mean())}


def probed(
    represented: Inner, labels: Indices, *,
    others: Inner | None = None, other_labels: Indices | None = None,
) -> float:  # fmt: skip
    """Accuracy in percent of a linear classifier on frozen representations [M, D] of forgotten rows.

    Fitted on every second row, scored on the others. Where these rows have one class, as of a removed
    class, it is fitted together with `others`, remaining rows. NaN where the fitted rows have less than two
    classes.
    """
    fitted, known = represented[::2], labels[::2]
    if others is not None and other_labels is not None and len(np.unique(labels)) == 1:
        fitted, known = np.concatenate([fitted, others]), np.concatenate([known, other_labels])
    if len(labels) < 4 or len(np.unique(known)) < 2:
        return float("nan")
    return _fitted(fitted, known, represented[1::2], labels[1::2])


def head_relearned(model: Classifier, weights: Weights, rows: Mapping[str, LabelledRows]) -> float:
    """Accuracy in percent on forgotten rows once a new head has learned from 2 % of the `forget` and of the
    `retain` rows, on frozen representations; scored on at most 400 other forgotten rows.

    After the relearning of heads beside the information difference index (AAAI 2026). NaN where the few rows
    have less than two classes, or no forgotten row is left to score.
    """
    few = {kind: spaced(len(held), ceil(LEARNED * len(held))) for kind, held in rows.items()}
    others = np.setdiff1d(np.arange(len(rows["forget"])), few["forget"])
    scored = rows["forget"].at(torch.from_numpy(others[spaced(len(others), CHECKED)]))
    learned = [rows[kind].at(torch.from_numpy(at)) for kind, at in few.items()]
    known = np.concatenate([held.y.numpy() for held in learned])
    if not len(scored) or len(np.unique(known)) < 2:
        return float("nan")
    load(model, weights)
    fitted = np.concatenate([represent(model, held.unlabelled()) for held in learned])
    return _fitted(fitted, known, represent(model, scored.unlabelled()), scored.y.numpy())


def _fitted(x: Inner, y: Indices, scored: Inner, labels: Indices) -> float:
    """Accuracy in percent of a logistic regression of standardised columns."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    probe.fit(x, y)
    return 100.0 * float(probe.score(scored, labels))


def relearned(model: Classifier, weights: Weights, rows: LabelledRows, target: float) -> float:
    """Steps of training on the forgotten rows until their accuracy is `target` percent; 200 at most.

    As the steps behind the anamnesis index of Chundawat et al. (IEEE TIFS 2023).
    """
    load(model, weights)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    checked = rows.at(torch.from_numpy(spaced(len(rows), CHECKED)))
    stream = torch_stream(0, "relearning")
    for step in range(STEPS):
        if right(model, checked) >= target:
            return float(step)
        batch = rows.at(torch.randint(len(rows), (BATCH,), generator=stream))
        train_mode(model, BATCH)
        device = next(model.parameters()).device
        loss = functional.cross_entropy(model(as_input(batch.x, device)).logits, batch.y.to(device))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return float(STEPS)


def goal_of(probabilities: Probabilities, rows: LabelledRows) -> float:
    """The accuracy to come back to: the original's, on the rows that `relearned` checks."""
    at = spaced(len(rows), CHECKED)
    return accuracy(probabilities[at], rows.y.numpy()[at])


@torch.no_grad()
def right(model: Classifier, rows: LabelledRows) -> float:
    """Accuracy of the model as it is, in percent."""
    model.eval()
    device = next(model.parameters()).device
    hits = sum(
        int((model(as_input(x, device)).logits.argmax(1).cpu() == y).sum())
        for x, y in zip(rows.x.split(CHUNK), rows.y.split(CHUNK), strict=True)
    )
    return 100.0 * hits / max(len(rows), 1)


def load(model: Classifier, weights: Weights) -> Classifier:
    """The model with copies of these weights."""
    model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    return model
