"""Datasets, partitions and corruption: what the clients of a federation hold."""

from fedlaf.data.corruption import Backdoor, Backdoors, Trigger, WrongLabels
from fedlaf.data.dataset import Dataset, LabelledRows, Rows, as_input, is_image, moved
from fedlaf.data.partition import Dirichlet, Iid, Natural, Overlap, Partition, QuantitySkew, Shards
from fedlaf.data.request_specs import (
    EachClient,
    RemoveClasses,
    RemoveSamples,
    RemoveWrongLabels,
    WithdrawClients,
)
from fedlaf.data.row_access import RowAccessLog
from fedlaf.data.sources import Digits, FashionSample, Noise, Source, Torchvision, load_once

__all__ = [
    "Backdoor",
    "Backdoors",
    "Dataset",
    "Digits",
    "Dirichlet",
    "EachClient",
    "FashionSample",
    "Iid",
    "LabelledRows",
    "Natural",
    "Noise",
    "Overlap",
    "Partition",
    "QuantitySkew",
    "RemoveClasses",
    "RemoveSamples",
    "RemoveWrongLabels",
    "RowAccessLog",
    "Rows",
    "Shards",
    "Source",
    "Torchvision",
    "Trigger",
    "WithdrawClients",
    "WrongLabels",
    "as_input",
    "is_image",
    "load_once",
    "moved",
]
