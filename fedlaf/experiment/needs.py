"""What a method needs, checked against what there is before anything runs, and handed over at the request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fedlaf.client.runtime import ClientSpec, device_of
from fedlaf.core.errors import InvalidValue
from fedlaf.core.types import Weights
from fedlaf.data import as_input
from fedlaf.data.federation import build
from fedlaf.method.contract import ClientRegistry, Method, MethodInputs, Need
from fedlaf.method.update_history import HistoryHandle, HistorySpec, UpdateHistory
from fedlaf.models import Classifier
from fedlaf.models.last_layer import last_linear


def check_model(method: Method, model: Classifier, name: str) -> None:
    """Raise InvalidValue when the model is not of the form that a method needs."""
    if Need.LINEAR in method.needs and last_linear(model.extractor) is None:
        expected = f"{Need.LINEAR}, which forget={name} solves for; forget=laf_adam takes any"
        raise InvalidValue("model", expected, type(model.extractor).__name__)


def check_needs(method: Method, registry: ClientRegistry, name: str, *, server_rows: int) -> None:
    """Raise InvalidValue when the request, or what the server has, does not meet a method's needs."""
    request = registry.request
    if Need.ONLINE in method.needs and request.offline:
        expected = f"online for forget={name}, which needs {Need.ONLINE}"
        raise InvalidValue("request.availability", expected, "offline")
    stay = sorted(set(request.clients) - request.withdrawn)
    if Need.WHOLE in method.needs and stay:
        expected = f"{Need.WHOLE}, all that forget={name} can serve"
        raise InvalidValue("request", expected, f"rows of clients {stay} that stay")
    if Need.SERVER_ROWS in method.needs and server_rows == 0:
        raise InvalidValue("server_rows", f"at least 1 for forget={name}, which needs {Need.SERVER_ROWS}", 0)


def history_spec_for(method: Method, history: Any) -> HistorySpec:
    """What training keeps: what the method needs, and what the key `history` lists for later runs.

    Raises InvalidValue for what is neither `auto` nor a list of kinds.
    """
    if history == "auto":
        return method.history_spec
    if not isinstance(history, list):
        raise InvalidValue("history", "auto, or a list", history)
    return method.history_spec.joined(HistorySpec.of(history))


def inputs_for(
    method: Method, registry: ClientRegistry, handles: Sequence[HistoryHandle], start: Callable[[], Weights],
    *, spec: ClientSpec,
) -> MethodInputs:  # fmt: skip
    """What the method's needs name, and how many bytes the server had to keep for it."""
    needs, wanted, federation = method.needs, method.history_spec, build(spec.federation)
    weights = start() if Need.START in needs else None
    folders = [handle.folder for handle in handles]
    history = UpdateHistory(folders, wanted, registry.removed.withdrawn) if wanted else None
    rows = federation.on_server() if Need.SERVER_ROWS in needs else None
    device = device_of(spec)

    def fresh(seed: int) -> Classifier:
        shape, classes = federation.dataset.shape, federation.dataset.num_classes
        return spec.model.build(shape, classes, seed).to(device)

    stored = sum(array.nbytes for array in (weights or {}).values())
    stored += history.nbytes if history else 0
    stored += rows.x.nbytes if rows else 0
    return MethodInputs(weights, history, as_input(rows.x, device) if rows else None, fresh, stored)
