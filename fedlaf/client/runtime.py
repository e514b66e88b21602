"""What a process keeps of the federation that it plays: the model and the rows, built once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from flwr.app import Context

from fedlaf.client.device import resident, settle_numerics
from fedlaf.core.errors import InvalidValue, require
from fedlaf.core.types import ClientId
from fedlaf.data.federation import ClientData, FederationSpec, build
from fedlaf.models import PRECISIONS, Classifier, ModelSpec, in_precision
from fedlaf.protocol.messages import PARTITION

SHIPPED_STEPS = ("fedlaf.client.steps",)


@dataclass(frozen=True)
class ClientSpec:
    """All that a process must know to play any client of the federation.

    `steps` are the modules that register client steps, or names of what such a module defines.
    """

    federation: FederationSpec
    model: ModelSpec
    device: str = "auto"
    precision: str = "fp32"
    deterministic: bool = True
    steps: tuple[str, ...] = SHIPPED_STEPS

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda"):
            raise InvalidValue("device", "auto or cpu or cuda", self.device)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InvalidValue("device", "a CUDA device on this machine for cuda", self.device)
        require(self.precision in PRECISIONS, "precision", " or ".join(PRECISIONS), self.precision)


def device_of(spec: ClientSpec) -> torch.device:
    """The device that the specification means in this process."""
    if spec.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(spec.device)


@lru_cache(maxsize=2)
def resident_model(spec: ClientSpec) -> Classifier:
    """The process's model; handlers load weights into it before use."""
    # One thread a worker: the bits and the speed of a step must not depend on who else runs.
    torch.set_num_threads(1)
    device = device_of(spec)
    settle_numerics(device, deterministic=spec.deterministic)
    dataset = build(spec.federation).dataset
    model = spec.model.build(dataset.shape, dataset.num_classes, seed=0).to(device)
    in_precision(model.extractor, spec.precision)
    return in_precision(model, spec.precision)


def measured_model(spec: ClientSpec) -> Classifier:
    """The model that measurements are made with: in single precision, whatever clients compute in."""
    return resident_model(replace(spec, precision="fp32"))


@lru_cache(maxsize=1024)
def client_data(spec: ClientSpec, client: ClientId) -> ClientData:
    """The rows of `client`, gathered once per process, on its device where they fit."""
    rows = build(spec.federation).client(client).rows
    return ClientData(resident(rows, device_of(spec)))


def client_id(context: Context) -> ClientId:
    """The partition id of the node that handles a message."""
    return int(context.node_config[PARTITION])  # type: ignore[arg-type]
