"""From values to what a person opens."""

from fedlaf.report.console import Watch, bars, tell, watching
from fedlaf.report.files import replace, write
from fedlaf.report.loading import load
from fedlaf.report.report import Point, Report, RequestResult
from fedlaf.report.scatter import compared

__all__ = [
    "Point",
    "Report",
    "RequestResult",
    "Watch",
    "bars",
    "compared",
    "load",
    "replace",
    "tell",
    "watching",
    "write",
]
