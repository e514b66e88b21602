"""From values to what a person opens."""

from fedlaf.report.console import Watch, bars, tell, watching
from fedlaf.report.files import replace, write
from fedlaf.report.loading import load
from fedlaf.report.page import board_page, comparison_page
from fedlaf.report.report import Report
from fedlaf.report.results import Point, RequestResult
from fedlaf.report.scatter import compared
from fedlaf.report.view import RequestView, partition_view, request_view, shown_rows

__all__ = [
    "Point",
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
    "shown_rows",
    "tell",
    "watching",
    "write",
]
