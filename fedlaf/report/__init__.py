"""From values to what a person opens."""

from fedlaf.report.console import Watch, bars, tell, watching
from fedlaf.report.files import replace, write
from fedlaf.report.loading import load, result_of
from fedlaf.report.page import board_page, comparison_page
from fedlaf.report.report import Report, result_values
from fedlaf.report.results import Point, RequestResult
from fedlaf.report.scatter import compared
from fedlaf.report.view import Projection, RequestView, partition_view, request_view, shown_rows

__all__ = [
    "Point",
    "Projection",
    "Report",
    "RequestResult",
    "RequestView",
    "Watch",
    "bars",
    "board_page",
    "compared",
    "comparison_page",
    "load",
    "partition_view",
    "replace",
    "request_view",
    "result_of",
    "result_values",
    "shown_rows",
    "tell",
    "watching",
    "write",
]
