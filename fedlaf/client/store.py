"""A client's private things, and what a worker process keeps resident between messages.

Private things (teacher representations, h_f) live in Flower's `Context.state`, which stays with
the client on every transport. What can be rebuilt from the description (dataset, model) is
kept per process instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Context
from torch import Tensor, nn

from fedlaf.client.device import resident, settle_numerics
from fedlaf.federation import ClientData, FederationSpec, build
from fedlaf.models import PRECISIONS, Classifier, ModelSpec, in_precision
from fedlaf.types import ClientId, InvalidValue, Weights, require
from fedlaf.wire import PARTITION, pack, unpack


@dataclass(frozen=True)
class ClientSpec:
    """All that a process must know to play any client of the federation."""

    federation: FederationSpec
    model: ModelSpec
    device: str = "auto"
    precision: str = "fp32"
    deterministic: bool = True

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


def load(module: nn.Module, weights: Weights) -> None:
    """Load weights by name. Raises RuntimeError when names or shapes differ."""
    module.load_state_dict(tensors(weights))


def tensors(weights: Weights) -> dict[str, Tensor]:
    """Arrays as tensors that share their memory: to be read, never written."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writ")
        return {k: torch.from_numpy(v) for k, v in weights.items()}


def weights_of(module: nn.Module) -> Weights:
    """The state dict as arrays of their own."""
    return arrays_of(module.state_dict())


def arrays_of(tensors: Mapping[str, Tensor]) -> Weights:
    """Tensors as arrays of their own."""
    return {k: v.detach().cpu().contiguous().numpy().copy() for k, v in tensors.items()}


def keep(context: Context, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Keep tensors in the client's private state."""
    context.state[name] = pack({k: v.detach().cpu().numpy().copy() for k, v in tensors.items()})


def drop(context: Context, *names: str) -> None:
    """Keep those no longer; what is not there is no fault."""
    for name in names:
        context.state.pop(name, None)


LOOKED = "looked"


def looked_at(context: Context, run: str, rows: int) -> Tensor:
    """Marks (bool [`rows`]) of the client's rows that it looked at in the stage `run`."""
    record: Any = context.state.config_records.get(LOOKED, {})
    if record.get("run") != run:
        return torch.zeros(rows, dtype=torch.bool)
    bits = np.unpackbits(np.frombuffer(record["marks"], np.uint8), count=rows)
    return torch.from_numpy(bits.astype(bool))


def keep_looked_at(context: Context, run: str, marks: Tensor) -> None:
    """Keep those marks: a bit a row."""
    context.state[LOOKED] = ConfigRecord({"run": run, "marks": np.packbits(marks.numpy()).tobytes()})


def kept(context: Context, name: str) -> dict[str, Tensor]:
    """What was kept, on the CPU, to be read only. Raises LookupError that says which phase is missing."""
    if name not in context.state.array_records:
        raise LookupError(f"this client keeps no {name}: it was never taught, or lost its state")
    return tensors(unpack(context.state.array_records[name]))
