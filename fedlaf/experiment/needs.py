"""What a method needs, held against what there is: refused before anything runs, else given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fedlaf.client.runtime import ClientSpec, device_of
from fedlaf.core.errors import InvalidValue
from fedlaf.core.types import Weights
from fedlaf.data import as_input
from fedlaf.data.federation import build
from fedlaf.method.contract import Given, Need, Roster, Runnable
from fedlaf.method.update_history import Keep, Kept, Records
from fedlaf.models import Classifier


def check_needs(method: Runnable, roster: Roster, name: str, *, server_rows: int) -> None:
    """Raise InvalidValue when the roster's request, or what the server has, is not what a method needs."""
    request = roster.request
    if Need.LEAVER in method.needs and request.offline:
        expected = f"online for forget={name}, which needs {Need.LEAVER}"
        raise InvalidValue("request.leaver", expected, "offline")
    stay = sorted(set(request.clients) - request.withdrawn)
    if Need.WHOLE in method.needs and stay:
        expected = f"{Need.WHOLE}, all that forget={name} can serve"
        raise InvalidValue("request", expected, f"rows of clients {stay} that stay")
    if Need.SERVER_ROWS in method.needs and server_rows == 0:
        raise InvalidValue("server_rows", f"at least 1 for forget={name}, which needs {Need.SERVER_ROWS}", 0)


def kept_for(method: Runnable, record: Any) -> Keep:
    """What training keeps: what the method needs, and what `record` lists for later runs.

    Raises InvalidValue for what is neither `auto` nor a list of kinds.
    """
    if record == "auto":
        return method.keeps
    if not isinstance(record, list):
        raise InvalidValue("record", "auto, or a list", record)
    return method.keeps.joined(Keep.of(record))


def given_to(
    method: Runnable, roster: Roster, kept: Sequence[Kept], start: Callable[[], Weights], *,
    spec: ClientSpec,
) -> Given:  # fmt: skip
    """What the method's needs name, and how much the server had to keep for it."""
    needs, federation = method.needs, build(spec.federation)
    weights = start() if Need.START in needs else None
    folders = [one.folder for one in kept]
    records = Records(folders, method.keeps, roster.gone.withdrawn) if method.keeps else None
    rows = federation.on_server() if Need.SERVER_ROWS in needs else None
    device = device_of(spec)

    def fresh(seed: int) -> Classifier:
        shape, classes = federation.dataset.shape, federation.dataset.num_classes
        return spec.model.build(shape, classes, seed).to(device)

    stored = sum(array.nbytes for array in (weights or {}).values())
    stored += records.nbytes if records else 0
    stored += rows.x.nbytes if rows else 0
    return Given(weights, records, as_input(rows.x, device) if rows else None, fresh, stored)
