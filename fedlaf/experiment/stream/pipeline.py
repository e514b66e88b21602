"""A run whose requests come as a stream: it listens, trains, closes windows, serves, and measures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from fedlaf.core.cost import Cost
from fedlaf.core.request import ForgetRequest
from fedlaf.core.stream import Arrival, RequestRecord, Status
from fedlaf.core.types import ClientId, Weights
from fedlaf.data.federation import Federation
from fedlaf.experiment.checkpoints import StageKind
from fedlaf.experiment.curve import Curve
from fedlaf.experiment.pipeline import Pipeline
from fedlaf.experiment.stream import machine
from fedlaf.experiment.stream.identities import joined, registry_with, remaining, rows_of, with_identities
from fedlaf.experiment.stream.moments import heard
from fedlaf.experiment.stream.quality import TestCurve, quality_rows
from fedlaf.experiment.stream.service import Stream
from fedlaf.experiment.stream.serving import Choice, Servants
from fedlaf.experiment.stream.state import Pending, StreamState
from fedlaf.experiment.stream.trace import write
from fedlaf.method.contract import ClientRegistry, Stage, StageResult
from fedlaf.protocol.enrolment import check_rows, enrol
from fedlaf.report import Report, replace as replace_file


def _unheard(record: RequestRecord) -> None:
    """Nobody is told what became of a request."""


@dataclass
class StreamPipeline(Pipeline):
    """One run over a stream in progress.

    `tell` is called once with the record of each request that is served, refused, failed or cancelled.
    `weights` are those of the published model; `state` says all else, and is in `stream/state.json` after each
    step.
    """
